"""Ledgers and clocks in seconds and megabits, for the tests."""

from rayfed.config.simulation import Cell, Lan, Profile, Twin, Wired
from rayfed.fleet.ledger import Call, Event, Input, Ledger, Work
from rayfed.seeding import SERVER
from rayfed.twin.clock import Clock, Times

GIGA = Profile(flops_per_s=1e9)
S = 10**9
"""Operations of one second of a device, and of the server, below."""
MBIT = 125_000
"""Bytes of a megabit."""


def clock(
    network: Lan | Wired | Cell, *profiles: Profile, devices: int = 10, compute: float = 1, **twin: object
) -> Clock:
    section = Twin(devices=list(profiles) or [GIGA], server=GIGA, network=network, **twin)
    return Clock(section, devices, seed=5, compute=[compute] * devices)


def replay(clock: Clock, *events: Event) -> Times:
    return clock.replay(Ledger(list(events)), 0, clock.start())[0]


def model(mbit: float) -> dict[str, int]:
    """A payload of so many Mbit, by kind."""
    return {"model": round(mbit * MBIT)}


def call(id: int, device: int, seconds: float, *inputs: Input, reply: float = 0) -> Call:
    """A call of so many seconds at 1e9 operations a second, with a reply of so many Mbit."""
    return Call(id, device, "train", 0.0, round(seconds * S), inputs, model(reply))


def shared(mbit: float, handle: int = 1) -> Input:
    return Input(SERVER, model(mbit), handle=handle)


def reply_of(call: int, device: int, mbit: float) -> Input:
    return Input(device, model(mbit), call=call)


def work(seconds: float) -> Work:
    return Work("step", 0.0, round(seconds * S))
