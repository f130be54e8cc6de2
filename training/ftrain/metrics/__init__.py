"""Metrics: numpy functions that define each number, and torchmetrics classes that gather it over a set."""
