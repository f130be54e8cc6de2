"""Outputs named after arbitrary text stay inside their folder."""

import random

import pytest

from fschemas.names import output_name, output_path


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("s00001", "s00001"),
        ("shop/red dress", "shop/red dress"),
        ("바지.2", "바지.2"),
        ("../../pwned", "_./_./pwned"),
        ("/etc/passwd", "etc/passwd"),
        ("a/./b//c", "a/b/c"),
        (".hidden", "_hidden"),
        ("", "_"),
        ("..", "_."),
        ("a\0b\n", "a_b_"),
    ],
)
def test_places(tmp_path, name, place):
    assert output_path(tmp_path, name, ".jpg") == tmp_path / f"{place}.jpg"


def test_any_name_is_inside_and_can_be_written(tmp_path):
    generator = random.Random(0)
    for number in range(300):
        name = "".join(generator.choices("../\\~\0\n -a\u2028é", k=generator.randrange(12)))
        path = output_path(tmp_path / str(number), name, ".jpg")
        assert path.resolve().is_relative_to(tmp_path / str(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_long_names_are_cut_and_differ():
    one, other = output_name("바" * 300 + "a"), output_name("바" * 300 + "b")
    assert one != other
    assert len(one.encode()) <= 200
    assert output_name("a" * 200) == "a" * 200
