"""Who should drive the study, and does not: its runner, or its flow run."""

from __future__ import annotations

from collections.abc import Iterator

from studyflow.diagnostics.blockers.endings import withdrawn_trial
from studyflow.diagnostics.blockers.thresholds import LATE_SECONDS, QUIET_SECONDS, shown
from studyflow.diagnostics.snapshot import FlowRun, Snapshot
from studyflow.diagnostics.throughput import typical_seconds
from studyflow.reasons import Cause, Code, Finding, Level
from studyflow.reports.wording import one_line, plural, seconds
from studyflow.spec import StudySpec


def paused(snapshot: Snapshot, _: StudySpec) -> Iterator[Finding]:
    """Yield that a person has paused the study."""
    if snapshot.is_paused:
        resume = f"studyflow resume {snapshot.name}"
        is_left_alone = not snapshot.is_driven and _newest_flow_run(snapshot) is None
        yield Finding(
            Cause.PAUSED,
            Level.PROBLEM,
            "pause",
            "It is paused: running trials finish, none starts.",
            f"{resume}, then {snapshot.run_command}: no runner drives it."
            if is_left_alone
            else resume,
        )


def suspended_or_standing_by(snapshot: Snapshot, _: StudySpec) -> Iterator[Finding]:
    """Yield what keeps this machine's runner from its work, and which others wait for its end."""
    runner = snapshot.runner
    if runner.is_suspended:
        yield Finding(
            Code.RUNNER_SUSPENDED,
            Level.PROBLEM,
            "runner",
            f"Its runner (process {runner.pid}) was stopped, as by Ctrl-Z, and does nothing.",
            f"type fg where it was started, or kill -CONT {runner.pid}.",
        )
    if runner.standing_by:
        who = f"process {runner.pid}" if runner.pid else "another process"
        processes = ", ".join(map(str, runner.standing_by))
        yield Finding(
            Code.RUNNER_STANDS_BY,
            Level.NOTE,
            "runner",
            f"{who.capitalize()} drives it; {plural(len(runner.standing_by), 'runner')} "
            f"({processes}) only {'stands' if len(runner.standing_by) == 1 else 'stand'} by to "
            "take over when it ends.",
            "more trials at once are one runner's work: --max-parallel-trials.",
        )


def flow_run(snapshot: Snapshot, _: StudySpec) -> Iterator[Finding]:
    """Yield what Prefect says of the flow run that should drive the study."""
    run = _newest_flow_run(snapshot)
    if run is None or snapshot.runner.is_there:
        return
    name, since = one_line(run.name, 100), run.since_seconds or 0.0
    waited = f" for {seconds(since)}" if run.since_seconds is not None else ""
    message = f": {shown(run.message)}" if run.message else "."
    if run.state == "AwaitingConcurrencySlot":
        yield Finding(
            Code.FLOW_RUN_QUEUED,
            Level.PROBLEM,
            "flow run",
            f"Its flow run {name} has waited{waited} for a slot: another run of its deployment "
            "goes on.",
            "wait, cancel the other run, or deploy with a higher --concurrency-limit.",
        )
    elif run.kind == "SCHEDULED" and (run.state == "Late" or since > LATE_SECONDS):
        yield Finding(
            Code.FLOW_RUN_LATE,
            Level.PROBLEM,
            "flow run",
            f"Its flow run {name} is late: no worker has taken it up{waited}.",
            "is a worker of its work pool up, or studyflow deploy --serve still running?",
        )
    elif run.kind == "PENDING" and since > LATE_SECONDS:
        yield Finding(
            Code.FLOW_RUN_PENDING,
            Level.PROBLEM,
            "flow run",
            f"Its flow run {name} was submitted {seconds(since)} ago and has not begun{message}",
            "look at its pod: kubectl get pods, and describe the one of its name.",
        )
    elif run.kind == "PAUSED":
        yield Finding(
            Code.FLOW_RUN_PAUSED,
            Level.PROBLEM,
            "flow run",
            f"Its flow run {name} was paused on its page ({run.state}).",
            "Resume in the menu of the run's page.",
        )
    elif run.kind in ("CRASHED", "FAILED", "CANCELLED", "CANCELLING"):
        ended = {"CRASHED": "crashed", "FAILED": "failed"}.get(run.kind, "was cancelled")
        yield Finding(
            Code.FLOW_RUN_ENDED,
            Level.PROBLEM,
            "flow run",
            f"Its last flow run, {name}, {ended}{message}",
            f"{snapshot.run_command}, or a new run of its deployment, goes on where it was.",
        )


def _left(snapshot: Snapshot) -> str:
    """Return what is left to start, with its verb."""
    n = snapshot.n_left
    return "trials are" if n is None else f"{plural(n, 'trial')} of its budget are"


def _newest_flow_run(snapshot: Snapshot) -> FlowRun | None:
    """Return the flow run that tells how the study stands; `None` where another runner came since.

    One that went well tells nothing: its study has ended, or goes on elsewhere.
    """
    run, quiet = snapshot.flow_run, snapshot.quiet_seconds
    if run is None or run.kind == "COMPLETED":
        return None
    has_ended = run.kind in ("CRASHED", "FAILED", "CANCELLED")
    is_old = quiet is not None and (run.since_seconds or 0.0) > quiet + LATE_SECONDS
    return None if has_ended and is_old else run


def no_runner(snapshot: Snapshot, spec: StudySpec) -> Iterator[Finding]:
    """Yield that nobody starts the trials that are left."""
    if snapshot.is_driven or _newest_flow_run(snapshot) is not None:
        return
    if snapshot.is_paused:  # which says what to do first, and that a runner comes after
        return
    if withdrawn_trial(snapshot) is not None:  # that is why there is none
        return
    quiet = snapshot.quiet_seconds
    evidence = [] if quiet is None else [f"The last sign of life is {seconds(quiet)} old."]
    if snapshot.running:
        evidence.append(
            f"{plural(len(snapshot.running), 'trial')} stand as running; the next runner takes "
            "them over."
        )
    if spec.budget.timeout_seconds is not None:
        evidence.append(
            f"Its last run may have ended by budget.timeout_seconds "
            f"({seconds(spec.budget.timeout_seconds)}), which counts anew in each run."
        )
    patience = max(QUIET_SECONDS, 3 * (typical_seconds(snapshot.counted) or 0.0))
    is_certain = snapshot.storage.is_file or snapshot.beats or quiet is None or quiet > patience
    yield Finding(
        Code.RUNNER_MISSING if is_certain else Code.RUNNER_UNSEEN,
        Level.PROBLEM if is_certain else Level.NOTE,
        "runner",
        f"No runner drives it: {_left(snapshot)} left and nobody starts them."
        if is_certain
        else "No runner is seen from here; one elsewhere may drive it.",
        f"{snapshot.run_command} goes on where it was."
        if is_certain
        else "set PREFECT_API_URL to see flow runs, or look on the machine that runs it.",
        tuple(evidence),
    )
