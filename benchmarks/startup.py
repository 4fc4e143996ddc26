"""Seconds from the command to the first training step, and from the end of the last round to the end of the process.

    python benchmarks/startup.py [TREE ...]

Runs jobs/demo.yaml for four rounds with the rayfed of each TREE, a checkout (by default this one), in turn, PAIRS
times. The moments are those of the demo's method, of which this module keeps the time: the end of the first iteration
of the first device, and the end of the server's last round. The last line of each tree has the smallest figures.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rayfed.methods import fegan

PAIRS, ROUNDS = 3, 4
FOLDER = "RAYFED_STARTUP_MARKS"
"""The environment variable that names the folder of the marks."""


def mark(name: str) -> None:
    """Keep this moment, the last of its name for rounds and the first for steps."""
    path = Path(os.environ[FOLDER], name)
    if name == "round" or not path.exists():
        path.write_text(repr(time.time()))


class Device(fegan.fedavg.Device):
    """Marks the end of its process's first iteration."""

    def __init__(self, context: Any, state: Any) -> None:
        super().__init__(context, state)
        gan = context.workspace.gan
        step = type(gan).step

        def first(*args: Any, **kwargs: Any) -> Any:
            found = step(gan, *args, **kwargs)
            mark("step")
            del gan.step
            return found

        gan.step = first


class Server(fegan.Server):
    """Marks the end of each round."""

    def round(self, state: Any, fleet: Any) -> Any:
        found = super().round(state, fleet)
        mark("round")
        return found


METHOD = replace(fegan.METHOD, server=Server, device=Device)


def measure(tree: Path) -> tuple[float, float]:
    """The two figures of one run."""
    with tempfile.TemporaryDirectory(prefix="rayfed-startup-") as folder:
        path = os.pathsep.join([str(tree), str(Path(__file__).parent)])
        environment = os.environ | {FOLDER: folder, "PYTHONPATH": path}
        keys = ["method.name=startup:METHOD", f"rounds={ROUNDS}", f"runs_dir={folder}/runs"]
        begun = time.time()
        command = [sys.executable, "-m", "rayfed", "run", "jobs/demo.yaml", *keys]
        subprocess.run(command, cwd=tree, env=environment, check=True, capture_output=True)
        ended = time.time()
        step, last = (float(Path(folder, name).read_text()) for name in ("step", "round"))
    return step - begun, ended - last


def main() -> None:
    trees = [Path(tree).resolve() for tree in sys.argv[1:]] or [Path(__file__).resolve().parents[1]]
    found: dict[Path, list[tuple[float, float]]] = {tree: [] for tree in trees}
    for _ in range(PAIRS):
        for tree in trees:
            found[tree].append(measure(tree))
            print(f"{tree}: first step after {found[tree][-1][0]:.1f} s, end {found[tree][-1][1]:.1f} s", flush=True)
    for tree, figures in found.items():
        begin, end = (min(each) for each in zip(*figures, strict=True))
        print(f"{tree}: at least {begin:.1f} s from the command to the first step, {end:.1f} s from the last round on")


if __name__ == "__main__":
    main()
