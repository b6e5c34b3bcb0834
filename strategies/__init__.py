"""Learning strategies, with the objectives, penalties, metrics and named jobs that go with them; all are scanned."""
