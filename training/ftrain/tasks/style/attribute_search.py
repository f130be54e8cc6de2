"""Attribute retrieval as evaluated in the ASEN papers, its chance baseline, and nearest neighbors."""

import math

import numpy as np
from numpy.typing import NDArray

from ftrain.data.search_roles import GALLERY, QUERY
from ftrain.data.types import Results
from ftrain.metrics.retrieval import Entries, attribute_map, random_precision
from ftrain.tasks.style.labels import StyleLabels

IntArray = NDArray[np.int64]


def entries(labels: StyleLabels, results: Results) -> Entries:
    """Return the known values of all images of a split."""
    if labels.classes is not None:
        images = np.flatnonzero(results["values"][:, 0] >= 0)
        columns = [(images, np.zeros_like(images), results["values"][images, 0].astype(np.int64))]
    else:
        columns = []
        for number, ids in enumerate(labels.ids):
            found, positions = np.nonzero(results["positive"][:, list(ids)])
            columns.append((found, np.full_like(found, number), positions))
    images, attributes, values = (np.concatenate(part).astype(np.int64) for part in zip(*columns, strict=True))
    roles = results["role"][images]
    return Entries(images, attributes, values, roles != GALLERY, roles != QUERY)


def search_metrics(labels: StyleLabels, results: Results, chosen: Entries | None = None) -> dict[str, float]:
    """Compute `metrics.retrieval.attribute_map` of the embeddings, without undefined values."""
    found = chosen or entries(labels, results)
    metrics = attribute_map(results["embedding"][found.images, found.attributes], found, labels.attributes)
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def chance_metrics(labels: StyleLabels, found: Entries) -> dict[str, float]:
    """Return the expected mAP of a random ranking, per attribute and over all queries."""
    expected, metrics = np.zeros(len(found.images)), dict[str, float]()
    for number in np.unique(found.attributes[found.is_query]).tolist():
        among, queries = (found.attributes == number) & found.is_gallery, (found.attributes == number) & found.is_query
        counts = np.bincount(found.values[among], minlength=int(found.values.max()) + 1)
        itself = found.is_gallery[queries]  # an image is not its own candidate
        right = counts[found.values[queries]] - itself
        expected[queries] = np.where(right > 0, random_precision(right, int(among.sum()) - itself), 0.0)
        metrics[f"map/{labels.attributes[number]}"] = float(expected[queries].mean())
    return {"map": float(expected[found.is_query].mean()), **metrics} if metrics else {}


def nearest(
    results: Results, found: Entries, attribute: int, most_queries: int, count: int
) -> tuple[IntArray, IntArray]:
    """Return evenly spaced queries of an attribute (entries Q) and the nearest candidates of each (entries Q, K).

    K is `count`, or less if there are fewer candidates.
    """
    queries = np.flatnonzero((found.attributes == attribute) & found.is_query)
    gallery = np.flatnonzero((found.attributes == attribute) & found.is_gallery)
    if len(queries) > most_queries:
        queries = queries[np.linspace(0, len(queries) - 1, most_queries).round().astype(int)]
    vectors = results["embedding"][:, attribute].astype(np.float32)
    alike = vectors[found.images[queries]] @ vectors[found.images[gallery]].T
    alike[found.images[queries][:, None] == found.images[gallery][None, :]] = -np.inf
    order = np.argsort(-alike, axis=1, kind="stable")[:, : max(0, min(count, len(gallery) - 1))]
    return queries, gallery[order]
