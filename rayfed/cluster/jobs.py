"""The jobs of a Ray cluster, asked of its dashboard."""

import asyncio
import logging
import os
import platform
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
import requests
from aiohttp import ClientError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from rayfed.errors import CapacityError, ConnectionLostError, UserError, mask
from rayfed.rayjob import DRIVER_CPUS

State = Literal["pending", "running", "succeeded", "failed", "stopped"]
ENDED = ("succeeded", "failed", "stopped")
DRIVER = 0.5
"""Of a CPU, what a driver asks for on the head node: two drivers must not take both CPUs of a small one from the hosts
that they then wait for."""
STOP_S = 600
"""Seconds that a driver has to end its round before Ray kills it; by default they are 3."""
ANSWER_S = 60
"""For the dashboard to answer a request."""
KNOWN_S = 15
"""For a new head to tell of itself."""
POLL_S = 0.3
AN_HOUR = 3600
UNANSWERED = (
    AuthenticationError,
    ConnectionError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
)
"""What is raised where nobody has answered, or nothing but that a token is wanted."""
QUESTION = "rayfed-version-"
"""What the names of jobs begin with that only ask for a version."""
TAKEN = "already exists"
"""In Ray's answer to an id that another job has."""
VERSION = "from importlib.metadata import version; print(version('rayfed-gan'))"


@dataclass(frozen=True)
class Job:
    """A job as the cluster tells of it."""

    id: str
    state: State
    command: str
    """The shell command of its driver."""
    began: float | None
    """Seconds since 1970."""
    ended: float | None
    exit_code: int | None
    """The driver's. None means that it has not ended by itself."""
    message: str
    metadata: Mapping[str, str]

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True)
class Head:
    """The head node."""

    cpus: float
    python: str
    """The interpreter of its workers."""


