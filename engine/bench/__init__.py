"""What the engine costs on this machine, against loops written by hand: `ganglion bench`."""
