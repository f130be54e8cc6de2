"""Metrics per slice."""

import numpy as np
import pytest

from ftrain.metrics.bootstrap import ratio_interval
from ftrain.metrics.slices import slices

POSES = np.array(["front"] * 30 + ["back"] * 25 + ["side"] * 5 + [""] * 40)


def test_slices_by_hand():
    hits = np.concatenate((np.tile([1, 1, 0], 10), np.tile([1, 0, 0, 0, 0], 5), np.ones(45)))
    result = slices(hits, None, {"pose": POSES, "size": np.array([""] * 100)})
    assert list(result) == ["pose"]  # the size is unknown
    assert list(result["pose"]) == ["back", "front"]  # five side views are too few, and "" is not a pose
    assert result["pose"]["front"]["value"] == pytest.approx(2 / 3)
    assert result["pose"]["back"]["value"] == pytest.approx(1 / 5)
    assert result["pose"]["back"]["count"] == 25
    assert result["pose"]["front"]["low"] < 2 / 3 < result["pose"]["front"]["high"]
    low, high = ratio_interval(hits[:30], np.ones(30))
    assert (result["pose"]["front"]["low"], result["pose"]["front"]["high"]) == (low, high)


def test_images_that_do_not_count_are_left_out():
    values, counts = np.full(100, np.nan), np.zeros(100)
    values[:30], counts[:30] = np.arange(30), np.repeat([1, 3], 15)  # a ratio of sums, not a mean of ratios
    values[30:49], counts[30:49] = 1, 1  # 19 of 25 back views count: too few
    result = slices(values, counts, {"pose": POSES})
    assert list(result["pose"]) == ["front"]
    assert result["pose"]["front"]["value"] == pytest.approx(435 / 60)
    assert result["pose"]["front"]["count"] == 30


def test_least_and_empty():
    assert list(slices(np.ones(100), None, {"pose": POSES}, least=5)["pose"]) == ["back", "front", "side"]
    assert slices([], None, {"pose": []}) == {}
