"""A batch of calls on its way to a host, and its run there."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from rayfed.fleet.host import Host
from rayfed.fleet.protocol import Arrays
from rayfed.ids import DeviceId

BATCH_BYTES = 32 * 2**20
"""Of the replies of a batch, if they are as large as what the calls are given: more batches then."""
UNWRITTEN = 1
"""States that may wait for the disk: with more the host waits as well, and holds no more of them in memory."""


@dataclass(frozen=True)
class Pick:
    """Stands for the batch's reference number `reference`, or for one of the replies that it holds."""

    reference: int
    index: int | None = None


@dataclass(frozen=True)
class Slot:
    """One call; `state` and `args` are values or Picks."""

    device: DeviceId
    method: str
    state: Any
    args: list[Any]
    run: str = ""
    """Whose device it is."""
    last: bool = False
    """See `Fleet.submit`."""


class Sized(Protocol):
    """A call that waits to be sent."""

    @property
    def nbytes(self) -> int:
        """What its reply is taken to have."""


Waiting = TypeVar("Waiting", bound=Sized)


def in_batches(calls: Sequence[Waiting], count: int) -> Iterator[Sequence[Waiting]]:
    """A host's calls in so many batches, or in more if their replies are large."""
    largest = max(each.nbytes for each in calls)
    size = min(-(-len(calls) // count), max(1, BATCH_BYTES // max(1, largest)))
    for start in range(0, len(calls), size):
        yield calls[start : start + size]


def run_batch(host: Host, slots: Sequence[Slot], values: Sequence[Any]) -> tuple[Any, ...]:
    """Run the calls in order: (replies, receipts, state of the first, state of the second, ...).

    While a device trains, one thread reads the next one's state and another writes the last one's.
    """

    def resolve(value: Any) -> Any:
        if not isinstance(value, Pick):
            return value
        found = values[value.reference]
        return found if value.index is None else found[value.index]

    replies, receipts, states = [], [], []
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        unwritten: deque[Future[Any]] = deque()
        following = reader.submit(host.read, resolve(slots[0].state))
        for number, slot in enumerate(slots):
            state: Arrays = following.result()
            if number + 1 < len(slots):
                following = reader.submit(host.read, resolve(slots[number + 1].state))
            reply, left, receipt = host.run(slot.device, slot.method, state, *map(resolve, slot.args))
            if slot.last:
                unwritten.append(writer.submit(host.write, left))
            if len(unwritten) > UNWRITTEN:
                unwritten.popleft().result()
            replies.append(reply)
            receipts.append(receipt)
            states.append(unwritten[-1] if slot.last else left)
        return replies, receipts, *(state.result() if isinstance(state, Future) else state for state in states)
