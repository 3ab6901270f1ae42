"""What pages have in common."""

from eval.pages.markdown import table, with_interval


def test_an_estimate_is_shown_with_its_interval() -> None:
    assert with_interval(0.0123, (-0.0031, 0.0274)) == "+1.2 (-0.3 to +2.7)"
    assert with_interval(2.5, (1.0, 4.0), ".2f", scale=1) == "2.50 (1.00 to 4.00)"
    assert with_interval(0.029, (0.02, 0.041), ".1f", unit=" %") == "2.9 % (2.0 to 4.1)"


def test_what_rounds_to_nothing_is_not_negative() -> None:
    assert with_interval(-1e-9, (-0.0001, 0.0)) == "+0.0 (+0.0 to +0.0)"
    assert with_interval(-0.00001, (-0.01, 0.01), ".3f", scale=1) == "0.000 (-0.010 to 0.010)"


def test_a_table_has_a_line_for_each_row() -> None:
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