class Jobs:
    """The jobs of one cluster. Whatever is wrong with the cluster raises UserError."""

    def __init__(self, address: str) -> None:
        """`address`: the dashboard's, such as `http://HOST:8265`; ports of a cluster that are not it are refused."""
        if address.startswith("ray://"):
            raise UserError(f"--address {address}: must be the dashboard's address, such as http://HOST:8265")
        self.address = (address if "://" in address else f"http://{address}").rstrip("/")
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address  # Ray prefers it to its own argument
        for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with self._asking():
            try:
                self._client = _Client(self.address)
            except UNANSWERED:
                raise
            except Exception as error:  # whatever another server's answer leads to
                raise UserError(
                    f"{self.address} answers, but not as a Ray dashboard ({type(error).__name__}); name the "
                    "dashboard with --address, such as http://HOST:8265"
                ) from None

    def refuse_other_versions(self) -> None:
        """Raise UserError for a cluster with another Ray or another Python than here."""
        about = self._get("/api/v0/cluster_metadata")
        refuse_versions(self.address, about["rayVersion"], about["pythonVersion"])

    def head(self) -> Head:
        """The head node; a new one tells of itself after a few seconds."""
        deadline = time.monotonic() + KNOWN_S
        while time.monotonic() < deadline:
            nodes = self._get("/api/v0/nodes?detail=1")["result"]["result"]
            heads = [node for node in nodes if node["is_head_node"] and node["state"] == "ALIVE"]
            if heads and (python := self._python(heads[0]["node_id"])):
                return Head(heads[0]["resources_total"].get("CPU", 0), python)
            time.sleep(POLL_S)
        raise UserError(f"{self.address}: the cluster does not tell of its head node; is it still starting?")

    def _python(self, node: str) -> str | None:
        """What a node's raylet was told to start workers with."""
        flag = "--python_worker_command="
        for about in self._get("/nodes?view=summary")["summary"]:
            if about.get("raylet", {}).get("nodeId") == node:
                commands = [word.removeprefix(flag) for word in about.get("cmdline", ()) if word.startswith(flag)]
                return shlex.split(commands[0])[0] if commands else None
        return None

    def rayfed_version(self, head: Head) -> str | None:
        """Which rayfed the head's Python has, by a small job of its own, one an hour. None means none."""
        name = f"{QUESTION}{time.time() // AN_HOUR:.0f}"
        with self._asking():
            ids = [str(details.submission_id) for details in self._client.list_jobs()]
            asked = [each for each in ids if each.startswith(QUESTION)]
            if name not in asked:
                self._ask_version(name, head)
            job = self.end_of(name)
            for old in set(asked) - {name}:
                with suppress(RuntimeError):  # somebody else has removed it
                    self._client.delete_job(old)
            return str(self._client.get_job_logs(name)).split()[-1] if job.state == "succeeded" else None

    def _ask_version(self, name: str, head: Head) -> None:
        entrypoint = shlex.join([head.python, "-P", "-c", VERSION])
        try:
            self._client.submit_job(entrypoint=entrypoint, submission_id=name)
        except RuntimeError as error:
            if TAKEN not in str(error):  # somebody else asks at the same time
                raise

    def submit(self, job_id: str, command: str, package: Path, wheel: str | None, metadata: Mapping[str, str]) -> None:
        """Start a job on the head node, in a copy of a working directory.

        `package` is the directory as a zip, `wheel` the path in it of a wheel that is installed first. Raises UserError
        for an id that is taken.
        """
        environment: dict[str, Any] = {
            "working_dir": str(package),
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)},
        }
        if wheel:
            environment["pip"] = [f"${{RAY_RUNTIME_ENV_CREATE_WORKING_DIR}}/{wheel}"]
        with self._asking(job_id):
            self._client.submit_job(
                entrypoint=command,
                submission_id=job_id,
                runtime_env=environment,
                metadata={DRIVER_CPUS: str(DRIVER), **metadata},
                entrypoint_num_cpus=DRIVER,
                entrypoint_resources={"node:__internal_head__": 0.001},
            )

    def list(self) -> list[Job]:
        """Those that were submitted, oldest first."""
        with self._asking():
            found = [_job(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted((job for job in found if not job.id.startswith(QUESTION)), key=lambda job: job.began or 0)

    def get(self, job_id: str) -> Job:
        """One job. Raises UserError when there is none such."""
        with self._asking(job_id):
            return _job(self._client.get_job_info(job_id))

    def logs(self, job_id: str) -> str:
        """What a job has printed."""
        with self._asking(job_id):
            return str(self._client.get_job_logs(job_id))

    def follow(self, job_id: str) -> Iterator[str]:
        """The lines of a job's log, from the first to the last, as they come."""
        rest = ""
        self.get(job_id)
        with self._following(job_id), asyncio.Runner() as runner:  # which leaves a Ctrl-C to the generator below
            chunks = self._client.tail_job_logs(job_id)

            async def following() -> str | None:
                return await anext(chunks, None)

            while (chunk := runner.run(following())) is not None:
                *lines, rest = (rest + chunk).split("\n")
                yield from lines
        if rest:
            yield rest

    @contextmanager
    def _following(self, job_id: str) -> Iterator[None]:
        """Whatever breaks off, the job goes on."""
        try:
            yield
        except (requests.RequestException, ConnectionError, ClientError, RuntimeError) as error:
            raise ConnectionLostError(
                f"{self.address}: the connection is lost ({type(error).__name__}); job {job_id} goes on, and `rayfed "
                f"attach {job_id}` follows it"
            ) from None

    def end_of(self, job_id: str) -> Job:
        """A job when it has ended."""
        while not (job := self.get(job_id)).has_ended:
            time.sleep(POLL_S)
        return job

    def stop(self, job_id: str) -> None:
        """Have a job's driver end its round, then itself."""
        with self._asking(job_id):
            self._client.stop_job(job_id)

    def _get(self, path: str) -> Any:
        with self._asking():
            return self._client._do_request("GET", path).json()["data"]

    @contextmanager
    def _asking(self, job_id: str = "") -> Iterator[None]:
        """What can be wrong with an answer, in one line."""
        try:
            yield
        except AuthenticationError:
            other = ", and this one is another" if os.environ.get("RAY_AUTH_MODE") == "token" else ""
            raise UserError(
                f"{self.address}: the cluster wants its token{other}; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
                "RAY_AUTH_TOKEN_PATH"
            ) from None
        except (requests.RequestException, ConnectionError, ClientError) as error:
            raise UserError(
                f"{self.address}: no Ray cluster answers ({type(error).__name__}); name its dashboard with --address, "
                "such as http://HOST:8265"
            ) from None
        except RuntimeError as error:
            raise UserError(self._explained(str(error), job_id)) from None

    def _explained(self, error: str, job_id: str) -> str:
        if TAKEN in error:
            return f"job {job_id!r} is already on {self.address}; take another id"
        if "does not exist" in error:
            return f"job {job_id!r} is not on {self.address}; `rayfed jobs` shows those that are"
        return f"{self.address}: {error.strip().splitlines()[-1]}"


class _Client(JobSubmissionClient):
    """Ray's client, which would wait for an answer forever."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        return super()._do_request(method, endpoint, timeout=ANSWER_S, **options)


def refuse_versions(address: str, ray_version: str, python_version: str) -> None:
    """Raise UserError for another Ray than here, or another minor version of Python."""
    here = platform.python_version()
    if ray_version != ray.__version__:
        raise UserError(
            f"{address}: the cluster has Ray {ray_version}, and here is Ray {ray.__version__}; install the same version"
        )
    if python_version.split(".")[:2] != here.split(".")[:2]:
        raise UserError(
            f"{address}: the cluster has Python {python_version}, and here is Python {here}; they must agree in the "
            "first two numbers"
        )


def refuse_small_head(head: Head) -> None:
    """Raise CapacityError for a head node that cannot hold a driver, which would wait there forever."""
    if head.cpus < DRIVER:
        raise CapacityError(
            f"the head node has {head.cpus:g} CPU, and a job's driver needs {DRIVER} there; start it with "
            "--num-cpus=1 (KubeRay: num-cpus in the head's rayStartParams), or more"
        )


def _job(details: Any) -> Job:
    began, ended = (time and time / 1000 for time in (details.start_time, details.end_time))
    return Job(
        id=details.submission_id or details.job_id,
        state=details.status.value.lower(),
        command=str(mask(details.entrypoint)),
        began=began,
        ended=ended,
        exit_code=details.driver_exit_code,
        message=details.message or "",
        metadata=details.metadata or {},
    )
