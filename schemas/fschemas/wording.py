"""Formatting of numbers in messages."""


def count(number: int, name: str = "", plural: str = "") -> str:
    """Format a count: `1,234 images`, `1 image`, or only the number."""
    return f"{number:,} {name if number == 1 else plural or name + 's'}" if name else f"{number:,}"


def are(number: int) -> str:
    """Verb that follows a count: `is` for one, else `are`."""
    return "is" if number == 1 else "are"


def gigabytes(size: float) -> str:
    """Format a number of bytes."""
    return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e6:.1f} MB"
