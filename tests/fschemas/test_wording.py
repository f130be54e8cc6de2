"""Counts with singular and plural."""

from fschemas.wording import are, count


def test_one_is_singular_and_thousands_are_grouped():
    assert [count(number, "image") for number in (0, 1, 1234)] == ["0 images", "1 image", "1,234 images"]
    assert count(2, "query", "queries") == "2 queries"
    assert count(7) == "7"


def test_the_verb_agrees_with_the_count():
    assert [are(number) for number in (0, 1, 2)] == ["are", "is", "are"]
