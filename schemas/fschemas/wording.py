"""Numbers as people read them in messages."""

from __future__ import annotations


def count(number: int, name: str = "", plural: str = "") -> str:
    """`1,234 images`, `1 image`, or the bare number."""
    return f"{number:,} {name if number == 1 else plural or name + 's'}" if name else f"{number:,}"


def are(number: int) -> str:
    """The verb that follows such a count: `is` for one, else `are`."""
    return "is" if number == 1 else "are"
