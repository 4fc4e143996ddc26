"""A comparison: what its runs share, what each has of its own, and the configurations that follow from the two."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from rayfed.config.reading import apply_override, parse, read, validate
from rayfed.config.run import RunConfig
from rayfed.config.sections import Count, Section
from rayfed.errors import UserError, cut

OWN = ("devices", "method", "model", "resources", "rounds", "wire")
"""What runs may differ in. Anything else would compare unlike things: other data or links."""
LISTS = {
    "seeds": "must be a list of seeds, e.g. [0, 1]",
    "devices": "must be a list of device counts, e.g. [5, 10, 20]; the runs' own is devices.count",
}
"""Keys of a comparison itself that overrides may set."""


class Comparison(Section):
    """Several methods, or several settings of one (how many devices, how weak), on the same data, network and seeds."""

    base: dict[str, Any]
    """A run's configuration, without what the runs differ in."""
    runs: dict[str, dict[str, Any]]
    """The runs by name, each with what is its own, merged over `base`: `devices`, `method`, `model`, `resources`,
    `rounds` and `wire` may differ."""
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] | None = None
    """Seeds with each of which every run is made; a seed is a partition of the data too. None means that of `base`."""
    devices: list[Count] | None = None
    """Device counts at which throughput is rehearsed on the twin. None means half, once, twice and four times the
    run's own, at least 2; with a partition file its own alone."""

    @field_validator("runs", "seeds", "devices")
    @classmethod
    def _at_least_one(cls, value: Any) -> Any:
        if value is not None and not value:
            raise ValueError("must have at least one entry")
        return value

    @field_validator(*LISTS, mode="before")
    @classmethod
    def _a_list(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and not isinstance(value, list | tuple):
            raise ValueError(LISTS[str(info.field_name)])
        return value

    @field_validator(*LISTS)
    @classmethod
    def _all_different(cls, values: list[int] | None) -> list[int] | None:
        if values and (twice := [value for value in values if values.count(value) > 1]):
            raise ValueError(f"{twice[0]} is there twice")
        return values

    @model_validator(mode="after")
    def _alike_but_for_their_own(self) -> "Comparison":
        for name, own in self.runs.items():
            if key := next((key for key in own if key not in OWN), None):
                raise ValueError(
                    f"runs.{name}.{key} = {own[key]!r}: runs are compared on the same {key}, set under base; they may "
                    f"differ in {', '.join(OWN[:-1])} and {OWN[-1]} alone"
                )
        return self

    def configs(self) -> dict[str, dict[int, RunConfig]]:
        """name -> seed -> configuration. Raises UserError, with the run's name, for what cannot be."""
        return {name: {config.seed: config for config in self._seeded(name)} for name in self.runs}

    def at_counts(self, name: str) -> dict[int, RunConfig]:
        """Device count -> a run's configuration with its first seed and that many devices.

        Raises as `configs` does for counts that the comparison names; of the others those that cannot be are left out.
        """
        config = self._seeded(name)[0]
        base = config.devices.count
        tree = config.model_dump(mode="json")
        if self.devices:
            with about(f"run {name}, throughput by `devices`"):
                return {count: parse(_merge(tree, {"devices": {"count": count}})) for count in sorted(self.devices)}
        around = {max(2, count) for count in (base // 2, base, 2 * base, 4 * base)}
        found = {}
        for count in sorted({base} if config.data.partition_file else around):
            with suppress(UserError):  # nobody asked for this count; the method cannot do with it
                found[count] = parse(_merge(tree, {"devices": {"count": count}}))
        return found

    def with_overrides(self, overrides: Iterable[str]) -> "Comparison":
        """The comparison with `seeds=[...]` and `devices=[...]` as overrides say, and others applied to the base.

        Raises UserError with one line for anything wrong with them, an override that no run would heed included.
        """
        tree = self.model_dump()
        for override in overrides:
            key, _, value = override.partition("=")
            if key == "seed":
                raise UserError(f"{cut(override)}: a comparison has seeds; use seeds=[{cut(value.strip('[] '))}]")
            apply_override(tree if key in LISTS else tree["base"], override)
            if key not in LISTS and all(_has(own, key.split(".")) for own in self.runs.values()):
                raise UserError(f"{override}: would change nothing, every run has its own {key}")
        return validate(Comparison, tree)

    def trees(self) -> list[dict[str, Any]]:
        """What of each run is validated, with its values as they were written."""
        return [_merge(self.base, own) for own in self.runs.values()]

    def _seeded(self, name: str) -> list[RunConfig]:
        tree = _merge(self.base, self.runs[name])
        with about(f"run {name}"):
            return [parse(tree | {"seed": seed}) for seed in self.seeds] if self.seeds else [parse(tree)]


@contextmanager
def about(what: str) -> Iterator[None]:
    """Begin the message of a UserError with what it is about."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{what}: {error}") from None


def load_comparison(path: str | Path, overrides: Iterable[str] = ()) -> Comparison:
    """Read a YAML file and apply overrides as `Comparison.with_overrides` does.

    Raises UserError with one line for anything wrong with it or with them.
    """
    return validate(Comparison, read(path)).with_overrides(overrides)


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` over `base`, section by section."""
    both = {
        key: _merge(base[key], value) if isinstance(value, Mapping) and isinstance(base.get(key), Mapping) else value
        for key, value in own.items()
    }
    return {**base, **both}


def _has(tree: Any, keys: list[str]) -> bool:
    for key in keys:
        if not isinstance(tree, Mapping) or key not in tree:
            return False
        tree = tree[key]
    return True
