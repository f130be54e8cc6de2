"""Values of steps are read in order, and not before they have to be."""

import torch

from ftrain.fit.step_values import StepValues


def test_values_are_read_in_order_until_enough_are_left() -> None:
    values = StepValues()
    for step in range(5):
        values.add(step, ("loss", "triplet"), torch.tensor([step + 0.5, 2.0]))
    assert list(values.read(keep=8)) == []
    assert [step for step, _ in values.read(keep=2)] == [0, 1, 2]
    assert list(values.read()) == [(3, {"loss": 3.5, "triplet": 2.0}), (4, {"loss": 4.5, "triplet": 2.0})]
    assert list(values.read()) == []
