"""Triplet loss and proxy anchors: compared with pytorch-metric-learning, by hand, and in edge cases."""

import pytest
import torch
import torch.nn.functional as F

from ftrain.layers.metric_learning import ProxyAnchor, distances, triplet_loss, with_angular_margin

MARGIN = 0.3


def random_batch(seed, num=24, dim=8, classes=6):
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(num, dim, generator=generator)
    labels = torch.randint(0, classes, (num,), generator=generator)
    embedding = embedding + 0.8 * torch.randn(classes, dim, generator=generator)[labels]
    return embedding.requires_grad_(), labels


def their_distance(distance):
    from pytorch_metric_learning import distances as pml_distances

    if distance == "cosine":
        return pml_distances.CosineSimilarity()
    return pml_distances.LpDistance(normalize_embeddings=False)


def their_loss(embedding, labels, mining, distance):
    """The loss of pytorch-metric-learning for the same batch."""
    from pytorch_metric_learning import losses, miners, reducers

    metric = their_distance(distance)
    reducer = reducers.MeanReducer() if mining == "batch_hard" else reducers.AvgNonZeroReducer()
    loss = losses.TripletMarginLoss(margin=MARGIN, distance=metric, reducer=reducer)
    if mining == "batch_hard":
        return loss(embedding, labels, miners.BatchHardMiner(distance=metric)(embedding, labels))
    if mining == "all":
        return loss(embedding, labels)
    anchors, positives, negatives = miners.TripletMarginMiner(MARGIN, "semihard", distance=metric)(embedding, labels)
    apart = distances(embedding, distance).detach()
    nearest = {}  # for each anchor and positive, among the semi-hard negatives
    for anchor, positive, negative in zip(anchors.tolist(), positives.tolist(), negatives.tolist(), strict=True):
        best = nearest.get((anchor, positive))
        if best is None or apart[anchor, negative] < apart[anchor, best]:
            nearest[anchor, positive] = negative
    mined = torch.tensor([(*pair, negative) for pair, negative in nearest.items()]).T
    return loss(embedding, labels, tuple(mined))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard", "all"])
