"""Reading a configuration: YAML, dotted overrides, and one line for whatever is wrong with them."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from rayfed.config.methods import Method
from rayfed.config.run import RunConfig
from rayfed.errors import UserError


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, for which 2e-4 is a number too (YAML 1.1 wants 2.0e-4)."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def load(path: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a YAML file and apply `a.b=value` overrides (values are YAML too).

    Raises UserError with one line for anything wrong with it.
    """
    try:
        tree = yaml.load(Path(path).read_text(), _Loader) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must hold `key: value` lines, not {type(tree).__name__}")
    for override in overrides:
        _apply(tree, override)
    return parse(tree)


def with_overrides(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """A configuration with `a.b=value` overrides applied; raises UserError as `load` does."""
    tree = config.model_dump(mode="json")
    for override in overrides:
        _apply(tree, override)
    return parse(tree)


def parse(tree: Mapping[str, Any]) -> RunConfig:
    """Validate a nested mapping; raises UserError with one line."""
    try:
        return RunConfig.model_validate(dict(tree))
    except ValidationError as error:
        lines: dict[str, str] = {}
        for each in error.errors():
            key, line = _key(each), _explain(each)
            lines[key] = f"{lines[key]} or {line.rpartition('must be ')[2]}" if key in lines else line
        raise UserError("; ".join(list(lines.values())[:3])) from None


def flatten(config: RunConfig) -> dict[str, Any]:
    """The configuration as dotted keys, as overrides name them."""

    def leaves(prefix: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for key, value in tree.items():
            yield from leaves(f"{prefix}{key}.", value) if isinstance(value, dict) else [(f"{prefix}{key}", value)]

    return dict(leaves("", config.model_dump(mode="json")))


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"{override!r}: an override is key=value, e.g. devices.count=80")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise UserError(f"{override!r}: the value is not valid YAML; quote it") from None
    *parents, leaf = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"{key}: {parent} is a value, not a section")
        tree = child
    tree[leaf] = value


METHOD_NAMES = tuple(
    name for model in get_args(get_args(Method)[0]) for name in get_args(model.model_fields["name"].annotation)
)


def _key(error: Mapping[str, Any]) -> str:
    """The dotted key of a pydantic error, without pydantic's own names for the members of a union."""
    unions = ("constrained-", "literal[")
    parts = [str(part) for part in error["loc"]]
    return ".".join(part for part in parts if part not in METHOD_NAMES and not part.startswith(unions))


def _explain(error: Mapping[str, Any]) -> str:
    """One pydantic error as `key = value: what would be right`."""
    key, kind, value = _key(error), error["type"], error["input"]
    if kind == "extra_forbidden":
        return f"{key} = {value!r}: unknown key; {_suggest(error['loc'])}"
    if kind == "missing":
        return f"{key}: missing"
    if kind.startswith("union_tag"):
        given = value.get("name") if isinstance(value, dict) else value
        return f"method.name = {given!r}: must be one of {', '.join(METHOD_NAMES)}"
    message: str = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if kind == "value_error" and "=" in message.split(":")[0]:
        return message
    if kind.startswith(("model_", "dict_")):
        message = "must be a section of `key: value` lines"
    return f"{key} = {value!r}: {message}"


def _suggest(loc: tuple[Any, ...]) -> str:
    """What the section at `loc[:-1]` does know, closest name first."""
    section: Any = RunConfig
    for part in loc[:-1]:
        field = getattr(section, "model_fields", {}).get(part)
        if field is not None:
            section = field.annotation
        else:
            section = next(m for m in get_args(section) if part in get_args(m.model_fields["name"].annotation))
    known = sorted(section.model_fields)
    prefix = [str(part) for part in loc[:-1] if part not in METHOD_NAMES]
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"did you mean {'.'.join([*prefix, close[0]])}?" if close else f"known keys: {', '.join(known)}"
