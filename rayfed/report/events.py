"""Events as sentences, and a run's events as CSV."""

import csv
from collections.abc import Iterable
from pathlib import Path

from rayfed.events import ClientFailed, ClientLeftOut, ClientMoved, DeviceDrifted, DevicesBack, Event, Note


def sentence(event: Event) -> str:
    """What an event tells, in a line."""
    match event:
        case DevicesBack(devices):
            return f"{_names(devices)} {'is' if len(devices) == 1 else 'are'} back"
        case ClientMoved(client, devices):
            return f"client {client} moves to {_names(devices)}"
        case ClientLeftOut(client, seconds):
            return f"client {client} is left out: the slowest, {seconds:.3g} s a step"
        case ClientFailed():
            return _failure(event)
        case DeviceDrifted(device, slowness):
            return f"{device} computes in {slowness:.3g} times its profile's seconds"
        case Note(text):
            return text
    return str(event)


def _failure(event: ClientFailed) -> str:
    what = f"client {event.client} {f'lost {_names(event.lost)}' if event.lost else event.fault}"
    if event.batch is None:
        return f"{what} after the last batch: what it learnt is lost"
    outcome = f"begins again on {_names(event.devices)}" if event.devices else "sits out"
    return f"{what} in batch {event.batch}: {outcome}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)


def events_csv(events: Iterable[tuple[int, Event]], path: Path) -> Path:
    """Save a row per event: the round, and what happened."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["round", "event"])
        writer.writerows((round, sentence(event)) for round, event in events)
    return path
