"""Reading a configuration: YAML, dotted overrides, and one line for whatever is wrong with them."""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo

from rayfed import plugins
from rayfed.config.run import RunConfig
from rayfed.config.training import Training
from rayfed.errors import UserError, shown

Validated = TypeVar("Validated", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, for which 2e-4 is a number too (YAML 1.1 wants 2.0e-4), and a key is there once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} is there twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def load(
    path: str | Path | None, overrides: Iterable[str] = (), notice: Callable[[str], None] = lambda text: None
) -> RunConfig:
    """Read a YAML file, if there is one, and apply `a.b=value` overrides (values are YAML too).

    Where they name another method than the file does, its keys that this method does not know are left out, and
    `notice` hears which. Raises UserError with one line for anything wrong with it.
    """
    return parse(load_tree(path, overrides, notice))


def load_tree(
    path: str | Path | None, overrides: Iterable[str] = (), notice: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """What `load` validates: the nested mapping, with its values as they were written."""
    tree = {} if path is None else read(path)
    if {"base", "runs"} <= tree.keys():
        raise UserError(f"{path}: is a comparison of several runs; use `rayfed compare {path}`")
    if path is not None:
        _find_files(tree, Path(path).parent)
    said = deepcopy(tree.get("method"))
    chosen = list(overrides)
    for override in chosen:
        apply_override(tree, override)
    method = tree.get("method")
    if isinstance(said, dict) and isinstance(method, dict) and said.get("name") != method.get("name"):
        _leave_out(method, {override.partition("=")[0] for override in chosen}, f"{path}", notice)
    return tree


def _leave_out(method: dict[str, Any], chosen: set[str], path: str, notice: Callable[[str], None]) -> None:
    """Drop the keys that the method does not know, but for those that were chosen on the command line."""
    with suppress(UserError):  # an unknown method is told of when the tree is validated
        settings = plugins.method(method.get("name")).settings
        unknown = [
            key
            for key in method
            if key not in (*settings.model_fields, *settings.files) and f"method.{key}" not in chosen
        ]
        for key in unknown:
            del method[key]
        if unknown:
            keys = ", ".join(f"method.{key}" for key in unknown)
            notice(f"{path}: {method['name']} has no {keys}: left out")


def _find_files(tree: dict[str, Any], folder: Path) -> None:
    """A file that a method reads, and that is not where its path says from here, is looked for beside the
    configuration."""
    method = tree.get("method")
    if not isinstance(method, dict):
        return
    with suppress(UserError):  # an unknown method is told of when the tree is validated
        settings: type[Training] = plugins.method(method.get("name")).settings
        for key in settings.files:
            if isinstance(method.get(key), str) and not Path(method[key]).exists():
                beside = folder / method[key]
                method[key] = str(beside) if beside.exists() else method[key]


def read(path: str | Path) -> dict[str, Any]:
    """A YAML file's mapping; raises UserError with one line."""
    try:
        tree = yaml.load(Path(path).read_text(), _Loader) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must hold `key: value` lines, not {type(tree).__name__}")
    return tree


def with_overrides(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """A configuration with `a.b=value` overrides applied; raises UserError as `load` does."""
    tree = config.model_dump(mode="json")
    for override in overrides:
        apply_override(tree, override)
    return parse(tree)


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    """Python keywords as overrides: `devices__count=80` as `devices.count=80`."""
    return [f"{key.replace('__', '.')}={json.dumps(value)}" for key, value in values.items()]


def parse(tree: Mapping[str, Any]) -> RunConfig:
    """Validate a nested mapping; raises UserError with one line."""
    return validate(RunConfig, tree)


def validate(model: type[Validated], tree: Mapping[str, Any]) -> Validated:
    """A mapping as a pydantic model; raises UserError with one line."""
    try:
        return model.model_validate(dict(tree))
    except ValidationError as error:
        lines: dict[str, str] = {}
        for each in error.errors():
            key, line = _explain(model, each, tree)
            lines[key] = f"{lines[key]} or {line.rpartition('must be ')[2]}" if key in lines else line
        raise UserError("; ".join(list(lines.values())[:3])) from None


def flatten(config: RunConfig | Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, or a part of one, as dotted keys, as overrides name them."""

    def leaves(prefix: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for key, value in tree.items():
            yield from leaves(f"{prefix}{key}.", value) if isinstance(value, dict) else [(f"{prefix}{key}", value)]

    return dict(leaves("", config.model_dump(mode="json") if isinstance(config, RunConfig) else config))


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set `a.b=value` (the value is YAML) in a nested mapping, or with `a.b=` take the key out of it.

    Raises UserError with one line.
    """
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"{shown(override)}: an override is key=value, e.g. devices.count=80")
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError):  # ValueError: a day that is in no month, a number of thousands of digits
        raise UserError(f"{shown(override)}: the value is not valid YAML; quote it") from None
    *parents, leaf = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"{key}: {parent} is a value, not a section")
        tree = child
    if text:
        tree[leaf] = value
    elif tree.pop(leaf, tree) is tree:
        raise UserError(f"{override}: there is nothing to unset, {key} is not set; {key}=null sets it to null")


