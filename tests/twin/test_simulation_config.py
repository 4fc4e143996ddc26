"""The twin's section: what YAML gives it, and what is refused."""

import pytest
import yaml
from pydantic import ValidationError

from rayfed.config.simulation import Cell, Lan, Profile, Twin, Wired


def twin(text: str) -> Twin:
    return Twin.model_validate(yaml.safe_load(text))


def refused(text: str) -> str:
    with pytest.raises(ValidationError) as caught:
        twin(text)
    return "; ".join(each["msg"] for each in caught.value.errors())


def test_defaults() -> None:
    assert Twin().devices == [Profile()]
    assert Twin().server.flops_per_s == 1e12
    assert Twin().network == Wired()


def test_lists_and_integers_of_yaml_are_taken() -> None:
    read = twin("{devices: [{time_factor: 3}, {flops_per_s: 2, up_mbps: 1}], network: {kind: lan, hop_s: 1}}")
    assert read.devices == [Profile(time_factor=3.0), Profile(flops_per_s=2.0, up_mbps=1.0)]
    assert read.network == Lan(hop_s=1.0)
    assert twin("network: {kind: cell}").network == Cell()
    assert Twin.model_validate(read.model_dump(mode="json")) == read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drop_late: true", "twin.drop_late = true: needs twin.deadline_s, the simulated seconds an exchange may take"),
        ("devices: []", "at least 1 item"),
        ("devices: [{time_factor: 0}]", "greater than 0"),
        ("devices: [{dropout: 1}]", "less than 1"),
        ("devices: [{jitter: -1}]", "greater than or equal to 0"),
        ("devices: [{speed: 1}]", "Extra inputs"),
        ("network: {kind: 5g}", "'lan', 'wired', 'cell'"),
        ("network: {kind: lan, up_mbps: 1}", "Extra inputs"),
        ("deadline_s: 0", "greater than 0"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    assert message in refused(text)
