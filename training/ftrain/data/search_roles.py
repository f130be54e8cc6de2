"""Who is sought and who is searched: the roles of the images of a split when the same thing is to be found again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fschemas.splits import GALLERY_SPLITS, QUERY_SPLITS

BOTH, QUERY, GALLERY = 0, 1, 2  # an image is sought among the others, is sought only, is searched only
_ROLES = dict.fromkeys(QUERY_SPLITS, QUERY) | dict.fromkeys(GALLERY_SPLITS, GALLERY)


def role_of(annotation: dict[str, Any]) -> int:
    """The role of a sample in a search, by its split."""
    return _ROLES.get(annotation["split"], BOTH)


def has_match(images: Iterable[tuple[int, set[Any]]]) -> bool:
    """Whether an image that is sought shares one of its known values with another that is searched.

    `images` are roles and values; whoever generates them is asked for no more than it takes to find the first match.
    """
    asked, offered = set[Any](), set[Any]()
    for role, values in images:
        asks, offers = role != GALLERY, role != QUERY
        if (asks and values & offered) or (offers and values & asked):
            return True
        asked |= values if asks else set()
        offered |= values if offers else set()
    return False
