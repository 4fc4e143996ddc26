"""Runs what `ray up cluster.yaml` has a node run, on a "node" of this machine, and a job on what comes of it.

    sudo PYTHONPATH=. python tools/node_commands.py FOLDER

The node is an empty Debian that debootstrap makes in FOLDER/root, where setup_commands run with the network. Then
`ray up` itself runs, in namespaces of its own where nothing else of this machine is, against an AWS of moto: its `ssh`
runs each command in the node, and its `rsync` copies into it. A second raylet there, by worker_start_ray_commands, is
a worker without a GPU. Not real are systemd (a stub starts PostgreSQL, MLflow and Prometheus), the GPU and the cloud.
Exits with 1, and says why, when something is not as it should be.
"""

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[1]
DEBIAN = "bookworm"
PACKAGES = "sudo,ca-certificates,python3,python3-venv,procps,iproute2"
HEADS_PACKAGES = "sudo apt-get install -y -qq --no-install-recommends postgresql prometheus"
SYSTEMCTL = """#!/bin/bash
[ "$1" = restart ] || exit 0
for unit in "${@:2}"; do
    case $unit in
        postgresql@*) unit=${unit#postgresql@}; pg_ctlcluster "${unit%%-*}" "${unit#*-}" restart ;;
        *)
            file=/etc/systemd/system/$unit.service
            start=$(sed -z 's/\\\\\\n//g' "$file" | sed -n 's/^ExecStart=//p')
            user=$(sed -n 's/^User=//p' "$file")
            setsid sudo -u "$user" -H env $(cat /etc/cloud.env) $start >"/tmp/$unit.log" 2>&1 </dev/null & ;;
    esac
done
"""
SSH = """#!/bin/bash
while [[ $1 != ubuntu@* ]]; do shift; done
command="${*:2}"
[[ $command == *node/install.sh* ]] && exit 0    # has run already, with the network
exec chroot --userspec=ubuntu ROOT env -i $(cat ROOT/etc/cloud.env) HOME=/home/ubuntu USER=ubuntu \\
    PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin bash -c "cd; $command" </dev/null
"""
RSYNC = """#!/bin/bash
target=${!#}; target=${target#*:}; source=${@: -2:1}
target=ROOT/home/ubuntu/${target#\\~/}
mkdir -p "$(dirname "$target")"; cp -rT "${source%/}" "${target%/}"; chroot ROOT chown -R ubuntu /home/ubuntu
"""
JOB = ["jobs/demo.yaml", "rounds=2", "evaluation.every=0", "method.iterations=2", "resources.hosts=2"]


def main(folder: Path) -> None:
    """Make the node, then everything else in namespaces of its own."""
    root = folder / "root"
    if not root.exists():
        timed("debootstrap", ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", DEBIAN, str(root)])
    equip(root, read()["file_mounts"])
    own = ["unshare", "--pid", "--mount", "--fork", "--kill-child"]
    for command in (*read()["setup_commands"], HEADS_PACKAGES):
        timed(command, [*own, f"--mount-proc={root}/proc", *in_node(root, command)])
    done = subprocess.run([*own, "--net", sys.executable, __file__, str(folder), "inside"])
    sys.exit(done.returncode)


def equip(root: Path, mounts: dict[str, str]) -> None:
    """The user whom Ray logs in as, the files that it copies, and stubs for what is not there."""
    if not (root / "home/ubuntu").exists():
        subprocess.run(["chroot", root, "useradd", "--create-home", "--shell", "/bin/bash", "ubuntu"], check=True)
    (root / "etc/sudoers.d/ubuntu").write_text("ubuntu ALL=(ALL) NOPASSWD: ALL\n")
    script(root / "usr/local/bin/systemctl", SYSTEMCTL)
    script(root / "usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")  # packages are to start nothing by themselves
    copy_network_settings(root)
    for target, source in mounts.items():
        copy = root / "home/ubuntu" / target.removeprefix("~/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-rT", source, copy], check=True)
    subprocess.run(["chroot", root, "chown", "-R", "ubuntu", "/home/ubuntu"], check=True)


def copy_network_settings(root: Path) -> None:
    """What pip and apt need to reach their registries as this machine does."""
    for path in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt", "etc/xdg/pip", "etc/pip.conf"):
        if Path("/", path).exists():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-rT", f"/{path}", root / path], check=True)


