"""The flow run that code runs in, and what it was started for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.logging.loggers import flow_run_logger

from studyflow.deployments.runs import DeploymentRun
from studyflow.errors import StudyflowError
from studyflow.observers.observer import Observer


def current_run() -> FlowRun | None:
    """Return the flow run that this code runs in, if any."""
    context = FlowRunContext.get()
    return None if context is None else context.flow_run


def name_run(name_of: Callable[[FlowRun], str], otherwise: str) -> Callable[[], str]:
    """Return what names a flow's runs in Prefect's list.

    Args:
        name_of: Returns the name of a run.
        otherwise: Name of a run whose study cannot be read.
    """

    def name() -> str:
        run = current_run()
        try:
            return otherwise if run is None else name_of(run)
        except StudyflowError:
            return otherwise

    return name


def as_deployment_run(run: FlowRun | None) -> DeploymentRun:
    """Return the run of a deployment that a flow run is.

    A process that replaces a killed one gets the same. `None` stands for code outside of a flow
    run: it is due now.
    """
    if run is None:
        return DeploymentRun("direct", datetime.now(UTC), is_deployed=False)
    due = run.expected_start_time or run.created or datetime.now(UTC)
    return DeploymentRun(str(run.id), due, is_deployed=run.deployment_id is not None)


class FlowRunLog(Observer):
    """Tells what concerns a whole study in the log of a flow run whose process has ended."""

    def __init__(self, flow_run: FlowRun) -> None:
        self._logger = flow_run_logger(flow_run)

    def noted(self, message: str) -> None:
        """Log a note as a warning."""
        self._logger.warning("%s", message)
