"""Searches for settings: `ganglion sweep`."""
