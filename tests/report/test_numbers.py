"""A figure for people, by hand."""

import math

import pytest

from rayfed.report.numbers import shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (2.0, "2"),
        (0.91234, "0.912"),
        (1.005, "1.00"),
        (-4.567, "-4.57"),
        (47.54, "47.5"),
        (47.625, "47.6"),
        (999.94, "999.9"),
        (1086.4, "1,086"),
        (1234567.0, "1,234,567"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
    ],
)
def test_a_figure_has_a_sensible_number_of_digits(value, text):
    assert shown(value) == text
