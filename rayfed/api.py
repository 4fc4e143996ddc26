"""rayfed as a library: what the commands do, as functions that return results.

    import rayfed

    result = rayfed.run("jobs/demo.yaml", rounds=10)
    result.metrics, result.pictures, result.generator()

Progress is shown on stderr, in a notebook below the cell; `progress=False` leaves it out. Importing this module imports
neither torch nor ray: a private Ray's environment is set before its first import.
"""

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from rayfed import config as configuration
from rayfed.cluster import prepare_environment
from rayfed.config import Comparison, RunConfig
from rayfed.config.reading import overrides_of

if TYPE_CHECKING:
    from rayfed.app.result import Result
    from rayfed.engine.callbacks import Callback

RUNS_DIR = RunConfig.model_fields["runs_dir"].default


def run(
    config: "str | PathLike[str] | RunConfig",
    *,
    local: bool = False,
    progress: bool = True,
    callbacks: "Sequence[Callback]" = (),
    **overrides: Any,
) -> "Result":
    """Train as a configuration, or a YAML file, says.

    `local` trains in this process, without Ray. `overrides` are keys of the configuration, dotted ones with two
    underscores: `devices__count=80`. `callbacks` hear of every round; see `rayfed.engine.callbacks.Callback`.
    Raises UserError for whatever a configuration can have wrong.
    """
    texts = overrides_of(overrides)
    if isinstance(config, RunConfig):
        config = configuration.with_overrides(config, texts)
    else:
        config = configuration.load(str(config), texts)
    prepare_environment(config.ray.address)
    from rayfed.app.run import run as run_config
    from rayfed.console.display import Display

    return run_config(config, local, Display(quiet=not progress), callbacks=callbacks)


def resume(
    run_id: str,
    overrides: Iterable[str] = (),
    *,
    runs_dir: str = RUNS_DIR,
    store: str | None = None,
    local: bool = False,
    progress: bool = True,
) -> "Result":
    """Go on with a run from its last committed round; a finished one with `["rounds=80"]`.

    Raises UserError for overrides that would change committed rounds, and for a run that there is not, or that still
    runs elsewhere.
    """
    from rayfed.app.runs import config_of, open_store

    opened = open_store(runs_dir, store)
    config = config_of(opened.run(run_id), runs_dir, store)
    texts = list(overrides)
    address = configuration.with_overrides(config, [text for text in texts if text.startswith("ray.")]).ray.address
    prepare_environment(address)
    from rayfed.app.run import resume as resume_run
    from rayfed.console.display import Display

    try:
        return resume_run(run_id, config, opened, texts, local, Display(quiet=not progress))
    finally:
        opened.close()


def compare(
    comparison: "str | PathLike[str] | Comparison", *, name: str = "comparison", local: bool = False, **overrides: Any
) -> dict[str, Any]:
    """Compare the runs of a comparison, or of its YAML file; see `rayfed.app.compare.compare` for what it returns.

    `overrides` are `seeds=[0, 1]`, `devices=[5, 10]` (device counts at which throughput is rehearsed), and keys of what
    the runs share, dotted ones with two underscores: `devices__count=80`. Raises UserError for whatever a comparison
    can have wrong.
    """
    texts = overrides_of(overrides)
    if isinstance(comparison, Comparison):
        comparison = comparison.with_overrides(texts)
    else:
        comparison = configuration.load_comparison(str(comparison), texts)
    first = next(iter(comparison.configs().values()))
    prepare_environment(next(iter(first.values())).ray.address)
    from rayfed.app.compare import compare as run_comparison
    from rayfed.console.display import ComparisonDisplay

    return run_comparison(comparison, name, local, ComparisonDisplay())


def load(run_id: str, *, runs_dir: str = RUNS_DIR, store: str | None = None) -> "Result":
    """A run of a runs folder, or of a store by URL, as far as it has come. Raises UserError if there is none such."""
    from rayfed.app.runs import load as load_run

    return load_run(run_id, runs_dir, store)
