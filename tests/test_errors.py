"""How messages are worded."""

import pytest

from rayfed.errors import counted, mask


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


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql+psycopg://ann:secret@host:5432/runs", "postgresql+psycopg://ann:***@host:5432/runs"),
        ("postgresql://ann:se:cr/et@host/runs", "postgresql://ann:***@host/runs"),
        ("http://:secret@host:5000", "http://:***@host:5000"),
        ("postgresql://ann@host/runs", "postgresql://ann@host/runs"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
        ("http://host:5000/ui", "http://host:5000/ui"),
        (3, 3),
    ],
)
def test_a_url_is_shown_without_its_password(url, text):
    assert mask(url) == text
