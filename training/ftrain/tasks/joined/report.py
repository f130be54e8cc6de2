"""Report of a joined run: that of its first run, a retrieval run."""

from pathlib import Path
from typing import Any

from ftrain.data.types import EvaluatedSplit
from ftrain.tasks.joined.task import Joined
from ftrain.tasks.retrieval import report as report_of_retrieval

summary = report_of_retrieval.summary


def report(task: Joined, evaluated: EvaluatedSplit, out: Path) -> dict[str, Any]:
    """See the retrieval task; the baseline is the backbone of the first run."""
    return report_of_retrieval.report(task.lead, evaluated, out)
