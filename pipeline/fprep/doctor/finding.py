"""What the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Severity = Literal["problem", "warning", "note", "good"]
ORDER: tuple[Severity, ...] = ("problem", "warning", "note", "good")


@dataclass(frozen=True)
class Finding:
    """One thing about one file or folder; `code` is a fixed word for programs.

    A "problem" prevents a conversion, with a "warning" it will lack something or be wrong, a "note" is good to know.
    """

    severity: Severity
    code: str
    path: Path
    message: str


def more_than(paths: list[Path]) -> str:
    """`, and 3 more` for what a finding about the first path leaves unsaid."""
    return f", and {len(paths) - 1} more" if len(paths) > 1 else ""


@dataclass
class Diagnosis:
    """A data set at `home`: the reader ("" without one), the variant, `command` to convert it ("" where that cannot
    work), and what there is to say of its files.

    The command reads `raw` (`home` where there is nothing) and has these `options`.
    """

    reader: str
    variant: str
    home: Path
    command: str = ""
    raw: list[Path] = field(default_factory=list[Path])
    options: list[str] = field(default_factory=list[str])
    findings: list[Finding] = field(default_factory=list[Finding])
