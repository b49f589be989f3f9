"""Processes of this machine as a kind of executor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from studyflow.executors.kind import ExecutorKind, ExecutorSetup
from studyflow.executors.local.executor import LocalExecutor
from studyflow.executors.local.preflight import check_environment, check_gpus
from studyflow.executors.run_tokens import RunTokens
from studyflow.reasons import Finding
from studyflow.settings import Settings
from studyflow.spec import StudySpec


def _open(setup: ExecutorSetup) -> LocalExecutor:
    trial = setup.spec.trial
    return LocalExecutor(
        setup.spec.name,
        trial.command,
        root=setup.root,
        cwd=setup.cwd,
        env=trial.env,
        withheld_env=setup.withheld_env,
        inherit_env=trial.inherit_env,
        tokens=RunTokens(setup.settings.mlflow_token_key, trial.timeout_seconds),
        timeout_seconds=trial.timeout_seconds,
        gpus_per_trial=trial.resources.gpu,
        redact=setup.redact,
        on_note=setup.on_note,
        keep=setup.keep,
    )


def _open_reader(setup: ExecutorSetup) -> LocalExecutor:
    return LocalExecutor(
        setup.spec.name,
        ("python",),
        root=setup.root,
        cwd=setup.root,
        redact=setup.redact,
        is_reader=True,
    )


def _preflight(settings: Settings, study: StudySpec | None) -> tuple[Finding, ...]:  # noqa: ARG001
    return (
        check_gpus(0 if study is None else study.trial.resources.gpu),
        check_environment(None if study is None else study.trial),
    )


def _requests(spec: StudySpec, settings: Settings) -> Mapping[str, str]:  # noqa: ARG001
    gpus = spec.trial.resources.gpu
    return {"gpu": str(gpus)} if gpus else {}


LOCAL: Final = ExecutorKind(
    name="local",
    description="local processes",
    subject="GPUs",
    open=_open,
    open_reader=_open_reader,
    preflight=_preflight,
    requests=_requests,
    hands_out_gpus=True,
    long_wait_hint="was the runner away meanwhile, or do attempts wait to be repeated "
    "(retry.backoff_seconds)?",
)
