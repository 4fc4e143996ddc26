"""Typed events: through JSON and back, and what each of them says to people."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rayfed.events import KINDS, Event, Note, from_json
from rayfed.methods.fsl_gan.events import ClientFailed, ClientLeftOut, ClientMoved, DeviceDrifted, DevicesBack
from rayfed.methods.iotsl.events import BudgetSpent, Paired, WithoutGenerator
from rayfed.report.events import events_csv

TOLD = [
    (DevicesBack(("a/1",)), "a/1 is back"),
    (DevicesBack(("a/1", "b/0")), "a/1, b/0 are back"),
    (ClientMoved("a", ("a/0",)), "client a moves to a/0"),
    (ClientMoved("home", ("home/tv", "home/phone")), "client home moves to home/tv, home/phone"),
    (ClientLeftOut("a", 1.23456), "client a is left out: the slowest, 1.23 s a step"),
    (ClientLeftOut("a", 1234.5), "client a is left out: the slowest, 1.23e+03 s a step"),
    (
        ClientFailed("a", ("a/1",), "", 1, ("a/0", "a/2")),
        "client a lost a/1 in batch 1: begins again on a/0, a/2",
    ),
    (ClientFailed("a", ("a/1", "a/0"), "lost a reply", 7, ()), "client a lost a/1, a/0 in batch 7: sits out"),
    (
        ClientFailed("a", (), "missed method.deadline_s", 2, ()),
        "client a missed method.deadline_s in batch 2: sits out",
    ),
    (
        ClientFailed("a", ("a/1",), "lost a reply", None, ()),
        "client a lost a/1 after the last batch: what it learnt is lost",
    ),
    (
        ClientFailed("a", (), "sent values that are not finite", None, ()),
        "client a sent values that are not finite after the last batch: what it learnt is lost",
    ),
    (DeviceDrifted("b/0", 3.8349), "b/0 computes in 3.83 times its profile's seconds"),
    (DeviceDrifted("b/0", 1 / 3), "b/0 computes in 0.333 times its profile's seconds"),
    (
        Paired(0, (3,), (2,), 600),
        "device 0 lacks class 3: 600 samples are drawn by the generator of device 2",
    ),
    (
        Paired(4, (3, 5), (1, 2), 1200),
        "device 4 lacks classes 3, 5: 1200 samples are drawn by the generators of devices 1, 2",
    ),
    (BudgetSpent((2.5, 2.5), 1e-5), "the generators have spent epsilon 2.5 at delta 1e-05"),
    (BudgetSpent((2.5, 31.25), 1e-5), "the generators have spent epsilon 2.5 to 31.25 (device 1) at delta 1e-05"),
    (
        BudgetSpent((2.5, 2.5), 1e-5, (0, 1)),
        "the generators have spent epsilon 2.5 at delta 1e-05; it allows devices 0, 1 no further step",
    ),
    (
        WithoutGenerator((3,)),
        "no generator has come from device 3: nothing is drawn by it, and it gets no missing classes",
    ),
    (
        WithoutGenerator((1, 3)),
        "no generator has come from devices 1, 3: nothing is drawn by them, and they get no missing classes",
    ),
    (Note("the attic, at noon: hot"), "the attic, at noon: hot"),
]


@pytest.mark.parametrize(("event", "text"), TOLD)
def test_what_an_event_tells(event: Event, text: str) -> None:
    assert event.sentence() == text


@pytest.mark.parametrize("event", [event for event, _ in TOLD])
def test_an_event_survives_json(event: Event) -> None:
    """Its type too: two events that only differ in that are two."""
    data = json.loads(json.dumps(event.to_json(), allow_nan=False))
    again = from_json(data)
    assert (type(again), again) == (type(event), event)
    assert data["kind"] == event.kind


def test_json_by_hand() -> None:
    assert ClientFailed("a", ("a/1",), "", None, ()).to_json() == {
        "kind": "client-failed",
        "client": "a",
        "lost": ("a/1",),
        "fault": "",
        "batch": None,
        "devices": (),
    }
    assert from_json({"kind": "devices-back", "devices": ["a/1", "b/0"]}) == DevicesBack(("a/1", "b/0"))


def test_every_kind_of_rayfeds_is_tried_here_and_names_itself() -> None:
    """Other tests have kinds of their own."""
    ours = {kind: event for kind, event in KINDS.items() if event.__module__.startswith("rayfed.")}
    assert {type(event) for event, _ in TOLD} == set(ours.values())
    assert {kind: event.kind for kind, event in ours.items()} == {kind: kind for kind in ours}


def test_an_event_of_a_methods_own_says_at_least_its_fields_and_comes_back() -> None:
    @dataclass(frozen=True)
    class Sold(Event):
        kind: ClassVar[str] = "sold"
        price: int

    assert "Sold(price=3)" in Sold(3).sentence()
    assert from_json(Sold(3).to_json()) == Sold(3)


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "sold-out", "stall": "Käse", "hours": [9, 12.5]},  # of a package that is not there any more
        {"kind": "devices-back", "phones": ["a/1"]},  # of another version
        {"text": "of no kind"},
    ],
)
def test_an_event_that_nobody_knows_is_a_note_of_its_json(data: dict[str, Any]) -> None:
    event = from_json(data)
    assert isinstance(event, Note)
    assert json.loads(event.sentence()) == data


def test_an_event_without_a_kind_of_its_own_is_refused_where_it_is_defined() -> None:
    """It would be read as, or instead of, the one that it derives from."""
    with pytest.raises(TypeError, match="Shout must have a kind of its own"):
        type("Shout", (Note,), {})
    assert from_json({"kind": "note", "text": "hot"}) == Note("hot")


def test_events_as_csv(tmp_path: Path) -> None:
    """A comma in a sentence is in its cell, and the rows are in the order given."""
    events = [(3, DevicesBack(("a/1", "b/0"))), (3, Note('he said "no"')), (1, DeviceDrifted("b/0", 2.0))]
    path = events_csv(events, tmp_path / "events.csv")
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["round", "event"],
            ["3", "a/1, b/0 are back"],
            ["3", 'he said "no"'],
            ["1", "b/0 computes in 2 times its profile's seconds"],
        ]
