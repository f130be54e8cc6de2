"""The same raw tree gives the same shards, whatever changes in the code: a digest of every tar of every tiny tree.

A digest may change only with an intended change of content, together with `fprep.shard.plan.CONTENT_VERSION` or the
reader's version.
"""

import hashlib
import json
from pathlib import Path

import pytest
from tests.trees import tree_of

from fprep.convert.command import convert
from fprep.readers.registry import readers
from fprep.shard.command import shard

DIGESTS = json.loads(Path(__file__).with_name("digests.json").read_text())


@pytest.mark.parametrize("name", readers())
def test_shards_are_those_of_the_golden_digests(name, tmp_path):
    convert(name, [tree_of(name)], tmp_path / "table", max_rejected=1.0, workers=1)
    shard(tmp_path / "table", tmp_path / "shards", workers=1)
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted((tmp_path / "shards").glob("*.tar"))
    }
    assert found == DIGESTS[name]
