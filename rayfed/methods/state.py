"""The server's learning state after a round: what the next round needs, and nothing else."""

from dataclasses import dataclass, field, fields
from typing import Any, Self

from rayfed.events import Event
from rayfed.fleet.protocol import Arrays
from rayfed.scheduling.scheduler import SamplerState

ARRAYS = ("round", "models", "optimizer", "events")


@dataclass(frozen=True)
class State:
    """What every method's server remembers; a method that remembers more derives from it.

    Fields beside those below must be JSON.
    """

    round: int
    """Rounds finished so far."""
    models: Arrays
    """Network name -> its parameters and buffers, a float32 vector."""
    optimizer: Arrays = field(default_factory=dict)
    """The optimizer state of networks that the server trains: `generator.exp_avg` and so on."""
    sampler: SamplerState = field(default_factory=dict)
    """What the choice of participants carries from round to round."""
    events: tuple[Event, ...] = ()
    """What happened in this round that the run's history must tell; the next round does not know it."""

    @property
    def arrays(self) -> Arrays:
        """Models and optimizer state together, by name."""
        return self.models | self.optimizer

    def facts(self) -> dict[str, Any]:
        """All but the arrays and events, as JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ARRAYS}

    @classmethod
    def restored(cls, round: int, arrays: Arrays, facts: dict[str, Any]) -> Self:
        """The state whose `arrays` and `facts` these are; the names of an optimizer's arrays have a dot."""
        models = {name: array for name, array in arrays.items() if "." not in name}
        optimizer = {name: array for name, array in arrays.items() if "." in name}
        return cls(round, models, optimizer, **facts)
