"""Validation metrics of the retrieval task."""

from typing import Any

import numpy as np

from fschemas.failures import UsageError
from ftrain.data.search_roles import GALLERY, QUERY
from ftrain.data.types import Results
from ftrain.metrics.retrieval import evaluate_retrieval
from ftrain.tasks.retrieval.task import Retrieval


def compute_metrics(task: Retrieval, results: Results) -> dict[str, Any]:
    """Compute hit@k, recall@k and mAP: query against gallery if there are roles, else leave-one-out."""
    query, gallery = results["role"] != GALLERY, results["role"] != QUERY
    metrics = evaluate_retrieval(
        results["embedding"][query], results["embedding"][gallery], results["identity"][query], results["identity"][gallery],
        query_rows=results["row"][query], gallery_rows=results["row"][gallery],
    ).summary()  # fmt: skip
    if not np.isfinite(metrics["map"]):
        raise UsageError(
            f"every {task.config.identity} has only one validation image, so no query has a match; increase hold_out, or choose "
            "a set with another validation split"
        )
    return metrics