@pytest.mark.parametrize("seed", range(5))
def test_the_triplet_loss_is_that_of_pytorch_metric_learning(seed, mining, distance):
    embedding, labels = random_batch(seed)
    ours = triplet_loss(embedding, labels, margin=MARGIN, mining=mining, distance=distance)
    theirs = their_loss(embedding, labels, mining, distance)
    assert theirs > 0.01
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5)
    (gradient,) = torch.autograd.grad(ours, embedding)
    (expected,) = torch.autograd.grad(theirs, embedding)
    torch.testing.assert_close(gradient, expected, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_batch_hard_is_the_hardest_of_both_strategies(seed):
    from pytorch_metric_learning import losses, miners, reducers

    embedding, labels = random_batch(seed)
    metric = their_distance("cosine")
    miner = miners.BatchEasyHardMiner("hard", "hard", distance=metric)
    loss = losses.TripletMarginLoss(margin=MARGIN, distance=metric, reducer=reducers.MeanReducer())
    theirs = loss(embedding, labels, miner(embedding, labels))
    torch.testing.assert_close(triplet_loss(embedding, labels, margin=MARGIN), theirs, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("mining", "expected"),
    [
        ("batch_hard", (0.3 + 1.1 + 0.3) / 3),  # the last two images have no positive
        ("semi_hard", 0.1),  # the first anchor with the second image, and the negative at -1.1
        ("all", (0.1 + 0.3 + 1.1 + 0.9 + 0.3) / 5),
    ],
)
def test_a_worked_case(mining, expected):
    """Images of items 0, 0, 0, 1, 2 on a line; their distances are differences."""
    places, labels = torch.tensor([[0.0], [1.0], [0.2], [-1.1], [0.9]]), torch.tensor([0, 0, 0, 1, 2])
    loss = triplet_loss(places, labels, margin=0.2, mining=mining, distance="euclidean")
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard", "all"])
def test_unknown_labels_take_no_part(mining):
    embedding, labels = random_batch(0)
    extra = torch.cat([embedding.detach(), torch.randn(5, 8)])
    unknown = torch.cat([labels, torch.full((5,), -1)])
    whole = triplet_loss(extra, unknown, mining=mining)
    torch.testing.assert_close(whole, triplet_loss(embedding, labels, mining=mining))
    assert triplet_loss(extra, torch.full((29,), -1), mining=mining) == 0


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard", "all"])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 2, 3], [-1, -1, -1, -1], [0, 0, 1, -1]])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_embeddings_have_a_finite_gradient(labels, value, mining, distance):
    embedding = torch.full((4, 3), value, requires_grad=True)
    loss = triplet_loss(embedding, torch.tensor(labels), mining=mining, distance=distance)
    loss.backward()
    assert torch.isfinite(loss)
    assert embedding.grad is not None
    assert torch.isfinite(embedding.grad).all()
    if mining == "batch_hard" and labels == [0, 0, 1, 1]:
        assert loss.item() == pytest.approx(0.2, abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_proxy_anchors_are_those_of_pytorch_metric_learning(seed):
    from pytorch_metric_learning import losses

    embedding, labels = random_batch(seed)
    ours, theirs = ProxyAnchor(9, 8), losses.ProxyAnchorLoss(9, 8, margin=0.1, alpha=32)
    theirs.proxies.data = ours.proxies.detach().clone()
    loss, expected = ours(embedding, labels), theirs(embedding, labels)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    for mine, their in ((embedding, embedding), (ours.proxies, theirs.proxies)):
        (gradient,) = torch.autograd.grad(loss, mine, retain_graph=True)
        (wanted,) = torch.autograd.grad(expected, their, retain_graph=True)
        torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-4)


def test_proxy_anchors_leave_unknown_labels_out_and_stay_finite():
    embedding, labels = random_batch(0)
    proxies = ProxyAnchor(6, 8)
    extra = torch.cat([embedding.detach(), torch.randn(3, 8)])
    mixed = proxies(extra, torch.cat([labels, torch.full((3,), -1)]))
    torch.testing.assert_close(mixed, proxies(embedding, labels))
    equal = torch.zeros(4, 8, requires_grad=True)
    for given in ([-1, -1, -1, -1], [0, 0, 0, 0], [0, 1, 2, 3]):
        loss = proxies(equal, torch.tensor(given))
        loss.backward()
        assert torch.isfinite(loss)
        assert equal.grad is not None
        assert torch.isfinite(equal.grad).all()


@pytest.mark.slow
@pytest.mark.parametrize("mining", ["batch_hard", "semi_hard", "all"])
def test_they_compile_in_one_piece_and_hold_under_bf16(mining):
    embedding, labels = random_batch(1)

    def both(vectors, items):
        return triplet_loss(vectors, items, mining=mining) + F.softplus(
            triplet_loss(vectors, items, distance="euclidean")
        )

    plain = both(embedding, labels)
    torch.testing.assert_close(torch.compile(both, backend="aot_eager", fullgraph=True)(embedding, labels), plain)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(both(embedding, labels), plain)


def test_a_margin_is_added_to_the_angle_of_the_true_class():
    angles = torch.tensor([[0.3, 1.0, 2.0]])
    true = torch.tensor([[False, True, False]])
    found = with_angular_margin(angles.cos(), true, 0.5)
    torch.testing.assert_close(found, torch.tensor([[0.3, 1.5, 2.0]]).cos())


def test_proxies_are_cut_to_the_dimensions_of_the_embedding():
    torch.manual_seed(0)
    loss, (embedding, labels) = ProxyAnchor(6, 8), random_batch(0)
    cut = ProxyAnchor(6, 5)
    cut.proxies.data = loss.proxies.data[:, :5]
    torch.testing.assert_close(loss(embedding[:, :5], labels), cut(embedding[:, :5], labels))
