"""Plots and reports: metrics next to their baselines, charts, contact sheets, and overlays of predictions."""
