"""Feature pooling and activation maps."""

import torch

from ftrain.tasks.retrieval.pooling import GeneralizedMean, activation_map


def test_generalised_means_stand_between_average_and_maximum() -> None:
    features = torch.rand(2, 5, 3, 4) + 0.1
    torch.testing.assert_close(GeneralizedMean(1.0)(features), features.mean(dim=(2, 3)))
    torch.testing.assert_close(GeneralizedMean(200.0)(features), features.amax(dim=(2, 3)), rtol=0.02, atol=0)
    torch.testing.assert_close(GeneralizedMean(2.0)(features), features.square().mean(dim=(2, 3)).sqrt())
    dead = torch.zeros(1, 5, 3, 3, requires_grad=True)
    GeneralizedMean()(dead).sum().backward()
    assert dead.grad is not None
    assert torch.isfinite(dead.grad).all()


def test_strength_is_a_share_and_flat_maps_have_none() -> None:
    features = torch.zeros(2, 3, 4, 4)
    features[0, :, 1, 2] = torch.tensor([3.0, 0.0, -4.0])
    features[1] = 7.0
    found = activation_map(features)
    assert (found[0].max(), found[0, 1, 2], found[0].sum()) == (1.0, 1.0, 1.0)
    assert not found[1].any()
