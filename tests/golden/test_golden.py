"""The same raw tree gives the same shards, whatever changes in the code: a digest of every tar of every tiny tree.

The digests are in the tree's `expected.json`. They may change only with an intended change of content, together with
`fprep.shard.plan.CONTENT_VERSION` or the reader's version.
"""

import json

import pytest
from tests.trees import shard_digests, tree_of

from fprep.convert.command import convert
from fprep.readers.registry import readers


@pytest.mark.parametrize("name", readers())
def test_shards_are_those_of_the_golden_digests(name, tmp_path):
    convert(name, [tree_of(name)], tmp_path / "table", max_rejected=1.0, workers=1)
    expected = json.loads((tree_of(name) / "expected.json").read_text())
    assert shard_digests(tmp_path / "table", tmp_path / "shards") == expected["shards"]