def _tagged(field: FieldInfo) -> dict[Any, Any]:
    """The sections that a field may hold by the tag that tells them apart; none for other fields."""
    tag, members = field.discriminator, get_args(field.annotation)
    if isinstance(tag, str):
        return {name: member for member in members for name in get_args(member.model_fields[tag].annotation)}
    marks = ((mark, get_args(member)[0]) for member in members for mark in getattr(member, "__metadata__", ()))
    return {mark.tag: member for mark, member in marks if isinstance(mark, Tag)}


def _follow(model: type[BaseModel], loc: tuple[Any, ...], tree: Any) -> tuple[list[str], Any, dict[Any, Any]]:
    """Where an error in a tree is: its key, without pydantic's own names for the members of a union; the section that
    holds it; the sections by tag that it could be."""
    names: list[str] = []
    section: Any = model
    tagged: dict[Any, Any] = {}
    for part in loc:
        field = getattr(section, "model_fields", {}).get(part)
        if part in tagged:
            section, tagged = tagged[part], {}
        elif field is not None:
            names, section, tagged = [*names, part], field.annotation, _tagged(field)
            if section is Training and len(loc) > 1:
                section = plugins.method(tree[part]["name"]).settings
        elif isinstance(part, int):
            names, section = [*names, str(part)], (*get_args(section), None)[0]
        elif not part.startswith(("constrained-", "literal[")):
            names = [*names, part]
    return names, section, tagged


def _explain(model: type[BaseModel], error: Mapping[str, Any], tree: Mapping[str, Any]) -> tuple[str, str]:
    """The key of one pydantic error, and the error as `key = value: what would be right`."""
    names, section, tagged = _follow(model, error["loc"], tree)
    key, kind, value = ".".join(names), error["type"], error["input"]
    if kind == "unknown_method":
        return key, error["msg"]
    if kind == "extra_forbidden":
        return key, f"{key} = {shown(value)}: {_unknown(names, section, tree)}"
    if kind == "missing":
        return key, f"{key}: missing"
    if kind.startswith("union_tag"):
        tag = error["ctx"]["discriminator"].strip("'")
        given = value.get(tag) if isinstance(value, dict) else value
        return key, f"{key}.{tag} = {shown(given)}: must be one of {', '.join(tagged)}"
    message: str = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if kind == "value_error" and "=" in message.split(":")[0]:
        return key, message
    if kind.startswith(("model_", "dict_")):
        message = "must be a section of `key: value` lines"
    return key, f"{key} = {shown(value)}: {message}"


def _unknown(names: list[str], section: Any, tree: Any) -> str:
    """Why a section has no such key: another method has it, or it is misspelt."""
    known = sorted(section.model_fields)
    others = plugins.shipped().values() if names[0] == "method" else ()
    if any(names[-1] in other.settings.model_fields for other in others):
        return f"{tree['method']['name']} has no {names[-1]}; known keys: {', '.join(known)}"
    if close := difflib.get_close_matches(names[-1], known, n=1):
        return f"unknown key; did you mean {'.'.join([*names[:-1], close[0]])}?"
    return f"unknown key; known keys: {', '.join(known)}"
