"""Loops written by hand in plain PyTorch, to compare with: nothing of Ganglion is in them."""
