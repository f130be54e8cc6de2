"""What people read of a model: figures beside their baselines, plots, sheets, and answers in words and images."""
