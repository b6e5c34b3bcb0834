"""What the report and the dashboard share: a run's trace as curves, safe markup, one stylesheet, one charts script."""
