"""The digital twin: simulated seconds of a round, from its ledger, device profiles and a network model."""

from rayfed.twin.clock import Clock, State, Times
from rayfed.twin.network import Network
from rayfed.twin.profiles import away, profile_of

__all__ = ["Clock", "Network", "State", "Times", "away", "profile_of"]