def inside(folder: Path) -> None:
    """In namespaces of its own: the cloud, `ray up`, a worker, a job, and what there is then."""
    from tests.infra.aws import account, client, deploy

    root = folder / "root"
    for mount in (
        ["-t", "proc", "proc", "/proc"],
        ["-t", "proc", "proc", f"{root}/proc"],
        ["--bind", "/dev", f"{root}/dev"],
    ):
        subprocess.run(["mount", *mount], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{root}/dev/shm"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name, text in (("ssh", SSH), ("rsync", RSYNC)):
        script(folder / "bin" / name, text.replace("ROOT", str(root)))
    with account() as environment:
        deploy(environment)
        cloud = {name: value for name, value in environment.items() if name.startswith("AWS_")}
        (root / "etc/cloud.env").write_text(" ".join(f"{name}={value}" for name, value in cloud.items()))
        path = f"{folder}/bin:{Path(sys.executable).parent}:{environment['PATH']}"
        user = environment | {"HOME": str(folder), "PATH": path, "RAY_AUTH_MODE": "disabled"}
        timed("ray up", ["ray", "up", "-y", "--no-config-cache", "cluster.yaml"], user)
        start_worker(root, folder / "bin/ssh")
        token = (root / "home/ubuntu/.ray/auth_token").read_text()
        for page in ("8265/api/jobs/", "5000/api/2.0/mlflow/experiments/get-by-name?experiment_name=rayfed"):
            status = answer(f"http://127.0.0.1:{page}")
            check(status == 401, f"{page} answers {status} to a request without a token or a password")
        submit = [sys.executable, "-m", "rayfed", "submit", *JOB]
        user |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        timed(f"rayfed submit {' '.join(JOB)}", submit, user, cwd=jobs_folder(folder))
        check_prometheus()
        bucket = "rayfed-123456789012-us-west-2"
        objects = client(environment, "s3").list_objects_v2(Bucket=bucket)["Contents"]
    report(root, [each["Key"] for each in objects])


def check_prometheus() -> None:
    """Of the head's and the worker's metrics."""
    query = "http://127.0.0.1:9090/api/v1/query?query="
    for _ in range(30):
        with urllib.request.urlopen(f"{query}ray_rayfed_bytes_total", timeout=10) as response:
            if json.load(response)["data"]["result"]:
                return
        time.sleep(2)
    check(False, "Prometheus has no metrics of the run")


def start_worker(root: Path, ssh: Path) -> None:
    """A raylet beside the head's, with a /tmp of its own: its agent would unpack a job's files again under the job."""
    own = ["unshare", "--mount", "bash", "-c", 'mount -t tmpfs -o mode=1777 tmpfs "$0/tmp" && exec "$@"', str(root)]
    exports = "export RAY_HEAD_IP=127.0.0.1 RAY_OVERRIDE_RESOURCES='{\"CPU\":4}' RAY_NODE_TYPE_NAME=gpu_spot"
    for command in read()["worker_start_ray_commands"]:
        if "ray stop" not in command:  # it would end the head, too: here they are one machine
            timed(command, [*own, str(ssh), "ubuntu@worker", f"{exports}; {command}"])


def report(root: Path, keys: list[str]) -> None:
    """What the run has left: in the learning state's database, in MLflow, and in the bucket."""
    query = "SELECT id, status FROM runs"
    found = in_node(root, f". ~/.rayfed/node.env; export PGPASSWORD; psql -h localhost -U rayfed -Atc '{query}' rayfed")
    run, status = subprocess.run(found, capture_output=True, text=True, check=True).stdout.strip().split("|")
    check(status == "finished", f"run {run} is {status}")
    states = [key for key in keys if key.startswith(f"states/{run}/")]
    pictures = [key for key in keys if key.startswith("mlflow/") and key.endswith("run.png")]
    check(bool(states), "no device's state is in the bucket")
    check(bool(pictures), "MLflow has no run.png in the bucket")
    secret = "SELECT config::text || facts::text FROM runs"
    text = subprocess.run(
        in_node(root, f". ~/.rayfed/node.env; export PGPASSWORD; psql -h localhost -U rayfed -Atc '{secret}' rayfed"),
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    check("-pass" not in text, "a password is in the stored run")
    print(json.dumps({"run": run, "status": status, "states": len(states), "files of MLflow": len(keys) - len(states)}))


def read() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())
    return config


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def in_node(root: Path, command: str) -> list[str]:
    """A command of the node's user."""
    user = ["chroot", "--userspec=ubuntu", str(root), "env", "-i", "HOME=/home/ubuntu", "USER=ubuntu"]
    return [*user, "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin", "bash", "-c", f"cd; {command}"]


def jobs_folder(folder: Path) -> Path:
    """What a user submits: the job's file, without the rest of the repository."""
    target = folder / "submitted/jobs"
    shutil.copytree(REPOSITORY / "jobs", target, dirs_exist_ok=True)
    return target.parent


def answer(url: str) -> int:
    """The status of a page."""
    for _ in range(60):
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:  # the server is not up yet
            time.sleep(2)
    return 0


def timed(what: str, command: list[str], environment: dict[str, str] | None = None, cwd: Path = REPOSITORY) -> None:
    """Run a command, print how long it took, and end with what it said when it fails."""
    began = time.monotonic()
    done = subprocess.run(
        command, env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    print(f"{time.monotonic() - began:6.0f} s  {what}", flush=True)
    check(done.returncode == 0, f"{what} ended with {done.returncode}:\n{done.stdout[-4000:]}")


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        sys.exit(f"node_commands: {otherwise}")


if __name__ == "__main__":
    (inside if sys.argv[2:] == ["inside"] else main)(Path(sys.argv[1]).absolute())
