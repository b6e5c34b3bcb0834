"""Learning strategies, with the objectives, penalties, metrics and named jobs that go with them; scanned for plugins."""
