"""Landmark sets and their crosswalk: flips, partners, garments, and places that mean the same."""

import itertools

import numpy as np
import pytest

from fprep.synthetic.crosswalk import CROSSWALKS, corresponding_garments, crosswalk
from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION2_294, DEEPFASHION_8, FASHIONAI_24, LANDMARK_SETS
from fschemas.vocabularies import vocabulary

SETS = sorted(LANDMARK_SETS)
GARMENTS = [(name, garment) for name in SETS for garment in LANDMARK_SETS[name].garments]
TABLES = [(sets, garments) for sets in CROSSWALKS for garments in CROSSWALKS[sets]]


@pytest.mark.parametrize("name", SETS)
def test_flipping_twice_is_the_identity(name):
    landmarks = LANDMARK_SETS[name]
    width, partners = 100, np.array(landmarks.partners)
    points = np.random.default_rng(0).uniform(0, width, (len(landmarks), 2))

    def flip(points):
        return np.stack([width - 1 - points[partners, 0], points[partners, 1]], 1)

    assert not np.allclose(flip(points), points)
    np.testing.assert_allclose(flip(flip(points)), points)


@pytest.mark.parametrize(("name", "garment"), GARMENTS)
def test_partners_and_edges_stay_inside_a_garment(name, garment):
    landmarks = LANDMARK_SETS[name]
    valid = set(landmarks.valid_points(garment))
    assert {landmarks.partners[point] for point in valid} == valid
    assert len(valid) == len(landmarks.valid_points(garment))


@pytest.mark.parametrize("name", SETS)
def test_names_are_unique_and_edges_join_points(name):
    landmarks = LANDMARK_SETS[name]
    assert len(set(landmarks.points)) == len(landmarks) == len(landmarks.partners)
    assert all(0 <= a < len(landmarks) and 0 <= b < len(landmarks) and a != b for a, b in landmarks.skeleton)
    assert len({frozenset(edge) for edge in landmarks.skeleton}) == len(landmarks.skeleton)


def test_deepfashion2_has_consecutive_ranges_in_the_order_of_its_categories():
    garments = DEEPFASHION2_294.garments
    assert tuple(garments) == vocabulary("deepfashion2-category-13").values
    assert [len(points) for points in garments.values()] == [25, 33, 31, 39, 15, 15, 10, 14, 8, 29, 37, 19, 19]
    assert list(itertools.chain(*garments.values())) == list(range(294))


def test_deepfashion2_outlines_are_whole_and_symmetric():
    edges = {frozenset(edge) for edge in DEEPFASHION2_294.skeleton}
    mirrored = {frozenset(DEEPFASHION2_294.partners[point] for point in edge) for edge in edges}
    assert mirrored == edges
    for points in DEEPFASHION2_294.garments.values():
        reached, ahead = {points[0]}, [points[0]]
        while ahead:
            here = ahead.pop()
            new = {point for edge in edges if here in edge for point in edge} - reached
            reached |= new
            ahead += new
        assert reached == set(points)


# Numbers as in figure 2 of the README of DeepFashion2.
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
    assert {number: DEEPFASHION2_294.partners[start + number - 1] - start + 1 for number in pairs} == pairs


@pytest.mark.parametrize(("sets", "garments"), TABLES)
def test_crosswalk_maps_partners_to_partners(sets, garments):
    source, target = (LANDMARK_SETS[name] for name in sets)
    points = crosswalk(sets[0], garments[0], sets[1], garments[1])
    there = dict(points)
    assert len(there) == len(points) == len(set(there.values())) >= 2
    assert set(there) <= set(source.valid_points(garments[0]))
    assert set(there.values()) <= set(target.valid_points(garments[1]))
    assert {source.partners[point]: target.partners[there[point]] for point in there} == there
    assert tuple(sorted((b, a) for a, b in points)) == crosswalk(sets[1], garments[1], sets[0], garments[0])


def test_every_garment_has_a_counterpart_in_every_other_set():
    for (source, garment), target in itertools.product(GARMENTS, SETS):
        if source != target:
            assert corresponding_garments(source, garment, target)


@pytest.mark.parametrize(
    ("source", "garment", "target", "other", "point", "expected"),
    [
        (FASHIONAI_24, "dress", DEEPFASHION2_294, "long sleeve dress", "waistline_right", "side_25/long sleeve dress"),
        (
            FASHIONAI_24,
            "outwear",
            DEEPFASHION2_294,
            "short sleeve outwear",
            "neckline_left",
            "neck_4/short sleeve outwear",
        ),
        (FASHIONAI_24, "trousers", DEEPFASHION2_294, "shorts", "crotch", "crotch_7/shorts"),
        (FASHIONAI_24, "trousers", DEEPFASHION_8, "lower", "bottom_right_out", "hem_right"),
        (DEEPFASHION_8, "upper", DEEPFASHION2_294, "long sleeve top", "sleeve_right", "sleeve_29/long sleeve top"),
        (DEEPFASHION_8, "lower", DEEPFASHION2_294, "skirt", "waistline_left", "waist_1/skirt"),
    ],
)
def test_same_place(source, garment, target, other, point, expected):
    there = dict(crosswalk(source.name, garment, target.name, other))
    assert target.points[there[source.points.index(point)]] == expected


def test_garments_of_different_kinds_are_one_sentence():
    with pytest.raises(
        UsageError, match=r"skirt of fashionai-24 is no 'full' of deepfashion-8; it corresponds to lower"
    ):
        crosswalk("fashionai-24", "skirt", "deepfashion-8", "full")
    with pytest.raises(UsageError, match=r"no crosswalk from 'coco'"):
        crosswalk("coco", "skirt", "deepfashion-8", "full")
    with pytest.raises(UsageError, match=r"has no garment 'hat'"):
        corresponding_garments("fashionai-24", "hat", "deepfashion-8")
