"""Image files: existence, integrity and header."""
