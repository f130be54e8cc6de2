"""Retrieval metrics: by hand, by full sorting, compared with torchmetrics and pytorch-metric-learning; ties, memory."""

import math

import numpy as np
import pytest
import torch

from fschemas.failures import NonFiniteError
from ftrain.metrics import retrieval
from ftrain.metrics.retrieval import Entries, attribute_map


def on_a_line(*places):
    """Embeddings at these distances along an arc."""
    return np.array([[math.cos(place / 10), math.sin(place / 10)] for place in places], np.float32)


def evaluate_retrieval(query, gallery, items, gallery_items, *, query_rows=None, gallery_rows=None, **options):
    """`retrieval.evaluate_retrieval`, by default of different images."""
    rows = np.arange(len(query) + len(gallery)) if query_rows is None else query_rows
    return retrieval.evaluate_retrieval(
        query, gallery, items, gallery_items, query_rows=rows[: len(query)],
        gallery_rows=rows[len(query) :] if gallery_rows is None else gallery_rows, **options,
    )  # fmt: skip


def random_set(num_queries=70, num_gallery=150, num_items=25, seed=0):
    """Embeddings around their items, and the items of both; some queries have no match."""
    generator = np.random.default_rng(seed)
    centers = generator.normal(size=(num_items, 16))
    items = generator.integers(0, num_items, num_queries), generator.integers(3, num_items, num_gallery)
    query, gallery = (centers[part] + generator.normal(size=(len(part), 16)) for part in items)
    return query.astype("f4"), gallery.astype("f4"), *items


def similarity(query, gallery):
    """Full matrix in float64; larger is nearer."""
    query, gallery = query.astype("f8"), gallery.astype("f8")
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (query, gallery)]
    return unit[0] @ unit[1].T


def test_metrics_by_hand():
    # Gallery by distance from the query at 0: a b a c a, so a is at 1, 3, 5 and c at 4.
    gallery, items = on_a_line(1, 2, 3, 4, 5), ["a", "b", "a", "c", "a"]
    found = evaluate_retrieval(on_a_line(0, 0, 0), gallery, ["a", "c", "d"], items, top=(1, 2, 3, 5))
    assert found.first.tolist() == [0, 3, -1]
    assert found.num_relevant.tolist() == [3, 1, 0]
    np.testing.assert_allclose(found.recalls[:2], [[1 / 3, 1 / 3, 2 / 3, 1], [0, 0, 0, 1]])
    np.testing.assert_allclose(found.average_precision[:2], [(1 + 2 / 3 + 3 / 5) / 3, 1 / 4])
    np.testing.assert_allclose(found.r_precision[:2], [2 / 3, 0])
    np.testing.assert_allclose(found.map_r[:2], [(1 + 2 / 3) / 3, 0])
    summary = found.summary()
    assert (summary["hit_1"], summary["hit_3"], summary["hit_5"]) == (0.5, 0.5, 1.0)
    assert summary["recall_3"] == pytest.approx(1 / 3)
    assert (summary["queries"], summary["queries_without_match"], summary["gallery"]) == (3, 1, 5)
    assert summary["map_low"] <= summary["map"] <= summary["map_high"]


@pytest.mark.parametrize("chunk", [1, 32, 512])
def test_agrees_with_torchmetrics_and_scikit_learn(chunk):
    from sklearn.metrics import average_precision_score
    from torchmetrics.functional.retrieval import (
        retrieval_average_precision,
        retrieval_hit_rate,
        retrieval_r_precision,
        retrieval_recall,
    )

    query, gallery, items, gallery_items = random_set()
    found = evaluate_retrieval(query, gallery, items, gallery_items, top=(1, 5, 20), chunk=chunk)
    scores = similarity(query, gallery)
    assert 0 < (~found.evaluated).sum() < 20
    for number in np.flatnonzero(found.evaluated):
        truth = gallery_items == items[number]
        # torchmetrics treats scores of 0 or less as not retrieved.
        row, target = torch.from_numpy(scores[number] - scores[number].min() + 1), torch.from_numpy(truth)
        assert found.num_relevant[number] == truth.sum()
        assert found.average_precision[number] == pytest.approx(average_precision_score(truth, scores[number]))
        assert found.average_precision[number] == pytest.approx(
            float(retrieval_average_precision(row, target)), abs=1e-6
        )
        assert found.r_precision[number] == pytest.approx(float(retrieval_r_precision(row, target)), abs=1e-6)
        for column, k in enumerate((1, 5, 20)):
            assert found.hits(k)[number] == bool(retrieval_hit_rate(row, target, top_k=k))
            assert found.recalls[number, column] == pytest.approx(
                float(retrieval_recall(row, target, top_k=k)), abs=1e-6
            )


