"""The joined task."""
