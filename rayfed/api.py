"""rayfed as a library: what the commands do, as functions that return results.

    import rayfed

    result = rayfed.run("jobs/demo.yaml", rounds=10)
    result.metrics, result.pictures, result.generator()

Progress is shown on stderr, in a notebook below the cell; `progress=False` leaves it out. Importing this module imports
neither torch nor ray: a private Ray's environment is set before its first import.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from os import PathLike
from typing import TYPE_CHECKING, Any

from rayfed import config as configuration
from rayfed.cluster import prepare_environment
from rayfed.config import Comparison, RunConfig
from rayfed.config.reading import overrides_of
from rayfed.config.run import default_runs_dir

if TYPE_CHECKING:
    from rayfed.app.result import Result
    from rayfed.engine.callbacks import Callback


def run(
    config: "str | PathLike[str] | RunConfig | None" = None,
    *,
    local: bool = False,
    progress: bool = True,
    callbacks: "Sequence[Callback]" = (),
    run_id: str | None = None,
    **overrides: Any,
) -> "Result":
    """Train as a configuration, or a YAML file, says; without one as the overrides alone do.

    `local` trains in this process, without Ray. `overrides` are keys of the configuration, dotted ones with two
    underscores: `devices__count=80`. `callbacks` hear of every round; see `rayfed.engine.callbacks.Callback`. `run_id`
    None means a fresh one. Raises UserError for whatever a configuration can have wrong, and for an id that is taken.
    """
    texts, notices = overrides_of(overrides), list[str]()
    if isinstance(config, RunConfig):
        config = configuration.with_overrides(config, texts)
    else:
        config = configuration.load(None if config is None else str(config), texts, notices.append)
    prepare_environment(config.ray.address)
    from rayfed.app.beginning import begun
    from rayfed.console.display import Display

    with closing(Display(quiet=not progress)) as display:
        for text in notices:
            display.notice(text)
        with begun(config, local, display) as beginning:
            from rayfed.app.run import run as run_config

            return run_config(config, beginning, local, display, callbacks=callbacks, run_id=run_id)


def resume(
    run_id: str,
    overrides: Iterable[str] = (),
    *,
    runs_dir: str | None = None,
    store: str | None = None,
    local: bool = False,
    progress: bool = True,
    callbacks: "Sequence[Callback]" = (),
    round: int | None = None,
    drop_damaged_states: bool = False,
) -> "Result":
    """Go on with a run from its last committed round; a finished one with `["rounds=80"]`.

    `runs_dir` None means RAYFED_RUNS_DIR, or `rayfed-runs` where that is not set. `round` goes on from an earlier round
    that is kept, and forgets those after it. With `drop_damaged_states` devices whose state is gone or damaged begin
    with a fresh one.

    Raises UserError for overrides that would change committed rounds, and for a run that there is not, or that still
    runs elsewhere.
    """
    from rayfed.app.runs import config_of, open_store

    folder = runs_dir or default_runs_dir()
    opened = open_store(folder, store)
    config = config_of(opened.run(run_id), folder, store)
    texts = list(overrides)
    address = configuration.with_overrides(config, [text for text in texts if text.startswith("ray.")]).ray.address
    prepare_environment(address)
    from rayfed.app.run import resume as resume_run
    from rayfed.console.display import Display

    with closing(opened), closing(Display(quiet=not progress)) as display:
        return resume_run(run_id, config, opened, texts, local, display, callbacks, round, drop_damaged_states)


def compare(
    comparison: "str | PathLike[str] | Comparison",
    *,
    name: str = "comparison",
    ident: str | None = None,
    local: bool = False,
    **overrides: Any,
) -> dict[str, Any]:
    """Compare the runs of a comparison, or of its YAML file; see `rayfed.app.compare.compare` for what it returns.

    `ident` is the comparison's id. None means a fresh one, which begins with `name`.
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
    from rayfed.app.runs import new_id
    from rayfed.console.display import ComparisonDisplay

    return run_comparison(comparison, ident or new_id(name), local, ComparisonDisplay())


def load(run_id: str, *, runs_dir: str | None = None, store: str | None = None) -> "Result":
    """A run of a runs folder, or of a store by URL, as far as it has come. Raises UserError if there is none such."""
    from rayfed.app.runs import load as load_run

    return load_run(run_id, runs_dir or default_runs_dir(), store)
