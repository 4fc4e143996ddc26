"""Runs the Dockerfile's steps where there is no container engine: in an empty Debian that debootstrap makes.

    sudo python tools/image_steps.py FOLDER

Both stages run in FOLDER/root, with Debian's Python instead of the base image's. Then the image's user trains one round
in a login shell, as KubeRay's commands do. Exits with 1, and says why, when a step fails.
"""

import shutil
import sys
from pathlib import Path

from node_commands import DEBIAN, REPOSITORY, copy_network_settings, script, timed

PACKAGES = "ca-certificates,python3,python3-venv"
TRIAL = "rayfed run jobs/demo.yaml --local rounds=1 method.iterations=1 evaluation.every=0"


def main(root: Path) -> None:
    """Make the Debian, run the steps, and try what they made."""
    if not root.exists():
        timed("debootstrap", ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", DEBIAN, str(root)])
    copy_network_settings(root)
    script(root / "usr/local/bin/python", '#!/bin/sh\nexec python3 "$@"\n')
    folder = root
    for step, _, text in (line.partition(" ") for line in lines(REPOSITORY / "Dockerfile")):
        words = [word for word in text.split() if not word.startswith("--chown=")]
        if step == "WORKDIR":
            folder = root / text.lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
        elif step == "COPY" and not text.startswith("--from="):  # both stages are in one place
            copy(words[:-1], words[-1], folder, root)
        elif step == "RUN":
            timed(text, inside(root, "root", f"cd /{folder.relative_to(root)} && {text}", "sh", "-c"))
    timed(TRIAL, inside(root, "ray", f"cd && {TRIAL}", "bash", "-lc"))


def lines(dockerfile: Path) -> list[str]:
    """Its instructions, each in one line."""
    text = dockerfile.read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def copy(sources: list[str], target: str, folder: Path, root: Path) -> None:
    """Copy what .dockerignore lets in, as COPY does."""
    place = root / target.lstrip("/") if target.startswith("/") else folder / target
    for source in map(REPOSITORY.joinpath, sources):
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)


def inside(root: Path, user: str, command: str, *shell: str) -> list[str]:
    """A command of a user of the image, in namespaces that end with it."""
    own = ["unshare", "--pid", "--mount", f"--mount-proc={root}/proc", "--fork", "--kill-child", "chroot"]
    home = "/root" if user == "root" else f"/home/{user}"
    path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return [*own, f"--userspec={user}", str(root), "env", "-i", f"HOME={home}", f"PATH={path}", *shell, command]


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute() / "root")
