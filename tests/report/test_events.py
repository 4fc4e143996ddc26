"""Events in words: sentences by hand, through the store's JSON and back, and as CSV."""

import csv
import json

import pytest

from rayfed.events import Note, from_json
from rayfed.methods.fsl_gan.events import ClientFailed, ClientLeftOut, ClientMoved, DeviceDrifted, DevicesBack
from rayfed.report.events import events_csv

SENTENCES = [
    (DevicesBack(("a/1",)), "a/1 is back"),
    (DevicesBack(("a/1", "b/0")), "a/1, b/0 are back"),
    (ClientMoved("a", ("a/0", "a/2")), "client a moves to a/0, a/2"),
    (ClientLeftOut("a", 0.123456), "client a is left out: the slowest, 0.123 s a step"),
    (
        ClientFailed("a", ("a/1",), "lost a reply", 3, ("a/0", "a/2")),
        "client a lost a/1 in batch 3: begins again on a/0, a/2",
    ),
    (ClientFailed("b", ("b/0", "b/1"), "", 2, ()), "client b lost b/0, b/1 in batch 2: sits out"),
    (
        ClientFailed("b", (), "missed method.deadline_s", 1, ("b/0",)),
        "client b missed method.deadline_s in batch 1: begins again on b/0",
    ),
    (
        ClientFailed("a", ("a/1",), "", None, ()),
        "client a lost a/1 after the last batch: what it learnt is lost",
    ),
    (DeviceDrifted("b/0", 3.8251), "b/0 computes in 3.83 times its profile's seconds"),
    (Note("as an old store told it"), "as an old store told it"),
]


@pytest.mark.parametrize(("event", "text"), SENTENCES)
def test_an_event_is_a_sentence(event, text):
    assert event.sentence() == text


@pytest.mark.parametrize("event", [event for event, _ in SENTENCES])
def test_an_event_comes_back_from_json(event):
    assert from_json(json.loads(json.dumps(event.to_json()))) == event


def test_the_csv_has_a_row_per_event(tmp_path):
    path = events_csv([(2, SENTENCES[0][0]), (3, SENTENCES[1][0])], tmp_path / "events.csv")
    with path.open() as file:
        assert list(csv.reader(file)) == [["round", "event"], ["2", "a/1 is back"], ["3", "a/1, b/0 are back"]]