def musgrave(query, items, gallery, gallery_items, *, itself=False):
    """The four metrics of pytorch-metric-learning, by an exact search."""
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    calculator = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision", "mean_average_precision_at_r", "r_precision"),
        k=len(gallery) - itself, knn_func=CustomKNN(CosineSimilarity()), device=torch.device("cpu"),
    )  # fmt: skip
    arguments = [torch.as_tensor(value) for value in (query, items, gallery, gallery_items)]
    return calculator.get_accuracy(*arguments, ref_includes_query=itself)


def assert_same(summary, expected):
    names = {"hit_1": "precision_at_1", "map": "mean_average_precision", "r_precision": "r_precision"}
    for name, other in {**names, "map_r": "mean_average_precision_at_r"}.items():
        assert summary[name] == pytest.approx(expected[other], abs=1e-6), name


def test_agrees_with_pytorch_metric_learning():
    query, gallery, items, gallery_items = random_set(seed=1)
    found = evaluate_retrieval(query, gallery, items, gallery_items)
    assert_same(found.summary(), musgrave(query, items, gallery, gallery_items))


def test_leaving_one_out_agrees_with_pytorch_metric_learning():
    _, images, _, items = random_set(num_gallery=120, seed=2)
    rows = [f"image {number}" for number in range(120)]
    found = evaluate_retrieval(images, images, items, items, query_rows=rows, gallery_rows=rows)
    assert_same(found.summary(), musgrave(images, items, images, items, itself=True))


def test_an_image_never_finds_itself():
    images, items = on_a_line(0, 1, 5), ["a", "a", "b"]
    found = evaluate_retrieval(images, images, items, items, query_rows=[7, 8, 9], gallery_rows=[7, 8, 9])
    assert found.first.tolist() == [0, 0, -1]  # b has no other image
    assert found.num_relevant.tolist() == [1, 1, 0]
    blind = evaluate_retrieval(images, images, items, items)
    assert blind.num_relevant.tolist() == [2, 2, 1]
    # Even if only some images are in both sets, and if the image's copy in the gallery has another item.
    other = evaluate_retrieval(
        images[:1], images, ["a"], ["b", "a", "b"], query_rows=["x"], gallery_rows=["x", "y", "z"]
    )
    assert other.first.tolist() == [0]


def test_a_foreign_image_as_near_is_before_the_right_one():
    gallery = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    found = evaluate_retrieval(gallery[:1], gallery, ["a"], ["a", "b", "c"])
    assert found.first.tolist() == [1]
    assert found.average_precision.tolist() == [0.5]


@pytest.mark.parametrize("dimension", [7, 512])
def test_a_network_with_constant_output_finds_nothing(dimension):
    """Equal images must stay equal although a matrix product rounds differently from column to column."""
    image = np.random.default_rng(0).normal(3, 1, (1, dimension)).astype("f4")
    items = np.arange(300) % 60
    found = evaluate_retrieval(image.repeat(50, 0), image.repeat(300, 0), items[:50], items)
    assert set(found.first.tolist()) == {295}


def test_cosines_that_differ_only_by_rounding_are_equal():
    generator = np.random.default_rng(0)
    query, direction = generator.normal(size=(2, 1, 64)).astype("f4")
    gallery = direction * generator.uniform(0.1, 9, (200, 1)).astype("f4")
    found = evaluate_retrieval(query, gallery, ["a"], ["b"] * 100 + ["a"] + ["b"] * 99)
    assert found.first.tolist() == [199]


@pytest.mark.parametrize("unknown", ["", -1])
def test_an_unknown_item_matches_nothing_but_competes(unknown):
    items = [unknown, unknown, "a", "b"] if unknown == "" else [unknown, unknown, 0, 1]
    found = evaluate_retrieval(on_a_line(0, 0), on_a_line(1, 2, 3, 4), [unknown, items[2]], items)
    assert found.first.tolist() == [-1, 2]


def test_no_category_filter():
    """A query is compared with the whole gallery: a nearer image of another garment counts against it."""
    found = evaluate_retrieval(on_a_line(0), on_a_line(1, 2), ["skirt/1"], ["blouse/9", "skirt/1"])
    assert found.hits(1).tolist() == [False]


def test_empty_sets():
    nothing = evaluate_retrieval(np.zeros((0, 4)), np.zeros((3, 4)), [], ["a", "b", "c"]).summary()
    assert nothing["queries"] == 0
    assert math.isnan(nothing["hit_1"])
    lonely = evaluate_retrieval(np.ones((2, 4)), np.zeros((0, 4)), ["a", "b"], []).summary()
    assert lonely["queries_without_match"] == 2
    assert math.isnan(lonely["map"])


