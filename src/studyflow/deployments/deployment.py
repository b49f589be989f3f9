"""A deployment: which study runs, when it runs, and what each run does."""

from __future__ import annotations

import dataclasses
import json
import re
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from studyflow.deployments.runs import EachRun, study_name
from studyflow.errors import SpecError
from studyflow.reasons import Code, Finding, Level
from studyflow.spec import SamplerName, StudySpec
from studyflow.spec.overrides import override
from studyflow.spec.problems import suggest_name

OnCollision = Literal["skip", "queue", "join"]
"""What happens to a run that starts while the last one goes on: with `skip` it is cancelled, with
`queue` it waits, with `join` both run in parallel, on the same study if each run is about that."""

DEFAULT_POOL: Final = "studyflow"
"""Work pool of the cluster, made by `flows/register.py`."""

TRIALS_NAMESPACE: Final = "trials_namespace"
"""Variable of its job template (k8s/base/pool/flow-run-job.yaml): where a study's trials live."""

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_INTERVAL: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_NAME: Final = re.compile(r"[^/%&><]+")
"""What Prefect allows in a deployment's name."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A study as a Prefect deployment, as a person asked for it: `check` tells what is wrong."""

    study: str
    """Path of the study file."""
    name: str | None = None
    """`None` for the study's name."""
    pool: str | None = None
    """Work pool whose worker starts the runs; `None` for `DEFAULT_POOL`."""
    namespace: str | None = None
    """Kubernetes namespace of the trials, where runs are pods; `None` for the pool's default."""
    serve: bool = False
    """Whether this process starts the runs, as long as it lives, instead of a pool's worker."""
    cron: str | None = None
    """When to run, such as `0 3 * * *`; `None` for no such schedule."""
    interval: str | None = None
    """How often to run: `90` (seconds), `30m`, `6h` or `1d`; `None` for no such schedule."""
    timezone: str | None = None
    """IANA name; `None` for UTC."""
    each_run: EachRun = "continue"
    on_collision: OnCollision = "skip"
    concurrency_limit: int | None = None
    """Runs that may go on in parallel before the next one collides; `None` for 1."""
    n_trials: int | None = None
    max_parallel_trials: int | None = None
    sampler: SamplerName | None = None
    timeout_seconds: float | None = None
    gpu_hours: float | None = None
    tags: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the deployment as one line of JSON, for the program that registers it."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Deployment:
        """Return a deployment from its line of JSON."""
        document = json.loads(text)
        return cls(**{**document, "tags": tuple(document["tags"])})

    @property
    def interval_seconds(self) -> float | None:
        """The interval in seconds; `None` without an interval, or if it is malformed."""
        found = None if self.interval is None else _INTERVAL.fullmatch(self.interval.strip())
        return None if found is None else float(found[1]) * _UNITS[found[2]]

    def check(self, is_cron: Callable[[str], bool]) -> StudySpec:
        """Return the study as its runs would have it.

        Args:
            is_cron: Returns whether the scheduler understands a cron expression.

        Raises:
            SpecError: Something is wrong; every problem is in the message.
        """
        problems = [str(finding.reason) for finding in self.problems(is_cron)]
        try:
            spec, _ = override(
                StudySpec.from_yaml(self.study),
                n_trials=self.n_trials,
                max_parallel_trials=self.max_parallel_trials,
                sampler=self.sampler,
                timeout_seconds=self.timeout_seconds,
                gpu_hours=self.gpu_hours,
            )
            # A name that leaves no room for a date would end every run.
            name = study_name(spec.name, self.each_run, datetime(2000, 1, 1, tzinfo=UTC))
            document = spec.model_dump(mode="json", exclude_unset=True)
            StudySpec.from_mapping({**document, "name": name})
        except SpecError as error:
            problems += error.problems or (str(error),)
        if problems:
            raise SpecError("This deployment cannot be made:", problems=tuple(problems))
        return spec

    def parameters(self, study: str) -> dict[str, Any]:
        """Return the parameters of the flow `run_study`; what the study file decides is left out.

        Args:
            study: The study as the runs can read it: a path, or the text of the file.
        """
        given = {
            "n_trials": self.n_trials,
            "max_parallel_trials": self.max_parallel_trials,
            "sampler": self.sampler,
            "timeout_seconds": self.timeout_seconds,
            "gpu_hours": self.gpu_hours,
        }
        changed = {name: value for name, value in given.items() if value is not None}
        return {"study": study, "each_run": self.each_run, **changed}

    def problems(self, is_cron: Callable[[str], bool]) -> tuple[Finding, ...]:
        """Return what is wrong with the options, whatever the study.

        Args:
            is_cron: Returns whether the scheduler understands a cron expression.
        """
        return (*self._naming_and_place(), *self._schedule(is_cron), *self._collisions())

    def _naming_and_place(self) -> Iterator[Finding]:
        if self.name is not None and not _NAME.fullmatch(self.name):
            yield _wrong(
                "--name",
                f"must not be empty or hold / % & > <, but is {self.name!r}.",
                "leave it out for the study's name.",
            )
        if self.serve and self.pool is not None:
            yield _conflict(
                "--serve",
                f"runs studies here and --pool {self.pool} by a worker.",
                "leave one of them out.",
            )
        if self.serve and self.namespace is not None:
            yield _conflict(
                "--serve",
                f"runs studies here, and --namespace {self.namespace} is for runs that are pods.",
                "leave it out, and set STUDYFLOW_NAMESPACE.",
            )

    def _schedule(self, is_cron: Callable[[str], bool]) -> Iterator[Finding]:
        if self.cron is not None and self.interval is not None:
            yield _conflict(
                "--cron", "and --interval are two schedules.", "deploy twice, by another --name."
            )
        if self.cron is not None and not is_cron(self.cron):
            yield _wrong(
                "--cron",
                f"must be a cron expression, but is {self.cron!r}.",
                'minute, hour, day, month, weekday, such as "0 3 * * *" for every day at 3.',
            )
        if self.interval is not None and not self.interval_seconds:
            yield _wrong(
                "--interval",
                f"must be a time above zero, but is {self.interval!r}.",
                "such as 90 (seconds), 30m, 6h or 1d.",
            )
        if self.timezone is None:
            return
        known = zoneinfo.available_timezones()
        if self.timezone not in known:
            close = suggest_name(self.timezone, {name.lower(): name for name in known})
            meant = next((name for name in known if name.lower() == close), "Europe/Berlin")
            yield _wrong(
                "--timezone",
                f"must be an IANA name, but is {self.timezone!r}.",
                f"such as {meant}.",
            )
        if self.cron is None and self.interval is None:
            yield _conflict("--timezone", "belongs to a schedule.", "add --cron or --interval.")

    def _collisions(self) -> Iterator[Finding]:
        if self.on_collision == "join" and self.concurrency_limit is not None:
            yield _conflict(
                "--concurrency-limit",
                f"{self.concurrency_limit} says when a run collides, and --on-collision join lets "
                "every run start.",
                "choose skip or queue.",
            )


def _wrong(option: str, rule: str, hint: str) -> Finding:
    """Return that an option's value breaks a rule."""
    return Finding(Code.OPTION_WRONG, Level.PROBLEM, option, f"{option} {rule}", hint)


def _conflict(option: str, rule: str, hint: str) -> Finding:
    """Return that an option excludes another one, or needs one."""
    return Finding(Code.OPTIONS_CONFLICT, Level.PROBLEM, option, f"{option} {rule}", hint)
