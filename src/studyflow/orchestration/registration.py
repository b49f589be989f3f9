"""A work pool of the cluster and a deployment of every flow for it, as the manifests say."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound

from studyflow.deployments.deployment import DEFAULT_POOL, TRIALS_NAMESPACE

MLFLOW_PUBLIC_URL: Final = "http://localhost:5000"
"""MLflow's address for people who reach it by `kubectl port-forward`."""

_TEAM: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
"""What follows `studyflow-platform-` in names of Kubernetes, with room for more behind it."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Whose flow runs a work pool starts, and with whose rights; everybody's, or one team's.

    Args:
        team: Name of the team; `None` for everybody.

    Raises:
        ValueError: It is no name of Kubernetes.
    """

    team: str | None = None

    def __post_init__(self) -> None:
        if self.team is not None and _TEAM.fullmatch(self.team) is None:
            raise ValueError(
                "a team's name must have at most 40 lowercase letters, digits and dashes, as names "
                f"of Kubernetes do, but it is {self.team!r}"
            )

    @property
    def name(self) -> str:
        """Name of the work pool."""
        return self.of_team(DEFAULT_POOL)

    @property
    def decided(self) -> dict[str, str]:
        """What the pool decides for its flow runs, by the names in the job template."""
        decided = {
            "service_account": self.of_team("studyflow-runner"),
            "platform": self.of_team("studyflow-platform"),
        }
        return decided if self.team is None else {**decided, TRIALS_NAMESPACE: self.name}

    def of_team(self, name: str) -> str:
        """Return what a thing of everybody's is called that the team has of its own."""
        return name if self.team is None else f"{name}-{self.team}"


def job_template(text: str, decided: Mapping[str, str]) -> dict[str, Any]:
    """Return a base job template from its YAML, with all written in that no flow run chooses.

    Args:
        text: The template.
        decided: By the names that stand in braces. A variable of the same name is one no longer.

    Raises:
        ValueError: The template names something that is neither decided nor a variable.
    """
    template: dict[str, Any] = yaml.safe_load(text)
    variables = template["variables"]["properties"]
    for name in decided:
        variables.pop(name, None)
    made = _written_in(template["job_configuration"], decided)
    unknown = sorted(set(_PLACE.findall(yaml.safe_dump(made))) - set(variables))
    if unknown:
        raise ValueError(
            f"the job template must name only variables of its own and what the installation "
            f"decides ({', '.join(sorted(decided))}), but it names {', '.join(unknown)}"
        )
    return {**template, "job_configuration": made}


_PLACE: Final = re.compile(r"{{\s*(\w+)\s*}}")


def _written_in(value: Any, decided: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _written_in(item, decided) for key, item in value.items()}
    if isinstance(value, list):
        return [_written_in(item, decided) for item in value]
    if isinstance(value, str):
        return _PLACE.sub(lambda found: decided.get(found[1], found[0]), value)
    return value


def own_image(pod: str, namespace: str) -> str:
    """Return the image that this pod runs: flow runs get the same, by digest if it has one."""
    from kubernetes import client, config

    config.load_incluster_config()  # type: ignore[no-untyped-call]
    spec = client.CoreV1Api().read_namespaced_pod(pod, namespace, _request_timeout=30).spec
    assert spec is not None, "a pod has a spec"
    return str(spec.containers[0].image)


def wait_for_server(
    prefect: SyncPrefectClient,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the server answers.

    Raises:
        TimeoutError: It did not within `seconds`.
    """
    end = clock() + seconds
    while (problem := prefect.api_healthcheck()) is not None:
        if clock() >= end:
            raise TimeoutError(
                f"Prefect's server at {prefect.api_url} does not answer after {seconds:.0f} s: "
                f"{problem}"
            )
        sleep(2.0)


def register_pool(prefect: SyncPrefectClient, pool: Pool, template: dict[str, Any]) -> None:
    """Make a work pool, or give the one that exists this template."""
    try:
        prefect.read_work_pool(pool.name)
    except ObjectNotFound:
        prefect.create_work_pool(
            WorkPoolCreate(name=pool.name, type="kubernetes", base_job_template=template)
        )
    else:
        prefect.update_work_pool(pool.name, WorkPoolUpdate(base_job_template=template))


def register_deployments(purposes: Mapping[str, str], pool: Pool, study: str) -> list[str]:
    """Make each flow's deployment, or update the one that exists; return their names.

    The flows' files lie in the image, below the working folder: nothing is pulled. A deployment has
    its flow's name, and its team's behind it.

    Args:
        purposes: What each flow's deployment does, by the flow's entrypoint.
        pool: Starts the runs.
        study: Study file that the forms begin with.
    """
    names = []
    for entrypoint, purpose in purposes.items():
        deployment = RunnerDeployment.from_entrypoint(
            entrypoint,
            name=pool.of_team(entrypoint.partition(":")[2].replace("_", "-")),
            description=f"{purpose} `study` is a file in the image, such as {study}, or a study "
            "file's text.",
            parameters={"study": study},
            tags=["studyflow"],
            work_pool_name=pool.name,
        )
        deployment.apply()
        names.append(deployment.full_name)
    return names
