"""Landmark sets: flips, counterparts, garments."""

import itertools

import numpy as np
import pytest

from fschemas.landmarks import DEEPFASHION2_294, LANDMARK_SETS
from fschemas.vocabularies import vocabulary

SETS = sorted(LANDMARK_SETS)
GARMENTS = [(name, garment) for name in SETS for garment in LANDMARK_SETS[name].garments]


@pytest.mark.parametrize("name", SETS)
def test_flipping_twice_is_the_identity(name):
    landmarks = LANDMARK_SETS[name]
    width, partners = 100, np.array(landmarks.flip_index)
    points = np.random.default_rng(0).uniform(0, width, (len(landmarks), 2))

    def flip(points):
        return np.stack([width - 1 - points[partners, 0], points[partners, 1]], 1)

    assert not np.allclose(flip(points), points)
    np.testing.assert_allclose(flip(flip(points)), points)


@pytest.mark.parametrize(("name", "garment"), GARMENTS)
def test_partners_and_edges_stay_inside_a_garment(name, garment):
    landmarks = LANDMARK_SETS[name]
    valid = set(landmarks.valid_landmarks(garment))
    assert {landmarks.flip_index[point] for point in valid} == valid
    assert len(valid) == len(landmarks.valid_landmarks(garment))


@pytest.mark.parametrize("name", SETS)
def test_names_are_unique_and_edges_join_points(name):
    landmarks = LANDMARK_SETS[name]
    assert len(set(landmarks.names)) == len(landmarks) == len(landmarks.flip_index)
    assert all(0 <= a < len(landmarks) and 0 <= b < len(landmarks) and a != b for a, b in landmarks.skeleton)
    assert len({frozenset(edge) for edge in landmarks.skeleton}) == len(landmarks.skeleton)


def test_deepfashion2_has_consecutive_ranges_in_the_order_of_its_categories():
    garments = DEEPFASHION2_294.garments
    assert tuple(garments) == vocabulary("deepfashion2-category-13").values
    assert [len(points) for points in garments.values()] == [25, 33, 31, 39, 15, 15, 10, 14, 8, 29, 37, 19, 19]
    assert list(itertools.chain(*garments.values())) == list(range(294))


def test_deepfashion2_outlines_are_whole_and_symmetric():
    edges = {frozenset(edge) for edge in DEEPFASHION2_294.skeleton}
    flipped = {frozenset(DEEPFASHION2_294.flip_index[point] for point in edge) for edge in edges}
    assert flipped == edges
    for points in DEEPFASHION2_294.garments.values():
        reached, ahead = {points[0]}, [points[0]]
        while ahead:
            here = ahead.pop()
            new = {point for edge in edges if here in edge for point in edge} - reached
            reached |= new
            ahead += new
        assert reached == set(points)


# Numbers as in figure 2 of the DeepFashion2 README.
FLIPS = [
    ("short sleeve top", {2: 6, 3: 5, 7: 25, 12: 20, 15: 17, 1: 1, 4: 4, 16: 16}),
    ("long sleeve top", {7: 33, 15: 25, 19: 21, 20: 20}),
    ("short sleeve outwear", {2: 26, 3: 5, 4: 6, 7: 25, 15: 17, 16: 29, 27: 30, 28: 31, 1: 1}),
    ("long sleeve outwear", {2: 6, 4: 34, 7: 33, 19: 21, 20: 37, 35: 38, 36: 39, 1: 1}),
    ("vest", {7: 15, 9: 13, 10: 12, 11: 11}),
    ("shorts", {1: 3, 4: 10, 5: 9, 6: 8, 7: 7}),
    ("trousers", {1: 3, 4: 14, 7: 11, 8: 10, 9: 9, 2: 2}),
    ("skirt", {1: 3, 4: 8, 5: 7, 6: 6}),
    ("long sleeve dress", {7: 37, 16: 28, 19: 25, 21: 23, 22: 22}),
    ("sling dress", {7: 19, 10: 16, 12: 14, 13: 13}),
]


@pytest.mark.parametrize(("category", "pairs"), FLIPS)
def test_deepfashion2_partners(category, pairs):
    start = DEEPFASHION2_294.garments[category][0]
    assert {number: DEEPFASHION2_294.flip_index[start + number - 1] - start + 1 for number in pairs} == pairs
