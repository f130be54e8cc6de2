"""Items and their images: the labels are visible in the pixels."""

import numpy as np
import pytest

from fprep.synthetic.garments.items import draw_item, item_of, pick
from fprep.synthetic.garments.kinds import KINDS, SLEEVES
from fprep.synthetic.garments.palette import COLORS, LOOKS
from fprep.synthetic.garments.shoot import VIEWS, photograph
from fprep.synthetic.layouts import deepfashion_category, deepfashion_consumer2shop, deepfashion_inshop, kfashion
from fprep.synthetic.layouts.deepfashion import BOX, POINTS, clothes_type, invent, measure, valid_points
from fprep.synthetic.layouts.deepfashion2 import category_of, crosswalk, landmarks_of, oval_points
from fprep.synthetic.layouts.kfashion import outfit_of
from fprep.synthetic.skeleton import chance
from fschemas.landmarks import DEEPFASHION2_294, FASHIONAI_24, Visibility
from fschemas.landmarks_deepfashion2 import OUTLINES
from fschemas.vocabularies import vocabulary


@pytest.fixture(scope="module")
def items():
    return [
        item_of(chance(5, number), number, kind, look)
        for number, kind in enumerate(KINDS)
        for look in list(LOOKS)[number % 3 :: 3]
    ]


@pytest.fixture(scope="module")
def shots():
    """Every kind from the front, at small size."""
    return [
        (photograph([draw_item(2, number, {kind: 1.0})], chance(number), VIEWS["front"], (160, 120)))
        for number, kind in enumerate(KINDS)
    ]


def test_looks_name_colors_and_kinds_that_exist():
    for look in LOOKS.values():
        assert set(look.colors) | set(look.accents) <= set(COLORS)
        assert set(look.kinds) <= set(KINDS)
    assert set(kfashion.STYLE_OF_LOOK) == set(LOOKS)
    assert set(kfashion.STYLE_OF_LOOK.values()) < set(vocabulary("kfashion-style-24").values)


def test_every_word_is_in_its_vocabulary(items):
    inshop = set(vocabulary("deepfashion-inshop-attribute-463").values)
    for item in items:
        if item.kind in deepfashion_category.CATEGORY_OF_KIND:
            positive, unknown = deepfashion_category.attribute_ids(item)
            assert 3 <= len(positive) <= 30
            assert not set(positive) & set(unknown)
        assert len(deepfashion_category.fine_ids(item)) == 6
        assert set(deepfashion_inshop.attribute_words(item)) <= inshop
        assert set(deepfashion_consumer2shop.attribute_ids(item)) <= set(range(303))
        known = set(vocabulary("kfashion-attribute-660").values)
        part = kfashion.part_of(item)
        for family, value in kfashion.labels_of(item).items():
            values = value if isinstance(value, list) else [value]
            spelt = [each.replace("노말", "노멀").replace("\u00a0", "") for each in values]
            assert {f"{part}/{family}/{each}" for each in spelt} <= known, (item.kind, family, value)


def test_colors_of_items_are_those_of_their_names(items):
    def nearest(color):
        return min(COLORS, key=lambda name: sum((a - b) ** 2 for a, b in zip(COLORS[name], color, strict=True)))

    right = [nearest(item.design.color) == item.color for item in items]
    assert np.mean(right) > 0.9


def test_sleeves_are_distinguished(items):
    assert {item.sleeve for item in items} == set(SLEEVES)
    assert {item.fit for item in items} == {"tight", "regular", "loose"}


def test_boxes_and_masks_fit_the_image(shots):
    for shot in shots:
        (piece,) = shot.pieces
        left, top, right, bottom = piece.box
        assert 0 <= left < right < 120
        assert 0 <= top < bottom < 160
        assert piece.mask[top : bottom + 1, left : right + 1].sum() == piece.mask.sum() > 300
        seen = piece.visibility == Visibility.VISIBLE
        assert seen.sum() >= 2
        inside = piece.points[seen]
        assert (inside >= np.array([left, top]) - 6).all()
        assert (inside <= np.array([right, bottom]) + 6).all()


def test_marks_of_deepfashion_follow_the_crosswalk(shots):
    for shot in shots:
        (piece,) = shot.pieces
        marks = measure(shot, piece)
        points = marks[POINTS].reshape(8, 3)
        valid = list(valid_points(clothes_type(piece.item)))
        assert (points[valid, 0] >= 0).all()
        assert (np.delete(points, valid, axis=0) == -1).all()
        assert (points[points[:, 0] == 2, 1:] == 0).all()
        assert (points[(points[:, 0] == 0) | (points[:, 0] == 1), 1:] >= 1).all()
        assert marks[BOX].tolist() == [value + 1 for value in piece.box]
        if piece.item.category == "skirt":
            index = FASHIONAI_24.names.index("waistband_left")
            assert points[4, 1:].tolist() == (np.round(piece.points[index]) + 1).astype(int).tolist()


