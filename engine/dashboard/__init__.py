"""The live page: a server that reads run directories, and the page that it serves; started by `ganglion dashboard`."""
