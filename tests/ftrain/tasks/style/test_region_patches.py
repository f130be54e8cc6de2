"""RPF: attention over the patches of the attended square, and the contrast with patches and background."""

import math

import pytest
import torch
import torch.nn.functional as F
from tests.shard_sets import LABELS

from fschemas.failures import UsageError
from ftrain.tasks.style.attention import AttributeAttention
from ftrain.tasks.style.config import StyleConfig
from ftrain.tasks.style.region_patches import PatchAttention, foreground_contrast
from ftrain.tasks.style.task import Style


def test_the_attribute_chooses_among_the_patches():
    torch.manual_seed(0)
    head = PatchAttention(128, 16, 32).eval()
    features, attributes = torch.randn(2, 128, 3, 5), torch.randn(2, 4, 16)
    embedding, maps = head(features, attributes)
    assert embedding.shape == (2, 4, 32)
    assert maps.shape == (2, 4, 3, 5)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(2, 4))
    shuffled = torch.randperm(15)
    again, moved = head(features.flatten(2)[:, :, shuffled].unflatten(2, (3, 5)), attributes)
    torch.testing.assert_close(again, embedding, rtol=1e-4, atol=1e-4)  # a set of patches, whatever their order
    torch.testing.assert_close(moved.flatten(2), maps.flatten(2)[:, :, shuffled])
    assert not torch.allclose(embedding[:, 0], embedding[:, 1], atol=1e-2)


def test_the_background_is_the_embedding_of_all_other_cells():
    torch.manual_seed(0)
    attention = AttributeAttention(8, 4, 8, 6)
    features, attributes = torch.randn(1, 8, 2, 2), torch.randn(1, 1, 4)
    only_first = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    rest = torch.tensor([[[0.0, 1.0, 1.0, 1.0]]]) / 3
    expected = attention._embedded(features, rest, attributes)
    torch.testing.assert_close(attention.background(features, only_first, attributes), expected)


def test_the_contrast_is_the_loss_of_the_paper():
    """By loops over pairs, for four images of which the last has no known value."""
    torch.manual_seed(0)
    regions, patches, background = torch.randn(3, 4, 8).unbind()
    attributes, values = torch.tensor([0, 0, 1, 0]), torch.tensor([2, 2, 2, -1])

    def alike(one, other):
        return math.exp(float(F.cosine_similarity(one, other, dim=0)) / 0.07)

    costs = []
    for i in range(3):
        same = [j for j in range(3) if attributes[j] == attributes[i]]
        numerator = sum(alike(regions[i], patches[j]) for j in same if values[j] == values[i])
        denominator = sum(alike(regions[i], patches[j]) for j in range(3))
        denominator += 12 * sum(alike(regions[i], background[j]) for j in same)
        costs.append(math.log(denominator / numerator))
    found = foreground_contrast(regions, patches, background, attributes, values)
    assert float(found) == pytest.approx(sum(costs) / 3, rel=1e-4)


def test_the_contrast_of_unknown_values_is_zero_with_finite_gradients():
    vectors = torch.randn(3, 4, 8, requires_grad=True)
    for values in (torch.full((4,), -1), torch.tensor([0, -1, -1, 1])):
        loss = foreground_contrast(*vectors.unbind(), torch.zeros(4, dtype=torch.int64), values)
        (gradient,) = torch.autograd.grad(loss, vectors)
        assert gradient.isfinite().all()
        assert (float(loss.detach()) == 0) == (values.max() < 0)


def test_the_contrast_needs_the_local_branch():
    with pytest.raises(UsageError, match=r"set model\.local_backbone"):
        Style(StyleConfig(target="attributes", contrast_loss_weight=0.1), {"vocabularies": LABELS})


def test_a_vision_transformer_encodes_the_patches():
    """As published: tokens of the attended square, on which one attribute per image is the query."""
    config = StyleConfig(
        target="attributes", backbone="test_efficientnet", input_size=64, embedding_dim=32, attribute_dim=16,
        local_backbone="test_vit", local_input_size=64, local_head="patches", contrast_loss_weight=0.04,
    )  # fmt: skip
    task = Style(config, {"vocabularies": LABELS})
    values = torch.tensor([[0, 1, -1], [0, -1, 2], [1, 1, 2], [1, 0, 0]])
    image = torch.randint(0, 255, (4, 128, 128, 3), dtype=torch.uint8)
    batch = {"image": image, "values": values, "local_attribute": torch.tensor([0, 0, 1, 1])}
    parts = task(batch)
    parts["contrast"].backward()
    assert float(parts["contrast"].detach()) > 0
    assert task.local is not None
    assert all(parameter.grad is not None for parameter in task.local.parameters())
    assert task.attribute_vectors.grad is not None
