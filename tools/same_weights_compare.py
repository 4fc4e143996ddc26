"""Compares what two runs left behind, bit for bit, for `same_weights.py`."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Bits = Mapping[str, Any]
"""Values that are compared together, by where they are: arrays, or JSON's leaves."""


@dataclass(frozen=True)
class Dump:
    """What a case left behind, as the worker wrote it down."""

    record: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @classmethod
    def read(cls, folder: Path) -> "Dump":
        """The dump in a case's folder."""
        with np.load(folder / "arrays.npz") as stored:
            arrays = {name: stored[name] for name in stored.files}
        return cls(json.loads((folder / "record.json").read_text()), arrays)

    def fingerprint(self) -> str:
        """The same for two runs that left the same behind."""
        digest = hashlib.sha256(json.dumps(self.record, sort_keys=True).encode())
        for name, values in sorted(self.arrays.items()):
            digest.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())
        return digest.hexdigest()

    def things(self, round: int) -> Iterator[tuple[str, Bits]]:
        """All that a round has, in the portions in which differences are told."""
        parts: dict[str, dict[str, Any]] = {}
        for key, values in sorted(self.arrays.items()):
            number, thing, *device = key.split("|")
            if int(number) == round:
                parts.setdefault(thing, {})["".join(device)] = values
        row = self.record["rounds"][round]
        parts["participants"] = {"": row["participants"]}
        parts |= {f"metric {name}": {name: value} for name, value in row["metrics"].items()}
        for path, leaf in _leaves("", row["facts"]):
            names = [part for part in path.split(".")[:2] if not part.isdigit()]
            parts.setdefault(f"facts {'.'.join(names)}", {})[path] = leaf
        yield from parts.items()


@dataclass
class Comparison:
    """What differs between two dumps of a case."""

    lines: list[str] = field(default_factory=list)
    """One for each thing that differs, about the first round in which it does."""
    allowed: int = 0
    """Metrics, and values of the facts, that differ as they may, summed over the rounds."""


def compare(one: Dump, other: Dump, allowed: Sequence[str]) -> Comparison:
    """`allowed`: names of metrics, and beginnings of facts' paths, whose change is meant."""
    found = Comparison()
    if one.record["outcome"] != other.record["outcome"]:
        said = "".join(f"\n{dump.record['said'].strip()}" for dump in (one, other) if "said" in dump.record)
        found.lines.append(f"outcome: {one.record['outcome']} became {other.record['outcome']}{said}")
    rounds, others = len(one.record["rounds"]), len(other.record["rounds"])
    if rounds != others and not found.lines:
        found.lines.append(f"rounds committed: {rounds} became {others}")
    first: dict[str, str] = {}
    later: dict[str, int] = {}
    for round in range(min(rounds, others)):
        ours, theirs = dict(one.things(round)), dict(other.things(round))
        for thing in {**ours, **theirs}:
            detail = _difference(thing, ours.get(thing, {}), theirs.get(thing, {}), allowed, found)
            if detail and thing in first:
                later[thing] = later.get(thing, 0) + 1
            elif detail:
                first[thing] = f"{thing}: round {round}: {detail}"
    found.lines += [
        line + (f"; and in {later[thing]} later" if thing in later else "") for thing, line in first.items()
    ]
    return found


def _difference(thing: str, ours: Bits, theirs: Bits, allowed: Sequence[str], found: Comparison) -> str | None:
    """What differs in one thing, but for what may; the latter is counted."""
    if thing.startswith(("server ", "devices ")):
        return _arrays(ours, theirs)
    different = [path for path in {**ours, **theirs} if _text(ours, path) != _text(theirs, path)]
    meant = [path for path in different if _may_change(path, allowed)]
    found.allowed += len(meant)
    rest = [path for path in different if path not in meant]
    if not rest:
        return None
    numbers = [
        abs(ours[path] - theirs[path])
        for path in rest
        if all(isinstance(side.get(path), int | float) for side in (ours, theirs))
    ]
    count = f"{len(rest)} of {len({**ours, **theirs})} values, the first " if thing.startswith("facts ") else ""
    largest = f", largest difference {max(numbers):.3g}" if numbers else ""
    return f"{count}{rest[0]} {_text(ours, rest[0])} became {_text(theirs, rest[0])}{largest}"


def _arrays(ours: Bits, theirs: Bits) -> str | None:
    """How arrays of one name differ; several devices have one each."""
    owners, values, size, largest = 0, 0, 0, 0.0
    for owner in sorted({**ours, **theirs}):
        one, other = ours.get(owner), theirs.get(owner)
        if one is None or other is None or one.dtype != other.dtype or one.shape != other.shape:
            return f"{_layout(one)} became {_layout(other)}" + (f" on device {owner}" if owner else "")
        size += one.size
        different = (_bytes(one) != _bytes(other)).any(axis=1)
        if different.any():
            owners, values = owners + 1, values + int(different.sum())
            gaps = np.abs(one.reshape(-1)[different].astype(float) - other.reshape(-1)[different].astype(float))
            largest = max(largest, float(np.nan_to_num(gaps, nan=np.inf).max()))
    if not values:
        return None
    where = f" on {owners} devices" if "" not in ours else ""
    return f"{values:,} of {size:,} values{where}, largest difference {largest:.3g}"


def _bytes(array: np.ndarray) -> np.ndarray:
    """[values, bytes of one]: NaN is equal to itself, and 0 is not -0."""
    return np.frombuffer(array.tobytes(), np.uint8).reshape(array.size, array.itemsize)


def _layout(array: np.ndarray | None) -> str:
    return "nothing" if array is None else f"{array.dtype} {list(array.shape)}"


def _text(leaves: Bits, path: str) -> str:
    """A leaf as JSON, in which 1 is not 1.0, and NaN is NaN."""
    return json.dumps(leaves[path]) if path in leaves else "nothing"


def _may_change(path: str, allowed: Sequence[str]) -> bool:
    return any(path == name or path.startswith((f"{name}.", f"{name}/")) for name in allowed)


def _leaves(path: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """JSON's values by their dotted paths; an empty list or mapping is a value."""
    if isinstance(tree, dict | list) and tree:
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(f"{path}.{key}" if path else str(key), value)
    else:
        yield path, tree
