import os

import pytest

from fschemas.failures import UsageError
from fschemas.regular_file import open_regular, read_regular


def test_reads_a_regular_file_and_a_link_to_one(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file", 3) == read_regular(tmp_path / "link", 3) == b"abc"
    with pytest.raises(UsageError, match="larger than the limit of 2 bytes"):
        read_regular(tmp_path / "file", 2)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(os.mkfifo, "a pipe"), (os.mkdir, "a folder"), (lambda path: path.symlink_to("/dev/zero"), "a device")],
)
def test_anything_else_is_refused_without_waiting(tmp_path, make, kind):
    make(tmp_path / "entry")
    with pytest.raises(UsageError, match=kind):
        open_regular(tmp_path / "entry")
