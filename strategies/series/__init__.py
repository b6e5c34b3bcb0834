"""Strategies for time series."""
