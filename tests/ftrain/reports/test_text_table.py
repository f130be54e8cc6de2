"""Text tables: column widths follow the cells."""

from ftrain.reports.text_table import aligned


def test_columns_are_as_wide_as_their_longest_cell_and_text_between_rows_does_not_count():
    rows = [["metric", "model", "baseline"], ["NE", "5.9%"], ["a line of text, longer than any cell"], ["", "1", "x"]]
    assert list(aligned(rows)) == [
        "metric  model  baseline",
        "NE      5.9%",
        "a line of text, longer than any cell",
        "        1      x",
    ]
    assert list(aligned([["only text"], [""]])) == ["only text", ""]
    assert list(aligned([])) == []
