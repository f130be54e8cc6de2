"""Cells of CSV files: no formulas for spreadsheets, numbers as numbers, and lossless text."""

import csv
import io
import random
import re

import pytest

from ftrain.data.csv_text import csv_bytes, plain_text, safe_text

FORMULAS = (
    "=cmd|calc!A1", "@SUM(1)", "+1+1", "-2+3", "\t=1", "\r=1", "\n=1", "  =1", "\u00a0=1", "\u200b@x", "\ufeff=1", "two\n=lines", "two\r\n+1",
    "\uff1d1", "-", "\tplain", "'=1", "''@x", "\x1c=1", "a\n\u00a0 -b", "-1_-1",
)  # fmt: skip
PLAIN = (
    "Dress", "T-shirt", "a=b", "mail@example.org", "-1.5", "+3", "-1e-05", ".5", "'quoted'", "", "a\nb", 'say "hi"', "1-2", "바지", "it's", "'",
)  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text(text):
    cell = safe_text(text)
    assert cell != text
    assert all(line.lstrip("\u00a0\u200b\ufeff \t\x1c")[:1] not in {*"=+-@\uff1d"} for line in re.split("[\r\n]", cell))
    assert cell[:1] not in {*"=+-@\t\r\n"}
    assert plain_text(cell) == text


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_formula_stays(text):
    assert safe_text(text) == text
    assert plain_text(text) == text


def test_every_text_comes_back():
    generator = random.Random(0)
    for _ in range(20_000):
        text = "".join(generator.choices("''=-+@\t\r\n \u00a0\x1ca1.", k=generator.randrange(8)))
        assert plain_text(safe_text(text)) == text


def test_a_table_comes_back_with_numbers_as_numbers():
    rows = [[text, -1.5, -3] for text in (*FORMULAS, *PLAIN)]
    content = csv_bytes(["=name", "value", "count"], rows)
    header, *cells = csv.reader(io.StringIO(content.decode(), newline=""))
    assert header == ["'=name", "value", "count"]
    assert [[plain_text(one), float(two), int(three)] for one, two, three in cells] == rows
    assert b",-1.500000,-3\n" in content
