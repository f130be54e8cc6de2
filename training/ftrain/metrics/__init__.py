"""Metrics: functions that define each number, on arrays of a whole set."""
