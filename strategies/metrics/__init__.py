"""Metrics: how finished runs are judged."""
