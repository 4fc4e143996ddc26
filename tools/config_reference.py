"""Writes docs/configuration.md: every key of a configuration, its default, what it may be and what it means.

    python tools/config_reference.py            # write
    python tools/config_reference.py --check    # exit 1, with a line, when the file is not current

The keys and their meanings are the models' own: fields, and the docstrings below them.
"""

import ast
import inspect
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

from generated import write_or_check
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rayfed import plugins
from rayfed.config import Comparison, DistributedTraining, FederatedTraining, RunConfig, Training

Model = type[BaseModel]
FILE = Path(__file__).parents[1] / "docs" / "configuration.md"
WORDS = {int: "a whole number", float: "a number", str: "text", bool: "`true` or `false`", NoneType: "`null`"}
LIMITS = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "of at least"}
SHARED: dict[type[Training], tuple[Model, str]] = {
    Training: (BaseModel, "Every method has these keys"),
    DistributedTraining: (Training, "Methods whose devices may be late or lost have these too"),
    FederatedTraining: (DistributedTraining, "Methods that ask a fraction of the devices in each round have these too"),
}
"""What methods share: a class, the one that it extends, and a sentence."""
HEAD = """# Configuration

`make docs` makes this page from the models in `rayfed/config/` and from each method's settings.

A configuration is a YAML file. On the command line `KEY=VALUE` sets a key by its dotted name, as in
`rayfed run jobs/demo.yaml devices.count=20 method.sampling=random`; a value is YAML too, and `KEY=` alone takes a key
out of what the file says. With another `method.name` than the file's, keys of the file that this method does not have
are left out, and a line says which. `rayfed run method.name=fegan` needs no file. In Python a dot is written as two
underscores: `rayfed.run("jobs/demo.yaml", devices__count=20)`. Only `method.name` has no default. None is written
`null`. An unknown key, a wrong type or an impossible value is refused with one line that names the key.
"""


def main(arguments: Sequence[str]) -> int:
    """Write the page, or check it; gives the exit code."""
    for name in ("RAYFED_RUNS_DIR", "RAYFED_STORE_STATES"):
        os.environ.pop(name, None)  # a default that is not everybody's
    text = "\n".join(page())
    return write_or_check(FILE, text, arguments)


def page() -> Iterator[str]:
    """The page's headings, sentences and tables."""
    yield HEAD
    yield "## The run\n"
    fields = RunConfig.model_fields
    yield table(RunConfig, "", [name for name, field in fields.items() if not is_model(field.annotation)])
    for name, field in fields.items():
        if name == "method":
            yield from methods()
        elif is_model(field.annotation):
            yield from section(field.annotation, name, summary(field.annotation), 2, field.default)
    yield "## A comparison's file\n"
    yield f"{summary(Comparison)} See [compare.md](compare.md).\n"
    yield table(Comparison, "", list(Comparison.model_fields))


def methods() -> Iterator[str]:
    """The section `method`: what methods share, then the own keys of each that comes with rayfed."""
    outside = {point.name for point in entry_points(group=plugins.GROUP)}
    specs = {name: spec for name, spec in plugins.methods().items() if name not in outside}
    yield "## `method`\n"
    for shared, (base, sentence) in SHARED.items():
        users = ", ".join(f"`{name}`" for name, spec in specs.items() if issubclass(spec.settings, shared))
        yield f"{sentence} ({users}):\n"
        yield table(shared, "method.", [name for name in shared.model_fields if name not in base.model_fields])
    for name, spec in specs.items():
        settings: type[Training] = spec.settings
        shared = next(each for each in reversed(SHARED) if issubclass(settings, each))
        above = {key: cells(shared, key) for key in shared.model_fields}
        own = [key for key in settings.model_fields if cells(settings, key) != above.get(key)]
        files = [key for key in settings.files if key not in settings.model_fields]
        yield f"### `method.name: {name}`\n"
        yield f"{spec.about[0].upper()}{spec.about[1:]}.\n"
        if own:
            yield table(settings, "method.", own, files=files)
        yield f"As above: {', '.join(f'`{key}`' for key in above if key not in own)}.\n"
        for key in own:
            field = settings.model_fields[key]
            if is_model(field.annotation):
                yield from section(field.annotation, f"method.{key}", summary(field.annotation), 4)
            yield from members(field, f"method.{key}", 4)


