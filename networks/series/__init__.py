"""Networks for sequences: samples of shape (steps, features)."""
