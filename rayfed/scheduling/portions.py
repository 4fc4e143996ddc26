"""Which of a client's devices holds which portions of the discriminator, and what a step then takes.

FSL-GAN, sections 4 and 5. A step is one batch forward and backward through all portions, one device after the other.
A device's stage is the compute of its consecutive portions times its time factor, and the exchange with the device
after it: the activations go there and a gradient as large comes back. Each of the two is one LAN communication, which
takes the paper's 50 ms whatever its size, and the time its bytes need on the slower of sender's up and receiver's
down link. So n devices make 2 (n - 1) hops, and one device alone makes none. The authors' code charges 50 ms once a
step for each device that holds a portion, n in all; the paper's text, "for each LAN communication among devices of a
single client", is what is counted here. Where the client's images lie costs nothing, as in the paper.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rayfed.config.clients import Client
from rayfed.models.block import Block

HOP_S = 0.05
"""One LAN communication (section 5)."""
HEURISTICS = ("random_single", "random_multiple", "sorted_single", "sorted_multiple")
"""The paper's strategies."""


@dataclass(frozen=True)
class Workload:
    """What a step asks of the device that holds each portion; tuples with one entry per portion."""

    names: tuple[str, ...]
    parameters: tuple[int, ...]
    compute_s: tuple[float, ...]
    """Forward and backward at a time factor of 1."""
    nbytes: tuple[int, ...]
    """Of the activations handed on; the gradient that comes back is as large."""
    hop_s: float = HOP_S

    @property
    def portions(self) -> int:
        return len(self.parameters)

    @property
    def size(self) -> int:
        """Parameters of the whole discriminator."""
        return sum(self.parameters)


def workload(portions: Sequence[Block], images: int, flops_per_s: float) -> Workload:
    """A step that takes `images` images forward and backward, float32, at so many operations a second.

    A discriminator's training step on a batch of B takes 2 B images: B real ones and B fakes.
    """
    return Workload(
        names=tuple(portion.name for portion in portions),
        parameters=tuple(portion.parameters for portion in portions),
        compute_s=tuple(images * (p.flops_forward + p.flops_backward) / flops_per_s for p in portions),
        nbytes=tuple(4 * images * portion.activation for portion in portions),
    )


