"""What people read about a model: metrics beside their baselines, plots, contact sheets, and predictions in words and images."""
