"""Networks: layered YAML definitions and Python factories; scanned for plugins."""
