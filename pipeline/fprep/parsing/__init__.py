"""Parsers that readers share, or that would make a reader too long."""
