"""Views of test-time augmentation."""

from __future__ import annotations

import torch

from ftrain.data.config import Views
from ftrain.layers.affine import views_of


def test_views_are_the_image_its_enlargements_and_their_flips() -> None:
    image = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    image[:, 4:8, 20:24] = 250  # its center, (21.5, 5.5), is 6 right of and 10 above the center of the image
    views = views_of(image, Views(flip=True, scales=(1.25, 0.5)))
    assert all(view.dtype == torch.uint8 and view.shape == image.shape for view in views)
    assert torch.equal(views[0], image)
    places = []
    for view in views:
        bright = (view[0, ..., 0].float() - 128).clamp_min(0)
        y, x = ((bright.sum(dim) * torch.arange(32)).sum() / bright.sum() for dim in (1, 0))
        places.append([round(float(x), 1), round(float(y), 1)])
    assert places == [[21.5, 5.5], [9.5, 5.5], [23.0, 3.0], [8.0, 3.0], [18.5, 10.5], [12.5, 10.5]]
    assert (views[4][0, [0, -1]] == 128).all()  # gray outside a smaller image, as around a letterboxed one


def test_the_plain_view_is_the_image_itself() -> None:
    image = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    (view,) = views_of(image, Views())
    assert view is image
