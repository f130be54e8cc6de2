"""The fashionnet task."""
