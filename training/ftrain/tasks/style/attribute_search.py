"""Search by attribute as the ASEN papers evaluate it, and its baselines: chance, and what a nearest neighbor says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftrain.data.search_roles import GALLERY, QUERY
from ftrain.data.types import Results
from ftrain.metrics.retrieval import attribute_map
from ftrain.tasks.style.labels import Labels

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Entries:
    """Images seen under an attribute for a value that they have: E images (places in the results), attributes and values.

    An image with several values of a type stands here once for each, as in the lists of the ASEN papers. `asks` and `offers`
    say which are queries and which candidates: all are both where a split is not cut into query and gallery.
    """

    images: IntArray
    attributes: IntArray
    values: IntArray
    asks: NDArray[np.bool_]
    offers: NDArray[np.bool_]


def entries(labels: Labels, results: Results) -> Entries:
    """The known values of all images of a split."""
    if labels.classes is not None:
        images = np.flatnonzero(results["values"][:, 0] >= 0)
        columns = [(images, np.zeros_like(images), results["values"][images, 0].astype(np.int64))]
    else:
        columns = []
        for number, ids in enumerate(labels.ids):
            found, places = np.nonzero(results["positive"][:, list(ids)])
            columns.append((found, np.full_like(found, number), places))
    images, attributes, values = (np.concatenate(part).astype(np.int64) for part in zip(*columns, strict=True))
    roles = results["role"][images]
    return Entries(images, attributes, values, roles != GALLERY, roles != QUERY)


def search_metrics(labels: Labels, results: Results, chosen: Entries | None = None) -> dict[str, float]:
    """`metrics.retrieval.attribute_map` of the embeddings; figures that nothing could be said of are left out."""
    found = chosen or entries(labels, results)
    places = {True: np.flatnonzero(found.asks), False: np.flatnonzero(found.offers)}
    vectors = {side: results["embedding"][found.images[at], found.attributes[at]] for side, at in places.items()}
    query, gallery = places[True], places[False]
    metrics = attribute_map(
        vectors[True], vectors[False], found.values[query], found.values[gallery], found.attributes[query],
        found.attributes[gallery], labels.attributes, query_rows=found.images[query], gallery_rows=found.images[gallery],
    )  # fmt: skip
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def chance_metrics(labels: Labels, found: Entries) -> dict[str, float]:
    """mAP of candidates in random order: its expectation, per attribute and over all queries.

    With R right ones among N, the k-th candidate is one with the same probability for every k, and of the k - 1 before it
    a share of (R - 1) / (N - 1) is right; the mean over k is H(N) / N + (R - 1) / (N - 1) (1 - H(N) / N).
    """
    expected = np.zeros(int(found.asks.sum()))
    asked = found.attributes[found.asks]
    for number in np.unique(asked).tolist():
        among, asks = (found.attributes == number) & found.offers, (found.attributes == number) & found.asks
        counts = np.bincount(found.values[among], minlength=int(found.values.max()) + 1)
        itself = found.offers[asks]  # an image does not find itself
        right, total = counts[found.values[asks]] - itself, int(among.sum()) - itself
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, among.sum() + 1))])[total] / np.maximum(total, 1)
        others = (right - 1) / np.maximum(total - 1, 1)
        expected[asked == number] = np.where(right > 0, harmonic + others * (1 - harmonic), 0.0)
    metrics = {
        f"map/{labels.attributes[number]}": float(expected[asked == number].mean()) for number in np.unique(asked)
    }
    return {"map": float(expected.mean()), **metrics} if len(expected) else {}


def nearest(
    results: Results, found: Entries, attribute: int, most_queries: int, count: int
) -> tuple[IntArray, IntArray]:
    """Some queries of an attribute (entries Q, evenly spread) and the `count` nearest candidates of each (entries Q, K).

    Fewer than `count` where there are not so many candidates.
    """
    asks = np.flatnonzero((found.attributes == attribute) & found.asks)
    offers = np.flatnonzero((found.attributes == attribute) & found.offers)
    if len(asks) > most_queries:
        asks = asks[np.linspace(0, len(asks) - 1, most_queries).round().astype(int)]
    vectors = results["embedding"][:, attribute].astype(np.float32)
    alike = vectors[found.images[asks]] @ vectors[found.images[offers]].T
    alike[found.images[asks][:, None] == found.images[offers][None, :]] = -np.inf
    order = np.argsort(-alike, axis=1, kind="stable")[:, : max(0, min(count, len(offers) - 1))]
    return asks, offers[order]
