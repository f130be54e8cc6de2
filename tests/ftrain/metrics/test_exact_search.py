"""Exact search compared with brute force in double precision: metrics, colors, ties, batches, invalid queries."""

import numpy as np
import pytest
import torch

from fschemas.failures import UsageError
from ftrain.metrics import exact_search as exact
from ftrain.metrics.exact_search import ExactSearch, Features, Similarity

WEIGHTS = (0.0, 0.5)


def vectors(count, dims, seed, *, unit=True):
    drawn = np.random.default_rng(seed).standard_normal((count, dims)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True) if unit else drawn


def brute_force(gallery, queries, metric, weight, top):
    """Scores by scipy in double precision."""
    from scipy.spatial.distance import cdist

    if metric == "cosine":
        deep = queries.deep.astype(float) @ gallery.deep.T.astype(float)
        color = queries.color.astype(float) @ gallery.color.T.astype(float)
    else:
        deep, color = -cdist(queries.deep, gallery.deep), -cdist(queries.color, gallery.color)
    scores = deep + weight * color
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return rows, np.take_along_axis(scores, rows, axis=1)


@pytest.mark.parametrize("unit", [True, False], ids=["length 1", "any length"])
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("count", [7, 5000])
def test_the_answers_of_brute_force(count, metric, weight, unit, monkeypatch):
    monkeypatch.setattr(exact, "_BLOCK_BYTES", 4 * 5000 * 3)  # three queries at a time
    gallery = Features(vectors(count, 32, 0, unit=unit), np.abs(vectors(count, 12, 1)))
    queries = Features(vectors(8, 32, 2, unit=unit), np.abs(vectors(8, 12, 3)))
    found = ExactSearch(gallery).search(queries, Similarity(metric, weight), 10)
    rows, scores = brute_force(gallery, queries, metric, weight, 10)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.scores, scores, atol=1e-12)
    np.testing.assert_allclose(found.deep + weight * found.color, scores, atol=1e-12)


def test_metrics_differ_where_lengths_do_and_agree_where_they_do_not():
    far, near = np.array([[10.0, 0.0]]), np.array([[0.9, 0.3]])
    query = Features(np.array([[1.0, 0.0]], np.float32))
    gallery = Features(np.concatenate([near, far]).astype(np.float32))
    best = {
        metric: ExactSearch(gallery).search(query, Similarity(metric), 1).rows[0, 0]
        for metric in ("cosine", "euclidean")
    }
    assert best == {"cosine": 1, "euclidean": 0}
    units, asked = Features(vectors(500, 16, 0)), Features(vectors(5, 16, 1))
    cosine, euclidean = (ExactSearch(units).search(asked, Similarity(metric), 20) for metric in ("cosine", "euclidean"))
    np.testing.assert_array_equal(cosine.rows, euclidean.rows)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_of_equal_images_the_lowest_row_comes_first(metric, weight):
    one, color = vectors(1, 48, 0), np.abs(vectors(1, 5, 0))
    deep, colors = vectors(4001, 48, 1), np.abs(vectors(4001, 5, 1))
    twins = [0, 3, 64, 1999, 2000, 3999, 4000]  # at the edges of blocks, where a matrix product may round differently
    deep[twins], colors[twins] = one, color
    found = ExactSearch(Features(deep, colors)).search(Features(one, color), Similarity(metric, weight), 9)
    assert found.rows[0, :7].tolist() == twins
    assert len(set(found.scores[0, :7])) == 1
    assert found.scores[0, 0] == pytest.approx(0 if metric == "euclidean" else 1 + weight, abs=1e-6)
    few = ExactSearch(Features(deep, colors)).search(Features(one, color), Similarity(metric, weight), 3)
    assert few.rows[0].tolist() == twins[:3]


def test_one_query_finds_what_a_batch_finds():
    gallery, queries = Features(vectors(3000, 64, 0)), Features(vectors(40, 64, 1))
    search = ExactSearch(gallery)
    together = search.search(queries, Similarity(), 15)
    for number in range(40):
        alone = search.search(queries[number : number + 1], Similarity(), 15)
        np.testing.assert_array_equal(alone.rows[0], together.rows[number])
        np.testing.assert_array_equal(alone.scores[0], together.scores[number])  # to the last bit


def test_torch_finds_what_numpy_finds(monkeypatch):
    """The GPU code path, on a CPU."""
    gallery = Features(vectors(3000, 24, 0), np.abs(vectors(3000, 6, 1)))
    queries = Features(vectors(9, 24, 2), np.abs(vectors(9, 6, 3)))
    search, by_torch = ExactSearch(gallery), ExactSearch(gallery)
    by_torch.device = torch.device("cpu")
    by_torch._deep, by_torch._color = torch.from_numpy(gallery.deep), torch.from_numpy(gallery.color)
    for metric in ("cosine", "euclidean"):
        for weight in WEIGHTS:
            mine, theirs = (one.search(queries, Similarity(metric, weight), 12) for one in (search, by_torch))
            np.testing.assert_array_equal(mine.rows, theirs.rows)
            np.testing.assert_array_equal(mine.scores, theirs.scores)


def test_color_decides_between_equal_shapes():
    deep = np.tile(vectors(1, 8, 0), (3, 1))
    gallery = Features(deep, np.eye(3, dtype=np.float32))
    query = Features(deep[:1], np.array([[0.0, 0.0, 1.0]], np.float32))
    for metric in ("cosine", "euclidean"):
        assert ExactSearch(gallery).search(query, Similarity(metric, 0.0), 3).rows[0].tolist() == [0, 1, 2]
        assert ExactSearch(gallery).search(query, Similarity(metric, 0.01), 3).rows[0].tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("queries", "weight", "words"),
    [
        (Features(vectors(2, 7, 0)), 0.0, "the queries have 7 dimensions, the index has 8"),
        (Features(vectors(2, 8, 0)), 0.3, r"color weight 0\.3: the query has no color features"),
        (Features(vectors(2, 8, 0), vectors(2, 4, 0)), 1.0, "has 4 dimensions, that of the index 3"),
        (Features(vectors(2, 8, 0), vectors(2, 3, 0)), -1.0, r"choose a number between 0 and 1e\+06"),
        (Features(vectors(2, 8, 0), vectors(2, 3, 0)), float("nan"), r"choose a number between 0 and 1e\+06"),
    ],
)
def test_queries_that_do_not_fit_are_refused(queries, weight, words):
    gallery = Features(vectors(5, 8, 0), vectors(5, 3, 0))
    with pytest.raises(UsageError, match=words):
        ExactSearch(gallery).search(queries, Similarity("cosine", weight), 3)


def test_a_collapsed_model_is_still_answered():
    gallery = Features(np.tile(vectors(1, 8, 0), (20_000, 1)))
    found = ExactSearch(gallery).search(gallery[:2], Similarity(), 4)
    assert found.rows.tolist() == [[0, 1, 2, 3]] * 2
