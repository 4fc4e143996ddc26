"""What the house knows of a method: its name, its section, its two halves, and the few things in which methods differ.

A method is a module of `rayfed.methods` (or of any package, see `rayfed.plugins`) that defines METHOD, or several in
METHODS. Importing it must not import torch: the halves of methods that need it are named by dotted names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rayfed import plugins
from rayfed.config import RunConfig, Training, Twin
from rayfed.data.population import Population
from rayfed.errors import UserError
from rayfed.events import Event
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.exchange import Server
from rayfed.methods.state import State
from rayfed.scheduling.scheduler import Scheduler
from rayfed.tasks import task
from rayfed.tasks.base import Task

BOTH = ("generator", "discriminator")
"""The networks of a method whose devices train whole GANs."""
ADAM = 4
"""Values kept per trained parameter: weight, gradient, and Adam's two moments."""


@dataclass(frozen=True)
class Topology:
    """The physical devices that a run stands on."""

    names: tuple[str, ...]
    """Of each device."""
    clients: tuple[ClientId, ...]
    """Whose each device is."""
    hardware: Twin
    """The twin, whose `devices` are repeated if there are fewer than devices."""
    pinned: tuple[tuple[Mapping[str, float], ...], ...] = ()
    """Where devices have hosts of their own: for each client what the host of each of its devices asks of Ray (CPU,
    GPU, memory) beyond `resources.device_host`. Empty means pooled hosts: any host runs any device."""

    @property
    def devices(self) -> int:
        """How many there are."""
        return len(self.names)


def pooled(config: RunConfig) -> Topology:
    """Client k is device k, and any host runs it."""
    clients = tuple(ClientId(k) for k in range(config.devices.count))
    return Topology(tuple(map(str, clients)), clients, config.twin)


def _every_client(config: RunConfig, population: Population) -> Scheduler:
    return Scheduler(config, population.counts)


def _nothing(config: RunConfig) -> None: ...


def check_memory(config: RunConfig, population: Population) -> list[str]:
    """Raise UserError when a profile's memory cannot hold the networks that devices train and hold, in float32.

    Activations and the images of a batch are not counted.
    """
    if not any(profile.memory for profile in config.twin.devices):
        return []
    spec = method_of(config)
    values = spec.task.values(config, population)
    needed = 4 * sum(ADAM * values[name] for name in spec.trains) + 4 * sum(values[name] for name in spec.holds)
    for number, profile in enumerate(config.twin.devices):
        if 0 < profile.memory < needed:
            raise UserError(
                f"twin.devices.{number}.memory = {profile.memory}: {config.method.name} needs {needed} bytes on a "
                "device for its models, gradients and Adam's moments; use a smaller model or leave such devices out"
            )
    return []


class AfterRound(Protocol):
    """A method's own work after a round, with what the twin measured in it."""

    def __call__(self, state: Any, scheduler: Any, slowness: Mapping[DeviceId, float]) -> tuple[State, Sequence[Event]]:
        """The state as the next round begins with it, and what there is to tell.

        `slowness`: for each device that computed, its seconds over those that its profile says.
        """


def _as_it_is(state: State, scheduler: Scheduler, slowness: Mapping[DeviceId, float]) -> tuple[State, Sequence[Event]]:
    return state, ()


def _as_new(state: State, scheduler: Scheduler) -> None: ...


@dataclass(frozen=True)
class Phase:
    """Rounds of a run that cost the same."""

    name: str
    """Empty where all rounds of a run do."""
    rounds: int
    config: RunConfig
    """Whose first round is one of them."""


def _all_alike(config: RunConfig) -> tuple[Phase, ...]:
    return (Phase("", config.rounds, config),)


@dataclass(frozen=True)
class MethodSpec:
    """A method."""

    name: str
    about: str
    """A line for `rayfed methods`."""
    settings: type[Training]
    """Its section of the configuration."""
    server: type | str
    """The class of its server half, made with a ServerContext, or that class's dotted name."""
    device: type | str
    """The class of its device half, made with a DeviceContext and the device's state, or that class's dotted name."""
    trains: tuple[str, ...] = ("discriminator",)
    """The networks that a device trains."""
    holds: tuple[str, ...] = ()
    """The networks that a device holds beside those."""
    task_name: str = "gan"
    """What is trained and judged: a name of `rayfed.tasks`, or the dotted name of a Task."""
    state: type[State] = State
    """What its server remembers."""
    validate: Callable[[RunConfig], None] = _nothing
    """Raises ValueError, with `key = value: what would be right`, for what it cannot do with a configuration."""
    preflight: Callable[[RunConfig, Population], list[str]] = check_memory
    """Notices before anything starts. Raises UserError for what cannot run with this data."""
    topology: Callable[[RunConfig], Topology] = pooled
    """The physical devices."""
    scheduler: Callable[[RunConfig, Population], Scheduler] = _every_client
    """Its scheduler, made where the run is driven and sent to the scheduler actor: an object that needs no torch."""
    closing: tuple[str, ...] = ()
    """Metrics of its own whose last values a run's summary has."""
    phases: Callable[[RunConfig], tuple[Phase, ...]] = _all_alike
    """What a run's rounds cost its devices, for who rehearses them; the last phase's throughput is the method's."""
    after_round: AfterRound = _as_it_is
    """See AfterRound."""
    resumed: Callable[[Any, Any], None] = _as_new
    """Tells its scheduler, of a resumed run, what the state knows."""

    @property
    def task(self) -> Task:
        """What is trained and judged."""
        return task(self.task_name)

    def server_half(self) -> Callable[..., Server]:
        """The class of the server half."""
        half: Callable[..., Server] = self._half(self.server)
        return half

    def device_half(self) -> Callable[..., Any]:
        """The class of the device half."""
        half: Callable[..., Any] = self._half(self.device)
        return half

    def _half(self, half: type | str) -> Any:
        return plugins.load_object(f"{self.name}'s half", half) if isinstance(half, str) else half


def method_of(config: RunConfig) -> MethodSpec:
    """The method of a run."""
    found = plugins.method(config.method.name)
    assert isinstance(found, MethodSpec)
    return found