def iteration(portions: Sequence[Block], batch: int, flops_per_s: float, hop_s: float) -> Workload:
    """All that a client does in an iteration: D's step on `batch` real images and as many fakes, then the pass for G.

    The latter takes the fakes forward once more and gradients of inputs alone back, so each boundary between devices is
    crossed twice more, with half the bytes.
    """
    step = workload(portions, 2 * batch, flops_per_s)
    through = (batch * (p.flops_forward + p.flops_input) / flops_per_s for p in portions)
    return replace(
        step,
        compute_s=tuple(d + g for d, g in zip(step.compute_s, through, strict=True)),
        nbytes=tuple(nbytes * 3 // 2 for nbytes in step.nbytes),
        hop_s=2 * hop_s,
    )


@dataclass(frozen=True)
class Stage:
    """One device's part of a step."""

    device: int
    portions: tuple[int, ...]
    parameters: int
    compute_s: float
    exchange_s: float
    """With the next device, both ways; 0 for the last."""
    nbytes: int
    """To and from the next device."""

    @property
    def seconds(self) -> float:
        return self.compute_s + self.exchange_s


@dataclass(frozen=True)
class Plan:
    """Who computes what, in the order of the portions."""

    stages: tuple[Stage, ...]

    @property
    def assignment(self) -> tuple[int, ...]:
        """The device of each portion."""
        return tuple(stage.device for stage in self.stages for _ in stage.portions)

    @property
    def step_seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def bottleneck_seconds(self) -> float:
        """The slowest stage: between two batches' ends, were the devices to work on several batches at once."""
        return max(stage.seconds for stage in self.stages)

    @property
    def nbytes(self) -> int:
        """Between devices in a step."""
        return sum(stage.nbytes for stage in self.stages)


def evaluate(client: Client, work: Workload, assignment: Sequence[int]) -> Plan:
    """The plan that gives each portion to a device by index; no device comes twice, and all can hold theirs."""
    starts = [p for p in range(work.portions) if p == 0 or assignment[p] != assignment[p - 1]]
    assert len(starts) == len(set(assignment))
    links = seconds_per_byte(client)
    stages = []
    for first, end in pairwise((*starts, work.portions)):
        device, parameters = assignment[first], sum(work.parameters[first:end])
        assert parameters <= client.devices[device].capacity
        compute_s = sum(work.compute_s[first:end]) * client.devices[device].time_factor
        exchange_s, nbytes = 0.0, 0
        if end < work.portions:
            nbytes = 2 * work.nbytes[end - 1]
            exchange_s = float(2 * work.hop_s + work.nbytes[end - 1] * links[device, assignment[end]])
        stages.append(Stage(device, tuple(range(first, end)), parameters, compute_s, exchange_s, nbytes))
    return Plan(tuple(stages))


def seconds_per_byte(client: Client) -> NDArray[np.float64]:
    """[D, D] from one device to another and back again."""
    up = np.array([device.up_mbps or np.inf for device in client.devices])
    down = np.array([device.down_mbps or np.inf for device in client.devices])
    there: NDArray[np.float64] = 8e-6 / np.minimum(up[:, None], down)
    return there + there.T


def dropped_devices(client: Client, work: Workload) -> list[int]:
    """The devices that can hold no portion."""
    return [k for k, device in enumerate(client.devices) if device.capacity < min(work.parameters)]


def misfit(client: Client, work: Workload) -> str:
    """Why the devices of a client for which there is no plan cannot hold the discriminator."""
    largest = max(device.capacity for device in client.devices)
    if largest < min(work.parameters):
        return f"none of its devices can hold a portion: the smallest has {min(work.parameters):,} parameters"
    for number, parameters in enumerate(work.parameters, 1):
        if largest < parameters:
            return f"none of its devices can hold portion {number}, which has {parameters:,} parameters"
    return f"its devices cannot hold the discriminator's {work.size:,} parameters, portion after portion"


def heuristics(client: Client, work: Workload, rng: np.random.Generator) -> dict[str, Plan | None]:
    """The plans of the paper's strategies, by name; None where the devices run out before the portions.

    Random: the devices in an order drawn from `rng`, the same for both; sorted: the most efficient first. Single: one
    portion each; multiple: as many consecutive portions as fit.
    """
    orders = {"random": rng.permutation(len(client.devices)).tolist(), "sorted": by_efficiency(client, work)}
    plans = {}
    for name in HEURISTICS:
        order, amount = name.split("_")
        assignment = _fill(client, work, orders[order], at_most=1 if amount == "single" else work.portions)
        plans[name] = evaluate(client, work, assignment) if assignment else None
    return plans


def by_efficiency(client: Client, work: Workload) -> list[int]:
    """The devices by decreasing efficiency: capacity, as far as the discriminator could use it, per time factor.

    The paper says that efficiency is made of both and not how. Capacity as it stands would put the slowest device of
    its table first, for room that nothing fills; the authors' code sorts by time factor alone, which this comes to
    among devices that could hold everything.
    """
    efficiency = [min(device.capacity, work.size) / device.time_factor for device in client.devices]
    return sorted(range(len(efficiency)), key=lambda k: -efficiency[k])


def _fill(client: Client, work: Workload, order: Iterable[int], at_most: int) -> tuple[int, ...] | None:
    """Portions to devices in turn; a device that cannot hold the next portion is passed over for good."""
    assignment: list[int] = []
    for device in order:
        room = client.devices[device].capacity
        for parameters in work.parameters[len(assignment) :][:at_most]:
            if parameters > room:
                break
            assignment.append(device)
            room -= parameters
    return tuple(assignment) if len(assignment) == work.portions else None
