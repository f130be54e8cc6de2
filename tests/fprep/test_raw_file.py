"""Lines of annotation files, in memory and on disk."""

import random

import pytest

import fprep.parsing.raw_file
from fprep.parsing.raw_file import RawFile


@pytest.mark.parametrize("in_memory", [True, False])
def test_lines_of_a_file_on_disk_are_those_in_memory(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(fprep.parsing.raw_file, "MAX_LINE", 40)
    monkeypatch.setattr(fprep.parsing.raw_file, "BLOCK", 64)
    monkeypatch.setattr(fprep.parsing.raw_file, "MAX_IN_MEMORY", 1 << 20 if in_memory else 0)
    random_number = random.Random(0)
    for _ in range(300):
        lines = [b"x" * random_number.choice([0, 1, 5, 20, 63, 64, 65, 200]) for _ in range(random_number.randint(1, 12))]
        content = b"\n".join(lines) + random_number.choice([b"", b"\n"]) or b"\n"
        (tmp_path / "a.txt").write_bytes(content)
        file = RawFile(tmp_path / "a.txt", "a.txt")
        expected = content.removesuffix(b"\n").split(b"\n")
        assert [file.line(number + 1).content for number in range(len(file))] == [line[:41] for line in expected]
        assert [file.line(number + 1).offset for number in range(len(file))] == [
            sum(len(line) + 1 for line in expected[:number]) for number in range(len(expected))
        ]


def test_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(fprep.parsing.raw_file, "MAX_IN_MEMORY", 0)
    (tmp_path / "a.txt").write_bytes(b"img/A/1.jpg 1\n" * 10)
    file = RawFile(tmp_path / "a.txt", "a.txt")
    (tmp_path / "a.txt").write_bytes(b"img/A/1.jpg 1\n")
    with pytest.raises(ValueError, match=r"a\.txt: the file changed while it was read"):
        file.line(1)
