"""How messages are worded."""

import pytest

from rayfed.errors import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "round", "0 rounds"),
        (1, "round", "1 round"),
        (2, "round", "2 rounds"),
        (1, "class", "1 class"),
        (10, "class", "10 classes"),
        (1, "more such event", "1 more such event"),
    ],
)
def test_a_count_reads_right_for_one_and_for_more(number, noun, text):
    assert counted(number, noun) == text
