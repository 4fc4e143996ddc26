"""Where methods, networks and data sets of any package are found: by name, by entry point, or by dotted name.

A dotted name is `package.module:OBJECT`; its module is installed, or lies in the working directory. A method may also
be named by an entry point of the group `rayfed.methods`; those that come with rayfed are the modules of
`rayfed.methods` that define METHOD, or several in METHODS.
"""

import pkgutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module, invalidate_caches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rayfed.errors import UserError, cut, shown

GROUP = "rayfed.methods"
"""Of entry points, and the package of the methods that come with rayfed."""
CAUSE = 400
"""Characters of somebody else's error that a message shows."""


@runtime_checkable
class Method(Protocol):
    """What of a `rayfed.methods.spec.MethodSpec` is known below the methods, where it is described."""

    @property
    def name(self) -> str: ...
    @property
    def about(self) -> str: ...
    @property
    def settings(self) -> type[Any]: ...
    @property
    def validate(self) -> Callable[[Any], None]: ...


def load_object(key: str, name: str) -> Any:
    """The object that a dotted name, the value of the configuration's `key`, stands for.

    Raises UserError with the real cause when the module does not import or has no such object.
    """
    module, _, attribute = name.partition(":")
    try:
        found = _import(module)
    except (Exception, SystemExit) as error:  # a module of somebody else's can raise anything
        raise UserError(f"{key} = {shown(name)}: cannot import {cut(module)} ({cause(error)})") from None
    if not attribute or not hasattr(found, attribute):
        named = f"has no {cut(attribute)}" if attribute else "is a module; name an object in it"
        raise UserError(f"{key} = {shown(name)}: {module} {named}, as in package.module:OBJECT")
    return getattr(found, attribute)


def cause(error: BaseException) -> str:
    """What somebody else's code raised, in one line."""
    return cut(f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": "), CAUSE)


def _import(module: str) -> Any:
    """A module, also of the working directory, where `python -m` looks and a console script does not."""
    if module not in sys.modules:
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        invalidate_caches()  # it may have been written a moment ago
    return import_module(module)


def method(name: object) -> Method:
    """The MethodSpec of a name or dotted name; raises UserError for one that there is not."""
    known, points = shipped(), _points()
    if isinstance(name, str):
        if ":" in name:
            return _spec(name, name)
        if name in known:
            return known[name]
        if name in points:
            return _spec(name, points[name].value)
    every = ", ".join([*known, *points])
    raise UserError(f"method.name = {shown(name)}: must be one of {every}, or package.module:METHOD")


def _spec(name: str, dotted: str) -> Method:
    found = load_object("method.name", dotted)
    if isinstance(found, type) or not isinstance(found, Method):
        kind = "class" if isinstance(found, type) else type(found).__name__
        raise UserError(f"method.name = {shown(name)}: is a {kind}; it must be a rayfed.methods.spec.MethodSpec")
    return found


def methods() -> dict[str, Method]:
    """Every method by name: rayfed's own, then those of entry points."""
    return {name: method(name) for name in (*shipped(), *_points())}


def described() -> dict[str, str]:
    """A line about each method by name; of an entry point that does not import, why."""
    lines = {}
    for name in (*shipped(), *_points()):
        try:
            lines[name] = method(name).about
        except UserError as error:
            lines[name] = str(error)
    return lines


@cache
def _points() -> dict[str, EntryPoint]:
    """Entry points by name; a name of rayfed's own methods stays rayfed's."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in shipped()}


@cache
def shipped() -> dict[str, Method]:
    """The methods that come with rayfed, by name."""
    return {spec.name: spec for spec in _specs()}


def _specs() -> Iterator[Method]:
    package = import_module(GROUP)
    for module in pkgutil.iter_modules(package.__path__):
        found = import_module(f"{GROUP}.{module.name}")
        yield from getattr(found, "METHODS", [found.METHOD] if hasattr(found, "METHOD") else [])
