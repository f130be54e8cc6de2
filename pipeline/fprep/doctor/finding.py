"""Results of `fprep doctor`: findings and diagnoses."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Severity = Literal["problem", "warning", "note", "good"]
ORDER: tuple[Severity, ...] = ("problem", "warning", "note", "good")


@dataclass(frozen=True)
class Finding:
    """A finding about one file or folder. `code` is a stable identifier for programs.

    A "problem" prevents the conversion. A "warning" means that its result will be incomplete or wrong. A "note" is
    information.
    """

    severity: Severity
    code: str
    path: Path
    message: str


def more_than(paths: list[Path]) -> str:
    """Return `, and 3 more` if a finding is about more paths than the first, else ""."""
    return f", and {len(paths) - 1} more" if len(paths) > 1 else ""


@dataclass
class Diagnosis:
    """A data set at `home`: its reader, variant, convert command and findings.

    `command` is "" if the conversion cannot work. It reads `raw` (by default `home`) with these `options`.
    """

    reader: str
    variant: str
    home: Path
    command: str = ""
    raw: list[Path] = field(default_factory=list[Path])
    options: list[str] = field(default_factory=list[str])
    findings: list[Finding] = field(default_factory=list[Finding])
