"""Time series: made ones whose distribution is known, and windows of series read from files."""
