"""Shared parts of evaluation reports: metrics, tables and plots of labels and of landmarks."""
