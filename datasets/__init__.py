"""Data sets: read, downloaded when asked, or made; scanned for plugins."""
