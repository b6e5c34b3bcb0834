"""Metrics for time series: windows of shape (steps, features)."""
