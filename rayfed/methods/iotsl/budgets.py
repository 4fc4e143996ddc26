"""What the devices' generators spend of their privacy, round by round, and how many steps it leaves them."""

from collections.abc import Mapping

from rayfed.events import Event
from rayfed.ids import ClientId
from rayfed.methods.iotsl.events import BudgetSpent
from rayfed.methods.iotsl.settings import Settings
from rayfed.privacy.accountant import Spent, epsilon, epsilon_prv, spend, steps_within


def steps(settings: Settings, spent: Spent) -> int:
    """A generator's steps in a round: fewer, or none, where more would pass `privacy.epsilon`."""
    privacy = settings.privacy
    if privacy.epsilon is None or settings.mechanism is None:
        return settings.generator_steps
    allowed = steps_within(privacy.epsilon, privacy.delta, settings.mechanism)
    return min(settings.generator_steps, allowed - int(sum(entry[2] for entry in spent)))


def charged(settings: Settings, spent: Mapping[str, Spent], steps: Mapping[ClientId, int]) -> dict[str, Spent]:
    """The budgets after a round. Who was asked for steps is charged, whether a valid reply came of it or not."""
    mechanism = settings.mechanism
    if mechanism is None:
        return dict(spent)
    return dict(spent) | {str(k): spend(spent.get(str(k), []), mechanism, count) for k, count in steps.items()}


def told(
    settings: Settings, spent: Mapping[str, Spent], steps: Mapping[ClientId, int]
) -> tuple[tuple[Event, ...], dict[str, float]]:
    """What there is to tell of the budgets, and the worst device's as metrics: by RDP, by PRV where it can say."""
    if not spent:
        return (), {}
    delta = settings.privacy.delta
    known = {str(each): epsilon(each, delta) for each in spent.values()}
    epsilons = tuple(known[str(spent[client])] for client in sorted(spent, key=int))
    metrics = {"epsilon": max(epsilons)}
    tighter = epsilon_prv(max(spent.values(), key=lambda each: known[str(each)]), delta)
    ended = tuple(sorted(k for k, count in steps.items() if count < settings.generator_steps))
    return (BudgetSpent(epsilons, delta, ended),), metrics | ({} if tighter is None else {"epsilon_prv": tighter})
