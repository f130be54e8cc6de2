"""Roles of the images of a split in retrieval: query, gallery, or both."""

from collections.abc import Iterable
from typing import Any

from fschemas.splits import GALLERY_SPLITS, QUERY_SPLITS

BOTH, QUERY, GALLERY = 0, 1, 2  # roles: query and gallery, query only, gallery only
_ROLES = dict.fromkeys(QUERY_SPLITS, QUERY) | dict.fromkeys(GALLERY_SPLITS, GALLERY)


def role_of(annotation: dict[str, Any]) -> int:
    """Retrieval role of a sample, determined by its split."""
    return _ROLES.get(annotation["split"], BOTH)


def has_match(images: Iterable[tuple[int, set[Any]]]) -> bool:
    """Whether any query shares one of its known values with another image of the gallery.

    `images` yields roles and values; it is consumed only up to the first match.
    """
    query_values, gallery_values = set[Any](), set[Any]()
    for role, values in images:
        is_query, is_gallery = role != GALLERY, role != QUERY
        if (is_query and values & gallery_values) or (is_gallery and values & query_values):
            return True
        query_values |= values if is_query else set()
        gallery_values |= values if is_gallery else set()
    return False
