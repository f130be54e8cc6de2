"""Metrics: functions on the arrays of a whole split."""
