"""Lines of annotation files, in memory and on disk."""

import random

import pytest

import fprep.raw.file
from fprep.raw.file import RawFile
from fschemas.failures import UsageError


@pytest.mark.parametrize("line_end", [b"\n", b"\r"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_lines_of_a_file_on_disk_are_those_in_memory(tmp_path, monkeypatch, in_memory, line_end):
    monkeypatch.setattr(fprep.raw.file, "MAX_LINE", 40)
    monkeypatch.setattr(fprep.raw.file, "BLOCK", 64)
    monkeypatch.setattr(fprep.raw.file, "MAX_IN_MEMORY", 1 << 20 if in_memory else 0)
    random_number = random.Random(0)
    for _ in range(300):
        lines = [
            b"x" * random_number.choice([0, 1, 5, 20, 63, 64, 65, 200]) for _ in range(random_number.randint(1, 12))
        ]
        content = b"\n".join(lines) + random_number.choice([b"", b"\n"]) or b"\n"
        lines_in_a_block = b"\n" in content[:64].rstrip(b"\n")
        (tmp_path / "a.txt").write_bytes(content.replace(b"\n", line_end) if lines_in_a_block else content)
        file = RawFile(tmp_path / "a.txt", "a.txt")
        assert file.has_cr == (lines_in_a_block and line_end == b"\r")
        expected = content.removesuffix(b"\n").split(b"\n")
        assert [file.line(number + 1).content for number in range(len(file))] == [line[:41] for line in expected]
        assert [file.line(number + 1).offset for number in range(len(file))] == [
            sum(len(line) + 1 for line in expected[:number]) for number in range(len(expected))
        ]


def test_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(fprep.raw.file, "MAX_IN_MEMORY", 0)
    (tmp_path / "a.txt").write_bytes(b"img/A/1.jpg 1\n" * 10)
    file = RawFile(tmp_path / "a.txt", "a.txt")
    (tmp_path / "a.txt").write_bytes(b"img/A/1.jpg 1\n")
    with pytest.raises(ValueError, match=r"a\.txt: the file changed while it was read"):
        file.line(1)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a\rb\r", [b"a", b"b"]),
        (b"a\rb\r\n", [b"a", b"b"]),  # and a final LF, as some editors add it
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\rb\nc", [b"a\rb", b"c"]),  # a CR in a file with LF line ends is not a line end
        (b"\xef\xbb\xbfa\rb", [b"a", b"b"]),
        (b"a\r", [b"a"]),
    ],
)
def test_a_line_ends_in_cr_where_there_is_no_lf(tmp_path, content, lines):
    (tmp_path / "a.txt").write_bytes(content)
    file = RawFile(tmp_path / "a.txt", "a.txt")
    assert [line.content for line in file.lines()] == lines
    assert len(file) == len(lines) + file.accounts["blank"]


def test_utf_16_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "a b.txt").write_bytes("image,label\r\n".encode("utf-16"))
    with pytest.raises(
        UsageError, match=r"UTF-8 text was expected; save it as UTF-8 \(`iconv -f UTF-16 -t UTF-8 'a b.txt'`"
    ):
        RawFile(tmp_path / "a b.txt", "a b.txt")
