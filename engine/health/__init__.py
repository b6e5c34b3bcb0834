"""The health of a run: figures read at trace points, and alarms in words."""