def section(model: Model, prefix: str, about: str, level: int, default: Any = None, title: str = "") -> Iterator[str]:
    """A section with its keys, and the sections in it; `default` is an instance whose values go before the fields'."""
    yield f"{'#' * level} {title or f'`{prefix}`'}\n"
    yield f"{about}\n"
    if plain := [name for name, field in model.model_fields.items() if not is_model(field.annotation)]:
        yield table(model, f"{prefix}.", plain, default)
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}"
        if is_model(field.annotation):
            yield from section(field.annotation, key, meanings(model)[name], level + 1, field.default)
        yield from members(field, key, level + 1)


def members(field: FieldInfo, key: str, level: int) -> Iterator[str]:
    """The sections of which a field holds a list, or one."""
    tag = field.discriminator
    plain = (get_args(each)[0] if get_origin(each) is Annotated else each for each in get_args(field.annotation))
    for member in filter(is_model, plain):
        if isinstance(tag, str):
            title = f"`{key}.{tag}: {member.model_fields[tag].default}`"
            yield from section(member, key, summary(member), level, title=title)
        elif get_origin(field.annotation) in (list, tuple):
            yield from section(member, f"{key}.N", summary(member), level, title=f"`{key}`, entry N")
        else:
            yield from section(member, key, summary(member), level)


def table(model: Model, prefix: str, names: Iterable[str], default: Any = None, files: Iterable[str] = ()) -> str:
    """Keys of a section; those of `files` are paths, and no fields."""
    rows = [(prefix + name, *cells(model, name, default)) for name in names]
    rows += [(prefix + name, "-", "a path", meanings(model)["files"]) for name in files]
    lines = [f"| `{key}` | {' | '.join(rest)} |" for key, *rest in rows]
    return "\n".join(["| Key | Default | It may be | Meaning |", "|---|---|---|---|", *lines, ""])


def cells(model: Model, name: str, default: Any = None) -> tuple[str, str, str]:
    """A key's default, what it may be, and its meaning. Exits for a key whose field has no docstring."""
    field, meaning = model.model_fields[name], meanings(model).get(name)
    if not meaning:
        sys.exit(f"{model.__module__}.{model.__name__}.{name} has no docstring")
    own = field.get_default(call_default_factory=True, validated_data={})
    return shown(getattr(default, name, own)), values(field.annotation, field.metadata), meaning


def shown(default: Any) -> str:
    """A default as YAML has it."""
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, list | BaseModel):
        return "see below"
    if default is None or isinstance(default, bool):
        return {None: "`null`", True: "`true`", False: "`false`"}[default]
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def values(kind: Any, metadata: Iterable[Any] = ()) -> str:
    """What a field of this annotation may be, in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return values(parts[0], parts[1:])
    if origin is Literal:
        *most, last = (f"`{part}`" for part in parts)
        return f"{', '.join(most)} or {last}" if most else last
    if origin in (list, tuple):
        return f"a list{bounds(metadata)}; see below" if is_model(parts[0]) else f"a list; each {values(parts[0])}"
    if is_model(kind):
        return "a section, see below"
    if origin in (Union, UnionType):
        return "a section, see below" if is_model(parts[0]) else ", or ".join(map(values, parts))
    return "a section" if origin is dict else f"{WORDS[kind]}{bounds(metadata)}"


def bounds(metadata: Iterable[Any]) -> str:
    """Limits of a number, or of a list's length, in words."""
    every = [each for item in metadata for each in (item.metadata if isinstance(item, FieldInfo) else [item])]
    found = {name: getattr(each, name) for each in every for name in LIMITS if hasattr(each, name)}
    texts = {name: "2^63" if value == 2**63 else f"{value:,.16g}" for name, value in found.items()}
    if texts.keys() == {"ge", "le"}:
        return f" from {texts['ge']} to {texts['le']}"
    words = " and ".join(f"{words} {texts[name]}" for name, words in LIMITS.items() if name in texts)
    return f" {words}" if words else ""


def is_model(kind: Any) -> TypeGuard[Model]:
    """Whether an annotation is a section."""
    return inspect.isclass(kind) and issubclass(kind, BaseModel)


def summary(model: Model) -> str:
    """The first paragraph of a section's docstring."""
    return " ".join((inspect.getdoc(model) or "").partition("\n\n")[0].split())


def meanings(model: Model) -> dict[str, str]:
    """The docstring below each field of a section and of its bases."""
    found = {}
    for each in (base for base in reversed(model.__mro__) if base.__module__.startswith("rayfed.")):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                found[field.target.id] = " ".join(str(ast.literal_eval(below.value)).split()).replace("|", "\\|")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
