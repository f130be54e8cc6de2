"""Headers of shards are those of the standard library."""

import tarfile

import pytest

from fschemas.names import LONGEST_KEY
from fschemas.shard import _header


@pytest.mark.parametrize("name", ["a.jpg", "Z" * LONGEST_KEY + ".json"])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 47_000, 8**11 - 1])
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    assert _header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)
