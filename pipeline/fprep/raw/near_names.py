"""What a conversion says of images that it found under another spelling than the annotation has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from fprep.raw.folder import RawFolder
from fprep.raw.image_names import HOW, difference_of

_MAX_COUNTED = 100_000  # names whose way of differing is looked at


def tell_near(raw: RawFolder, names: Mapping[str, str]) -> None:
    """Count and note images that were taken although their names differ; `names` are as annotated: as on the disk."""
    if not names:
        return
    kinds = Counter(HOW[difference_of(*pair)] for pair, _ in zip(names.items(), range(_MAX_COUNTED), strict=False))
    told = ", ".join(f"{count} by {kind}" for kind, count in sorted(kinds.items()))
    first, other = next(iter(names.items()))
    raw.notes.append(
        f"images whose names are spelled differently on the disk, but were found: {len(names)} ({told}), such as {first}, which "
        f"is {other}"
    )
    for name, path in names.items():
        raw.warn("near_image_name", f"{name} -> {path}")
