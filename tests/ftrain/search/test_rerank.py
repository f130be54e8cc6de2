"""Re-ranking compared with the paper's formulas written with sets, on a hand-made case, and with bounded work."""

import numpy as np
import pytest

from ftrain.metrics.exact_search import ExactSearch, Features, Similarity
from ftrain.search.rerank import num_candidates, reciprocal_distances, rerank_candidates


def by_sets(distances, k1, k2, share):
    """Equations 1 to 12 of Zhong et al., set by set."""
    scaled = distances / distances.max(axis=1, keepdims=True)
    count = len(scaled)
    order = [sorted(range(count), key=lambda other, one=one: (scaled[one, other], other)) for one in range(count)]

    def reciprocal(one, k):
        return {other for other in order[one][: k + 1] if one in order[other][: k + 1]}

    encoded = np.zeros((count, count))
    for one in range(count):
        members = set(reciprocal(one, k1))
        for other in reciprocal(one, k1):
            theirs = reciprocal(other, round(k1 / 2))
            if len(reciprocal(one, k1) & theirs) >= 2 / 3 * len(theirs):
                members |= theirs
        for other in members:
            encoded[one, other] = np.exp(-scaled[one, other])
        encoded[one] /= encoded[one].sum()
    encoded = np.array([np.mean([encoded[other] for other in order[one][:k2]], axis=0) for one in range(count)])
    jaccard = np.array(
        [1 - np.minimum(encoded[0], row).sum() / np.maximum(encoded[0], row).sum() for row in encoded[1:]]
    )
    return (1 - share) * jaccard + share * scaled[0, 1:]


@pytest.mark.parametrize(("k1", "k2", "share"), [(20, 6, 0.3), (5, 1, 0.0), (7, 3, 1.0)])
@pytest.mark.parametrize("count", [4, 60])
def test_the_formulas_of_the_paper(count, k1, k2, share):
    from scipy.spatial.distance import cdist

    points = np.random.default_rng(count).normal(size=(count, 3))
    distances = cdist(points, points)
    np.testing.assert_allclose(
        reciprocal_distances(distances, k1, k2, share), by_sets(distances, k1, k2, share), atol=1e-12
    )


def on_circle(*degrees):
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_a_stranger_between_two_groups_falls_behind():
    """The query's group is at 5 to 30 degrees; an outlier at -4 is nearer, but has different neighbors."""
    gallery = Features(on_circle(-4, 5, 9, 13, 17, -5, -6, -7, -8, -9))
    query = Features(on_circle(0.4))
    plain = ExactSearch(gallery).search(query, Similarity(), 10)
    assert plain.rows[0, 0] == 0
    found = rerank_candidates(gallery, plain, Similarity(), 4, neighbors=4, expansion=3, share=0.1)
    assert 0 not in found.rows[0, :1]
    assert np.all(np.diff(found.scores[0]) <= 0)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_candidates_are_reordered_and_nothing_else(metric, weight):
    generator = np.random.default_rng(0)
    deep, color = generator.normal(size=(300, 16)).astype(np.float32), generator.random((300, 5)).astype(np.float32)
    deep, color = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (deep, color))
    gallery, similarity = Features(deep, color), Similarity(metric, weight)
    queries = gallery[np.arange(0, 300, 60)]
    candidates = ExactSearch(gallery).search(queries, similarity, 50)
    found = rerank_candidates(gallery, candidates, similarity, 10)
    assert found.rows.shape == (5, 10)
    for number in range(5):
        assert set(found.rows[number]) <= set(candidates.rows[number])
        assert found.rows[number, 0] == candidates.rows[number, 0] == 60 * number  # nothing is nearer than itself
        places = [candidates.rows[number].tolist().index(row) for row in found.rows[number]]
        np.testing.assert_array_equal(found.deep[number], candidates.deep[number, places])
        np.testing.assert_array_equal(found.color[number], candidates.color[number, places])


def test_all_of_a_gallery_as_candidates_is_the_paper():
    from scipy.spatial.distance import cdist

    generator = np.random.default_rng(1)
    points = generator.normal(size=(41, 6)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    gallery, query, similarity = Features(points[1:]), Features(points[:1]), Similarity("euclidean")
    found = rerank_candidates(
        gallery, ExactSearch(gallery).search(query, similarity, 40), similarity, 40, neighbors=8, expansion=4
    )
    expected = by_sets(cdist(points, points), 8, 4, 0.3)
    np.testing.assert_array_equal(found.rows[0], np.argsort(expected, kind="stable"))
    np.testing.assert_allclose(-found.scores[0], np.sort(expected), atol=1e-6)


def test_candidates_are_few():
    assert num_candidates(10) == 100
    assert num_candidates(50) == 250
    gallery = Features(np.eye(2, dtype=np.float32))
    found = rerank_candidates(gallery, ExactSearch(gallery).search(gallery[:1], Similarity(), 10), Similarity(), 10)
    assert found.rows.tolist() == [[0, 1]]
