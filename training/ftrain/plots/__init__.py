"""What people read of a model: figures beside their floors, plots, sheets, and answers in words and images."""