def test_an_embedding_of_length_zero_is_no_neighbor():
    found = evaluate_retrieval([[1.0, 0.0]], [[0.0, 0.0], [1.0, 3.0]], ["a"], ["b", "a"])
    assert found.first.tolist() == [0]


def test_an_embedding_that_is_no_number_is_an_error():
    gallery = np.ones((3, 4), np.float32)
    gallery[2, 1] = np.inf
    with pytest.raises(NonFiniteError, match="gallery 2"):
        evaluate_retrieval(gallery[:1], gallery, [0], [0, 1, 2])


def test_the_full_matrix_is_never_made(monkeypatch):
    made = []
    empty = torch.empty

    def watched(*size):
        made.append(size)
        return empty(*size)

    monkeypatch.setattr(retrieval.torch, "empty", watched)
    query, gallery, items, gallery_items = random_set()
    small = evaluate_retrieval(query, gallery, items, gallery_items, chunk=8)
    assert made == [(8, 150)]
    np.testing.assert_array_equal(small.first, evaluate_retrieval(query, gallery, items, gallery_items).first)


def test_the_order_of_the_gallery_does_not_matter():
    query, gallery, items, gallery_items = random_set(seed=4)
    order = np.random.default_rng(0).permutation(len(gallery))
    first = evaluate_retrieval(query, gallery, items, gallery_items).summary()
    second = evaluate_retrieval(query, gallery[order], items, gallery_items[order]).summary()
    assert first == pytest.approx(second)


def attribute_set(seed=0, num_queries=40, num_candidates=90):
    """Embeddings, values and attributes of queries and candidates for three attributes."""
    generator = np.random.default_rng(seed)
    return [
        (generator.normal(size=(size, 8)).astype("f4"), generator.integers(0, 5, size), generator.integers(0, 3, size))
        for size in (num_queries, num_candidates)
    ]


def entries_of(query, gallery, values, gallery_values, kinds, gallery_kinds, images=None):
    """Embeddings and entries of queries and gallery."""
    is_query = np.arange(len(query) + len(gallery)) < len(query)
    columns = [np.concatenate(part) for part in ((kinds, gallery_kinds), (values, gallery_values))]
    images = np.arange(len(is_query)) if images is None else np.array(images)
    return np.concatenate([query, gallery]), Entries(images, *columns, is_query, ~is_query)


def test_attribute_map_is_the_mean_over_the_candidates_of_the_attribute():
    (query, values, kinds), (gallery, gallery_values, gallery_kinds) = attribute_set()
    values[:4] = 9  # a value without candidates: its AP is 0 and counts
    names = ["collar", "sleeve", "skirt"]
    found = attribute_map(*entries_of(query, gallery, values, gallery_values, kinds, gallery_kinds), names)
    scores = similarity(query, gallery)
    expected = {name: [] for name in names}
    for row in range(len(query)):
        order = [c for c in np.argsort(-scores[row]) if gallery_kinds[c] == kinds[row]]
        hits, total = 0, 0.0
        for place, candidate in enumerate(order, 1):
            if gallery_values[candidate] == values[row]:
                hits += 1
                total += hits / place
        expected[names[kinds[row]]].append(total / hits if hits else 0.0)
    for name in names:
        assert found[f"map/{name}"] == pytest.approx(np.mean(expected[name]))
    assert found["map"] == pytest.approx(np.mean([value for part in expected.values() for value in part]))
    assert found["map_of_attributes"] == pytest.approx(np.mean([np.mean(part) for part in expected.values()]))
    assert found["map_low"] < found["map"] < found["map_high"]
    assert found["queries_without_match"] == 4


def test_attribute_map_weighs_attributes_by_their_queries():
    query = on_a_line(1, 1, 1, 1)
    gallery = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    found = attribute_map(
        *entries_of(query, gallery, [0, 0, 0, 3], [0, 1, 2, 3], [0, 0, 0, 1], [0, 0, 1, 1]), ["a", "b"]
    )
    assert (found["map/a"], found["map/b"]) == (1.0, 0.5)
    assert found["map"] == pytest.approx(3.5 / 4)
    assert found["map_of_attributes"] == pytest.approx(0.75)


def test_attribute_map_leaves_out_the_image_itself():
    gallery = np.array([[1, 0], [0.5, 0.5], [0, 1]], np.float32)
    sides = (gallery[:1], gallery, [0], [0, 1, 0], [0], [0, 0, 0])
    assert attribute_map(*entries_of(*sides), ["a"])["map"] == pytest.approx((1 + 2 / 3) / 2)
    assert attribute_map(*entries_of(*sides, images=[3, 3, 4, 5]), ["a"])["map"] == pytest.approx(1 / 2)
