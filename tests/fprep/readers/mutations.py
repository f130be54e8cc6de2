"""Mutations of a raw annotation file, each a function of its bytes and a random generator."""

from __future__ import annotations

import random
from collections.abc import Callable

ANNOTATION_SUFFIXES = {".txt", ".csv", ".json", ".tsv"}
NUMBERS = [
    b"-1",
    b"0",
    b"99999999999999999999",
    b"1e9",
    b"nan",
    b"inf",
    b"1_0",
    b"0x1F",
    b"\xd9\xa3",
    b"",
    b"-0",
    b"1.5",
    b"2147483648",
]
PATHS = [b"../../../etc/passwd", b"/etc/passwd", b"img/\0.jpg", b"img/" + b"a" * 10_000 + b".jpg", b"..\\x.jpg", b"file:///etc/passwd", b"~/x.jpg"]  # fmt: skip

Mutation = Callable[[bytes, random.Random], bytes]


def _flip_bytes(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 3])):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _on_line(change: Callable[[bytes, random.Random], list[bytes]]) -> Mutation:
    def mutate(content: bytes, draw: random.Random) -> bytes:
        lines = content.split(b"\n")
        number = draw.randrange(len(lines))
        lines[number : number + 1] = change(lines[number], draw)
        return b"\n".join(lines)

    return mutate


def _swap_lines(content: bytes, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def _token(values: list[bytes]) -> Mutation:
    """Replace one token by a strange value, whatever the separator."""

    def change(line: bytes, draw: random.Random) -> list[bytes]:
        separator = b"," if b"," in line else b" "
        tokens = line.split(separator)
        tokens[draw.randrange(len(tokens))] = draw.choice(values)
        return [separator.join(tokens)]

    return _on_line(change)


def _to_utf16(content: bytes, draw: random.Random) -> bytes:
    del draw
    return content.decode("utf-8", "replace").encode("utf-16")


MUTATIONS: dict[str, Mutation] = {
    "flip": _flip_bytes,
    "cut-file": lambda content, draw: content[: draw.randrange(len(content))],
    "cut-line": _on_line(lambda line, draw: [line[: draw.randrange(len(line) + 1)]]),
    "drop-line": _on_line(lambda line, draw: []),
    "double-line": _on_line(lambda line, draw: [line, line]),
    "swap-lines": _swap_lines,
    "number": _token(NUMBERS),
    "path": _token(PATHS),
    "add-column": _on_line(lambda line, draw: [line + draw.choice([b" 7", b",7", b" x", b"\t"])]),
    "insert-line": _on_line(
        lambda line, draw: [line, draw.choice([b"", b" ", b"garbage", b"\xff\xfe\x00", b"a,b,c", b"[{}]", b"{"])]
    ),
    "crlf": lambda content, draw: content.replace(b"\n", b"\r\n"),
    "bom": lambda content, draw: b"\xef\xbb\xbf" + content,
    "utf-16": _to_utf16,
    "latin-1": _on_line(lambda line, draw: [line + b"\xe9"]),
    "unicode-space": _on_line(lambda line, draw: [line.replace(b" ", "\u2028".encode(), 1)]),
    "deep": _on_line(lambda line, draw: [b"[" * 100_000]),
    "empty": lambda content, draw: b"",
}
