"""Report of a joined run: that of its first run, a retrieval run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrain.data.types import EvaluatedSplit
from ftrain.tasks.retrieval import report as report_of_retrieval

if TYPE_CHECKING:
    from ftrain.tasks.joined.task import Joined

summary = report_of_retrieval.summary


def report(task: Joined, evaluated: EvaluatedSplit, out: Path) -> dict[str, Any]:
    """See the retrieval task; the baseline is the backbone of the first run."""
    return report_of_retrieval.report(task.lead, evaluated, out)