def test_left_and_right_change_places_in_back_views():
    item = draw_item(0, 1, {"skirt": 1.0})
    front, back = (photograph([item], chance(4), VIEWS[view], (160, 120)) for view in ("front", "back"))
    hems = [measure(shot, shot.pieces[0])[POINTS].reshape(8, 3)[6:, 1] for shot in (front, back)]
    assert hems[0][0] < hems[0][1]
    assert hems[1][0] > hems[1][1]


def test_invented_marks_lie_in_their_frame(items):
    for item in items[:20]:
        marks = invent(item, chance(1), 50, 300)
        points = marks[:, POINTS].reshape(50, 8, 3)
        assert (marks[:, 2] < marks[:, 4]).all()
        assert (marks[:, 3] < marks[:, 5]).all()
        assert (points[..., 1].max(axis=1) <= marks[:, 0]).all()
        assert (points[..., 2].max(axis=1) <= marks[:, 1]).all()


def test_deepfashion2_points_lie_on_the_garment(shots):
    categories = set()
    for shot in shots:
        (piece,) = shot.pieces
        if piece.item.kind == "vest":
            continue  # sleeveless outwear is not a category of DeepFashion2
        category = category_of(piece.item)
        categories.add(category)
        points = np.array(landmarks_of(piece, category)).reshape(-1, 3)
        assert len(points) == len(OUTLINES[category])
        assert (points[:, 2] > 0).mean() > 0.5
        known = points[points[:, 2] > 0]
        left, _, right, _ = piece.box
        assert (known[:, 0] >= left - 12).all()
        assert (known[:, 0] <= right + 12).all()
        oval = oval_points(category, np.array([0, 0]), np.array([100, 100]))
        assert oval.min() >= 0
        assert oval.max() <= 100
    assert len(categories) >= 9


GARMENTS = {
    "top": "blouse",
    "vest": "blouse",
    "sling": "blouse",
    "outwear": "outwear",
    "dress": "dress",
    "skirt": "skirt",
}


@pytest.mark.parametrize("category", OUTLINES)
def test_crosswalk_maps_partners_to_partners(category):
    """From every DeepFashion2 category to the FashionAI garment of the same kind."""
    numbers, start = crosswalk(category), DEEPFASHION2_294.garments[category][0]
    assert len(numbers) == len(set(numbers.values())) >= 2
    assert set(numbers) <= set(FASHIONAI_24.valid_landmarks(GARMENTS.get(category.split()[-1], "trousers")))
    there = {point: start + number - 1 for point, number in numbers.items()}
    assert set(there.values()) <= set(DEEPFASHION2_294.valid_landmarks(category))
    assert {FASHIONAI_24.flip_index[point]: DEEPFASHION2_294.flip_index[there[point]] for point in there} == there


@pytest.mark.parametrize(
    ("category", "point", "expected"),
    [
        ("long sleeve dress", "waistline_right", "side_25/long sleeve dress"),
        ("short sleeve outwear", "neckline_left", "neck_4/short sleeve outwear"),
        ("shorts", "crotch", "crotch_7/shorts"),
    ],
)
def test_same_point(category, point, expected):
    number = crosswalk(category)[FASHIONAI_24.names.index(point)]
    assert DEEPFASHION2_294.names[DEEPFASHION2_294.garments[category][0] + number - 1] == expected


def test_outfits_hold_at_most_one_piece_of_a_part():
    for number in range(60):
        _, outfit = outfit_of(0, number)
        parts = [kfashion.part_of(item) for item in outfit]
        assert len(parts) == len(set(parts))
        assert ("원피스" in parts) != ("하의" in parts)


@pytest.mark.slow
def test_styles_can_be_learned_from_pixels_alone():
    """A nearest neighbor by color and sharpness of the clothes beats the majority style by far, on unseen outfits."""
    features, looks = [], []
    for number in range(240):
        look, outfit = outfit_of(3, number)
        generator = chance(9, number)
        view = VIEWS[pick(generator, {"shop": 1.0, "any": 1.0, "street": 1.0})]
        shot = photograph(outfit, generator, view, (96, 72))
        pixels = shot.image[np.any([piece.mask for piece in shot.pieces], axis=0)] // 43
        histogram = np.bincount(pixels @ np.array([36, 6, 1]), minlength=216) / len(pixels)
        features.append(np.sqrt(histogram))
        looks.append(look)
    rows, names = np.array(features), np.array(looks)
    nearest = ((rows[180:, None] - rows[None, :180]) ** 2).sum(axis=2).argmin(axis=1)
    majority = max(np.mean(names[180:] == name) for name in LOOKS)
    assert np.mean(names[:180][nearest] == names[180:]) > 2 * majority
