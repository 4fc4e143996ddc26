"""What a user is told before a run begins."""

from rayfed.app.preparation import prepared
from rayfed.config import parse
from tests.test_cli import TINY


def test_devices_with_less_than_a_batch_are_counted():
    """The engine's device i holds i squared samples of a class at most."""
    config = TINY | {"data": {"partition": "fegan", "max_class": 1}, "devices": {"count": 10}}
    notices: list[str] = []
    federation = prepared(parse(config | {"method": TINY["method"] | {"batch": 20}}), notices.append)
    small = int((federation.population.counts.sum(axis=1) < 20).sum())
    assert 4 <= small < 10
    assert notices == [
        f"method.batch = 20: {small} of 10 devices with fewer images; such a device trains on batches of all it has"
    ]
