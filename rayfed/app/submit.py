"""From a configuration to a job on a Ray cluster: checked here, packed with its working directory, and sent."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

from rayfed import config as configuration
from rayfed import plugins
from rayfed.app.runs import new_id
from rayfed.app.wheel import NAME, write_wheel
from rayfed.cluster.jobs import Jobs, refuse_small_head
from rayfed.cluster.packing import pack
from rayfed.config import RunConfig
from rayfed.config.reading import apply_override, load_tree, read
from rayfed.config.run import default_runs_dir
from rayfed.config.sections import ARRAYS, IMAGE_FOLDER, PARTITION_FILE
from rayfed.errors import UserError, mask

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What is to run on the cluster."""

    job_id: str
    command: Sequence[str]
    """Of rayfed, without its name."""
    files: Sequence[Path]
    """Files and folders of the working directory without which it does not run."""
    metadata: Mapping[str, str]
    """The run's or comparison's id, and where in MLflow it is."""


def order(arguments: Sequence[str], notice: Notice) -> Order:
    """A run or a comparison, by the arguments of `rayfed run`: a file, if its first is one, and overrides.

    Raises UserError for whatever is wrong with the configuration, and for a file that the cluster would not have.
    """
    alone = "=" in arguments[0] and not Path(arguments[0]).exists()
    overrides = list(arguments if alone else arguments[1:])
    file = None if alone else inside("the job's file", arguments[0])
    if file and "runs" in read(file):
        return _comparison(file, overrides, notice)
    tree = load_tree(file, overrides, notice)
    config = configuration.parse(tree)
    run_id = new_id(config.method.name)
    files = [file] if file else []
    command = ["run", *map(str, files), *overrides, "--id", run_id]
    named = f"{run_id}, seed {config.seed}"
    return Order(run_id, command, [*files, *_checked(tree, notice)], _metadata(run_id, config, named))


def _comparison(file: Path, overrides: Sequence[str], notice: Notice) -> Order:
    comparison = configuration.load_comparison(file, overrides)
    config = next(config for seeds in comparison.configs().values() for config in seeds.values())
    ident = new_id(re.sub(r"[^\w.-]", "-", file.stem))
    files = dict.fromkeys(path for tree in comparison.trees() for path in _checked(tree, notice))
    command = ["compare", str(file), *overrides, "--id", ident]
    return Order(ident, command, [file, *files], _metadata(ident, config, ident, "rayfed_comparison"))


def order_to_resume(run_id: str, overrides: Sequence[str], places: Sequence[str], taken: Sequence[str]) -> Order:
    """A run of the cluster that goes on. `places`: options that say where its store is. `taken`: the jobs' ids."""
    for override in overrides:
        apply_override({override.split("=")[0]: None} if override.endswith("=") else {}, override)
    number = next(number for number in range(1, len(taken) + 2) if f"{run_id}-resume-{number}" not in taken)
    metadata = {"rayfed_run": run_id, "rayfed_version": version(NAME)}
    return Order(f"{run_id}-resume-{number}", ["resume", run_id, *overrides, *places], [], metadata)


def submit(order: Order, jobs: Jobs) -> None:
    """Send an order to a cluster, with the working directory and, if the cluster has another rayfed, with this one.

    Raises UserError for other versions of Ray or Python there, and for a working directory that is too large;
    CapacityError for a head node that has no CPU for the driver.
    """
    jobs.refuse_other_versions()
    head = jobs.head()
    refuse_small_head(head)
    folder = Path.cwd()
    with TemporaryDirectory(prefix="rayfed-submit-") as scratch:
        package, wheel = Path(scratch, "package.zip"), None
        if jobs.rayfed_version(head) != version(NAME):
            wheel = write_wheel(Path(scratch)).relative_to(scratch)
        pack(folder, package, order.files, _runs_dirs(folder))
        if wheel:
            with ZipFile(package, "a") as archive:
                archive.write(Path(scratch, wheel), str(wheel))
        python = "python" if wheel else head.python  # Ray puts that of an environment with a wheel first in PATH
        command = shlex.join([python, "-m", "rayfed", *order.command])
        jobs.submit(order.job_id, command, package, str(wheel) if wheel else None, order.metadata)


def _runs_dirs(folder: Path) -> list[str]:
    """This machine's runs folder as a pattern, if it lies in a folder."""
    runs = Path(default_runs_dir()).absolute()
    return [f"/{runs.relative_to(folder)}"] if runs.is_relative_to(folder) and runs != folder else []


def _metadata(ident: str, config: RunConfig, mlflow_run: str, what: str = "rayfed_run") -> dict[str, str]:
    found = {what: ident, "rayfed_version": version(NAME)}
    if config.tracking.enabled:
        found |= {"mlflow_experiment": config.tracking.experiment, "mlflow_run_name": mlflow_run}
        found |= {"mlflow_uri": str(mask(config.tracking.uri))} if config.tracking.uri else {}
    return found


def inside(what: str, path: str | Path) -> Path:
    """A path in the working directory, relative to it. Raises UserError for one outside, or that is not there."""
    here = Path.cwd()
    place = (here / Path(path)).resolve()
    if not place.is_relative_to(here.resolve()):
        raise UserError(f"{what} {path}: lies outside {here}, and only that folder is sent to the cluster")
    if not place.exists():
        raise UserError(f"{what} {path}: no such file in {here}")
    return place.relative_to(here.resolve())


def _checked(tree: Mapping[str, Any], notice: Notice) -> list[Path]:
    """The files of the working directory that a configuration names.

    `notice` hears of absolute paths, which are the cluster's. Raises UserError for a relative one that is not sent, and
    for results that would go to the job's own working directory, which Ray throws away.
    """
    for key, value in _kept(tree):
        raise UserError(
            f"{key} = {value!r}: a job's working directory is thrown away; name an absolute path of the cluster or a "
            "URL, or leave it out"
        )
    found = []
    for key, value in _read(tree):
        if Path(value).expanduser().is_absolute():
            notice(f"{key}: {value} is read on the cluster; it is not sent")
        else:
            found.append(inside(f"{key} =", value))
    return found


def _values(tree: Mapping[str, Any]) -> dict[str, str]:
    """The texts among the values, by their dotted keys."""
    return {key: value for key, value in configuration.flatten(tree).items() if isinstance(value, str)}


def _read(tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and path of what a configuration reads."""
    method = plugins.method(tree["method"]["name"]).settings
    whole = {"data.root", "evaluation.weights", *(f"method.{key}" for key in method.files)}
    for key, value in _values(tree).items():
        if key in whole:
            yield key, value
        for prefix in {"data.name": (IMAGE_FOLDER, ARRAYS), "data.partition": (PARTITION_FILE,)}.get(key, ()):
            if value.startswith(prefix):
                yield key, value.removeprefix(prefix)


def _kept(tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Key and value of what would be written to a folder that is not absolute."""
    for key, value in _values(tree).items():
        is_folder = key in ("runs_dir", "store.states") and "://" not in value
        is_database = key in ("store.url", "tracking.uri") and value.startswith("sqlite:")
        if is_folder and not Path(value).expanduser().is_absolute():
            yield key, value
        if is_database and not re.match(r"sqlite:////", value):
            yield key, value
