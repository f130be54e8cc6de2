"""Attribute retrieval as evaluated in the ASEN papers, its chance baseline, and nearest neighbors."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftrain.data.search_roles import GALLERY, QUERY
from ftrain.data.types import Results
from ftrain.metrics.retrieval import attribute_map
from ftrain.tasks.style.labels import StyleLabels

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Entries:
    """Pairs of an image and a value it has: E image indices (in the results), attributes and values.

    An image with several values of an attribute has one entry per value, as in the lists of the ASEN papers. `is_query`
    marks queries, `is_gallery` gallery entries; all entries are both if a split is not divided into query and gallery.
    """

    images: IntArray
    attributes: IntArray
    values: IntArray
    is_query: NDArray[np.bool_]
    is_gallery: NDArray[np.bool_]


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
    positions = {True: np.flatnonzero(found.is_query), False: np.flatnonzero(found.is_gallery)}
    vectors = {side: results["embedding"][found.images[at], found.attributes[at]] for side, at in positions.items()}
    query, gallery = positions[True], positions[False]
    metrics = attribute_map(
        vectors[True], vectors[False], found.values[query], found.values[gallery], found.attributes[query],
        found.attributes[gallery], labels.attributes, query_rows=found.images[query], gallery_rows=found.images[gallery],
    )  # fmt: skip
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def chance_metrics(labels: StyleLabels, found: Entries) -> dict[str, float]:
    """Return the expected mAP of a random ranking, per attribute and over all queries.

    With R matches among N, each rank k has the same probability of a match, and of the k - 1 candidates before it a
    share of (R - 1) / (N - 1) is expected to match; the mean over k is H(N) / N + (R - 1) / (N - 1) (1 - H(N) / N).
    """
    expected = np.zeros(int(found.is_query.sum()))
    attributes = found.attributes[found.is_query]
    for number in np.unique(attributes).tolist():
        among, queries = (found.attributes == number) & found.is_gallery, (found.attributes == number) & found.is_query
        counts = np.bincount(found.values[among], minlength=int(found.values.max()) + 1)
        itself = found.is_gallery[queries]  # an image is not its own candidate
        right, total = counts[found.values[queries]] - itself, int(among.sum()) - itself
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, among.sum() + 1))])[total] / np.maximum(total, 1)
        others = (right - 1) / np.maximum(total - 1, 1)
        expected[attributes == number] = np.where(right > 0, harmonic + others * (1 - harmonic), 0.0)
    metrics = {
        f"map/{labels.attributes[number]}": float(expected[attributes == number].mean())
        for number in np.unique(attributes)
    }
    return {"map": float(expected.mean()), **metrics} if len(expected) else {}


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
