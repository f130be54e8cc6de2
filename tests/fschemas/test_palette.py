"""Left and right have one color each in all drawings of landmarks."""

import pytest

from fprep.report.overlays import LandmarkNames
from fprep.report.page import document
from fschemas.landmarks import DEEPFASHION2_294, DEEPFASHION_8, FASHIONAI_24
from fschemas.palette import SIDE_COLORS, rgb, side_of


@pytest.mark.parametrize("landmarks", [FASHIONAI_24, DEEPFASHION_8, DEEPFASHION2_294], ids=lambda one: one.name)
def test_pages_and_overlays_agree_on_the_side_of_every_landmark(landmarks):
    from ftrain.plots.overlay import side_color

    names = LandmarkNames.of(landmarks.to_json())
    for point in range(len(landmarks)):
        assert side_color(landmarks, point) == SIDE_COLORS[names.side(point)]


def test_a_page_has_the_colors_of_the_palette():
    page = document("title", [], metadata={}).decode()
    for side, color in SIDE_COLORS.items():
        assert f"--mark-{side}: {color}" in page
        assert f"var(--mark-{side})" in page


def test_a_side_follows_the_name_then_the_partner():
    assert side_of("neckline_left", 1, 0) == "left"
    assert side_of("Right Ankle", -1, -1) == "right"
    assert [side_of("hem", partner, 3) for partner in (-1, 3, 5, 2)] == ["middle", "middle", "left", "right"]
    assert rgb("#ff8a2a") == (255, 138, 42)
