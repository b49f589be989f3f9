"""Studies as deployments on Prefect's server, or served from this process."""

from __future__ import annotations

from contextlib import chdir
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx
from prefect import serve
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    WorkPool,
)
from prefect.deployments.runner import DeploymentApplyError, RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.runner.storage import LocalStorage
from prefect.schedules import Cron, Interval, Schedule
from prefect.settings import get_current_settings
from prefect.utilities.urls import url_for

from studyflow.deployments.deployment import DEFAULT_POOL, TRIALS_NAMESPACE, Deployment
from studyflow.errors import PrefectError, PrefectUnavailable
from studyflow.spec import StudySpec, is_time_of_day

FLOW: Final = "run_study.py:run_study"

IMAGE_FOLDER: Final = "/opt/studyflow"
"""Where the flows lie in the orchestrator's image; see the Dockerfile."""

STRATEGIES: Final = {
    "skip": ConcurrencyLimitStrategy.CANCEL_NEW,
    "queue": ConcurrencyLimitStrategy.ENQUEUE,
}


def is_cron(text: str) -> bool:
    """Return whether Prefect's scheduler understands a cron expression."""
    try:
        Cron(text)
    except ValueError:
        return False
    return True


def schedule_of(deployment: Deployment) -> Schedule | None:
    """Return when a deployment runs by itself; `None` for never."""
    if deployment.cron is not None:
        return Cron(deployment.cron, timezone=deployment.timezone)
    if deployment.interval_seconds is not None:
        interval = timedelta(seconds=deployment.interval_seconds)
        return Interval(interval, timezone=deployment.timezone)
    return None


def limit_of(deployment: Deployment) -> ConcurrencyLimitConfig | None:
    """Return how many runs may go at once, and what becomes of the next; `None` for no limit."""
    strategy = STRATEGIES.get(deployment.on_collision)
    if strategy is None:
        return None
    return ConcurrencyLimitConfig(
        limit=deployment.concurrency_limit or 1, collision_strategy=strategy
    )


def build(
    deployment: Deployment, spec: StudySpec, pool: WorkPool | None, flows: Path
) -> RunnerDeployment:
    """Return Prefect's form of a deployment.

    Processes of this machine read the study file anew in each run. Pods cannot: they get its text,
    as it is now.

    Args:
        deployment: What was asked for.
        spec: Its study.
        pool: Whose worker starts the runs; `None` for this process.
        flows: Folder of the flows' files.

    Raises:
        PrefectError: A namespace was asked for, and the pool's runs are no pods.
    """
    path = Path(deployment.study).absolute()
    is_here = pool is None or pool.type == "process"
    if is_here and deployment.namespace is not None:
        raise PrefectError(
            f"--namespace {deployment.namespace} is for runs that are pods, and those of the work "
            "pool are processes.",
            hint="name a pool of the cluster by --pool, or set STUDYFLOW_NAMESPACE where the "
            "worker runs.",
        )
    variables = {TRIALS_NAMESPACE: deployment.namespace} if deployment.namespace else {}
    study = str(path) if is_here else f"{path.read_text().rstrip()}\n"  # a line's end makes it text
    # The form offers the study files of this folder: pods would not find a laptop's.
    with chdir(Path.cwd() if is_here or Path.cwd() == Path(IMAGE_FOLDER) else flows):
        made = RunnerDeployment.from_entrypoint(
            str(flows / FLOW),
            name=deployment.name or spec.name,
            description=spec.description or f"The study {spec.name}.",
            parameters=deployment.parameters(study),
            tags=["studyflow", *deployment.tags],
            schedule=schedule_of(deployment),
            concurrency_limit=limit_of(deployment),
            work_pool_name=None if pool is None else pool.name,
            job_variables=variables,
            paused=False,  # as it was left when it was served last
        )
    if not is_here:
        made.storage = LocalStorage(IMAGE_FOLDER)
        made.entrypoint = f"flows/{FLOW}"
    return made


def find_pool(prefect: SyncPrefectClient, name: str) -> WorkPool:
    """Return a work pool.

    Raises:
        PrefectError: The server has none of this name.
    """
    try:
        return prefect.read_work_pool(name)
    except ObjectNotFound:
        raise PrefectError(
            f"Prefect's server at {prefect.api_url} has no work pool {name!r}.",
            hint="on a cluster `make deploy` makes it; name another one by --pool, or run the "
            "study's deployment on this machine by --serve.",
        ) from None


def require_server() -> None:
    """Raise unless a server is configured that lives longer than this process.

    Raises:
        PrefectUnavailable: There is none.
    """
    if get_current_settings().api.url is None:
        raise PrefectUnavailable(
            "A deployment needs a Prefect server that keeps running: the temporary one of a single "
            "run never starts a scheduled run.",
            hint="start one on this machine with `studyflow ui` (in the same folder, or with the "
            "same --home), or set PREFECT_API_URL.",
        )


def deploy(deployment: Deployment, flows: Path) -> None:
    """Check a deployment, and register it; with `serve`, start its runs until told to end.

    Args:
        deployment: What was asked for.
        flows: Folder of the flows' files.

    Raises:
        StudyflowError: It is wrong, or the server does not take it; nothing has changed there.
    """
    spec = deployment.check(is_cron)
    require_server()
    try:
        with get_client(sync_client=True) as prefect:
            name = None if deployment.serve else deployment.pool or DEFAULT_POOL
            pool = None if name is None else find_pool(prefect, name)
        made = build(deployment, spec, pool, flows)
        page = url_for("deployment", obj_id=str(made.apply()))
    except (httpx.HTTPError, RuntimeError) as error:
        raise PrefectUnavailable(
            f"Prefect's server at {get_current_settings().api.url} does not answer: {error}",
            hint="is it running? On this machine: studyflow ui.",
        ) from error
    except DeploymentApplyError as error:
        raise PrefectError(f"Prefect's server refuses the deployment: {error}") from error
    print(f"deployed {made.full_name}: {describe(deployment)}")  # noqa: T201
    if (finish := describe_finish(deployment, spec)) is not None:
        print(f"  {finish}")  # noqa: T201
    print(f"  form  {page}")  # noqa: T201
    if pool is None:
        print("serving it; Ctrl-C ends that, and its schedule rests until it is served again")  # noqa: T201
        serve(made, print_starting_message=False)


def describe_finish(deployment: Deployment, spec: StudySpec) -> str | None:
    """Return in which zone `budget.finish_by` is read; `None` where it names one, or is not set."""
    text = spec.budget.finish_by
    if not is_time_of_day(text):
        return None
    zone = deployment.timezone or "the zone of the machine that runs it"
    return f"each run is finished by {text} ({zone})"


def describe(deployment: Deployment) -> str:
    """Return when a deployment runs and what each run does, on one line."""
    zone = deployment.timezone or "UTC"
    when = "when someone starts it"
    if deployment.cron is not None:
        when = f"at {deployment.cron!r} ({zone})"
    elif deployment.interval_seconds is not None:
        when = f"every {timedelta(seconds=deployment.interval_seconds)}"
    return f"runs {when}, each run: {deployment.each_run}, on collision: {deployment.on_collision}"
