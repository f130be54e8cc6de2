"""Image files: whether they are there and whole, and what their headers say."""
