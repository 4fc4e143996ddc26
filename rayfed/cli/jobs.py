"""The commands about jobs on a Ray cluster: to submit them, and what becomes of them."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rayfed.cli.shared import FAILED, INTERRUPTED, Json
from rayfed.cluster import prepare_environment

if TYPE_CHECKING:
    from rayfed.cluster.jobs import Job, Jobs

app = typer.Typer()

DASHBOARD = "http://127.0.0.1:8265"
Address = Annotated[
    str, typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard: http://HOST:8265.")
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, as `rayfed jobs` shows it.")]


@app.command()
def submit(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [KEY=VALUE]...", help="As for `rayfed run`; a comparison's file as for `rayfed compare`."
        ),
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run of the cluster, as `rayfed resume` does.")
    ] = None,
    runs_dir: Annotated[str | None, typer.Option(help="With --resume: the run's folder of runs there.")] = None,
    store: Annotated[str | None, typer.Option(help="With --resume: the URL of the run's database.")] = None,
    address: Address = DASHBOARD,
) -> None:
    """Run or compare as a job on a Ray cluster, and follow it; Ctrl-C leaves it running."""
    given = arguments or []
    if not (given or resume):
        raise typer.BadParameter("name a configuration, e.g. jobs/demo.yaml, a method: method.name=fegan, or --resume")
    prepare_environment(address)
    from rayfed.app import submit as submission

    if resume:
        places = [f"--{key}={value}" for key, value in {"runs-dir": runs_dir, "store": store}.items() if value]
        order = submission.order_to_resume(resume, given, places, [job.id for job in _jobs(address).list()])
    else:
        order = submission.order(given, _say)
    jobs = _jobs(address)
    submission.submit(order, jobs)
    _say(f"job {order.job_id} is submitted to {jobs.address}")
    _attend(jobs, order.job_id)


@app.command()
def attach(job_id: JobId, address: Address = DASHBOARD) -> None:
    """Follow a job that was submitted before; ends with its exit code. Ctrl-C leaves it running."""
    _attend(_jobs(address), job_id)


@app.command("jobs")
def list_jobs(address: Address = DASHBOARD, as_json: Json = False) -> None:
    """The jobs of the cluster: their state, when they began, how long they took."""
    from rayfed.console.listing import jobs_text

    jobs = _jobs(address)
    found = jobs.list()
    if as_json:
        print(json.dumps([asdict(job) for job in found], indent=2))
    else:
        print(jobs_text(found) if found else f"no jobs on {jobs.address}; `rayfed submit jobs/demo.yaml` makes one")


@app.command()
def status(job_id: JobId, address: Address = DASHBOARD, as_json: Json = False) -> None:
    """One job: its state, exit code, command, and the run that it is."""
    from rayfed.console.listing import job_text

    job = _jobs(address).get(job_id)
    print(json.dumps(asdict(job), indent=2) if as_json else job_text(job))


@app.command()
def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    address: Address = DASHBOARD,
) -> None:
    """What a job has printed."""
    jobs = _jobs(address)
    if not follow:
        print(jobs.logs(job_id), end="")
        return
    for line in jobs.follow(job_id):
        print(line, flush=True)


@app.command()
def stop(job_id: JobId, address: Address = DASHBOARD) -> None:
    """Have a job commit its round and end, and wait until it has; `rayfed submit --resume` goes on with it."""
    jobs = _jobs(address)
    if jobs.get(job_id).has_ended:
        _say(f"job {job_id} has ended already")
        return
    jobs.stop(job_id)
    _say(f"job {job_id} ends after its round; Ctrl-C does not wait for it")
    _say(_ended(jobs, jobs.end_of(job_id)))


def _jobs(address: str) -> "Jobs":
    """The jobs of a cluster; raises UserError where there is none."""
    prepare_environment(address)
    from rayfed.cluster.jobs import Jobs

    return Jobs(address)


def _attend(jobs: "Jobs", job_id: str) -> None:
    """Show a job until it ends, and exit as it does."""
    from rayfed.console.joblog import JobLog

    try:
        with JobLog() as log:
            for line in jobs.follow(job_id):
                log.line(line)
        job = jobs.end_of(job_id)
    except KeyboardInterrupt:
        there = f"{job_id}{_at(jobs)}"
        _say(f"job {job_id} goes on: `rayfed attach {there}` follows it, `rayfed stop {there}` ends it")
        raise typer.Exit(INTERRUPTED) from None
    if job.state != "succeeded":
        _say(_ended(jobs, job))
    if code := _exit_code(job):
        raise typer.Exit(code)


def _exit_code(job: "Job") -> int:
    """Its driver's; that of a job that was stopped, or of one whose driver never was."""
    if job.state == "stopped":
        return INTERRUPTED
    if job.exit_code is None:
        return 0 if job.state == "succeeded" else FAILED
    return job.exit_code if job.exit_code >= 0 else 128 - job.exit_code


def _ended(jobs: "Jobs", job: "Job") -> str:
    """How a job has ended, and what goes on with it."""
    said = f"job {job.id} {'has ' if job.state in ('succeeded', 'failed') else 'is '}{job.state}"
    if job.exit_code is None and job.state == "failed":
        said += f": {' '.join(job.message.split())[:300]}"
    run = job.metadata.get("rayfed_run")
    if job.state == "stopped" and run:
        said += f"; `rayfed submit --resume {run}{_at(jobs)}` goes on with its run"
    return said


def _at(jobs: "Jobs") -> str:
    """What a command must say of where the cluster is."""
    return "" if jobs.address == DASHBOARD else f" --address {jobs.address}"


def _say(text: str) -> None:
    print(text, file=sys.stderr)
