"""From the facts about a study to what stands in its way: each rule sees one thing.

Within a level, findings come in the order of the rules: what explains the others comes first.
"""

from __future__ import annotations

import enum
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from studyflow.diagnostics.failure_regions import common_region
from studyflow.diagnostics.scheduler_messages import Want, shortage
from studyflow.diagnostics.snapshot import Facts, FlowRunFacts
from studyflow.diagnostics.throughput import (
    RECENT_TRIALS,
    Pace,
    pace_of,
    suggestion_seconds,
    typical_seconds,
)
from studyflow.executors.kubernetes.survey import PendingAttempt, Survey
from studyflow.executors.registry import executor_kind
from studyflow.reasons import Code, Reason
from studyflow.reports.wording import number, one_line, plural, seconds
from studyflow.spec import StudySpec
from studyflow.study import failure_signature, stop_reason, why_fruitless
from studyflow.trial import Cause, Consequence
from studyflow.trial.record import TrialState, best_records

SLOW_READ_SECONDS: Final = 1.0
"""A small read that takes longer than this is felt: a runner makes several in every turn."""
LATE_SECONDS: Final = 60.0
"""A flow run that nobody has taken up for longer than this waits in vain."""
QUIET_SECONDS: Final = 900.0
"""Without a sign of life for longer than this, and than three trials, no runner is at work."""
MIN_TRIALS: Final = 3
"""Trials from which anything is concluded."""
MUCH_WAITING_SECONDS: Final = 10.0
"""What a trial may wait without anybody being told."""
MAX_MESSAGE_CHARS: Final = 300


class Level(enum.StrEnum):
    """How much an obstacle matters, the first the most."""

    FINISHED = "finished"
    """Nothing more is to come: the budget is spent, or a stop rule holds."""
    STUCK = "stuck"
    """No trial starts, or none ends, until something is done."""
    SLOW = "slow"
    """The study goes on, slower or worse than it could."""
    NOTE = "note"
    """Worth knowing for who expected something else."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One thing that stands in a study's way."""

    level: Level
    what: str
    """What it is about, a word or two that do not change: for scripts."""
    text: str
    """What is the matter, one sentence."""
    hint: str = ""
    """The way out, without a capital; empty when there is nothing to do."""
    evidence: tuple[str, ...] = ()
    """What was seen, for who doubts it."""


Rule = Callable[[Facts, StudySpec], Iterator[Obstacle]]


def find_obstacles(facts: Facts) -> tuple[Obstacle, ...]:
    """Return what stands in a study's way, the gravest first; empty when nothing does."""
    found = list(_storage(facts))
    if facts.spec is not None and facts.storage.absence is None:
        end = list(_end(facts, facts.spec))
        rules = _OF_EVERY_STUDY if end else (*_OF_UNFINISHED_STUDIES, *_OF_EVERY_STUDY)
        found += end
        found += [obstacle for rule in rules for obstacle in rule(facts, facts.spec)]
    found += [*_cluster_away(facts), *_mlflow(facts), *_prefect_away(facts)]
    levels = list(Level)
    return tuple(sorted(found, key=lambda obstacle: levels.index(obstacle.level)))


# ---- servers ------------------------------------------------------------------------------------


def _storage(facts: Facts) -> Iterator[Obstacle]:
    storage = facts.storage
    if storage.absence is not None:
        yield Obstacle(Level.STUCK, "storage", storage.absence.message, storage.absence.hint)
    elif storage.read_seconds >= SLOW_READ_SECONDS:
        yield Obstacle(
            Level.SLOW,
            "storage",
            f"One small read of the study storage {storage.place} takes "
            f"{seconds(storage.read_seconds)}, and a runner makes several in every turn.",
            "is its disk shared or busy? A PostgreSQL near the runner serves many at once "
            "(STUDYFLOW_STORAGE)."
            if storage.is_file
            else "is the database overloaded, or far from the runner?",
        )


def _cluster_away(facts: Facts) -> Iterator[Obstacle]:
    if facts.cluster_absence is not None:
        absence = facts.cluster_absence
        yield Obstacle(Level.STUCK, "cluster", absence.message, absence.hint)


def _mlflow(facts: Facts) -> Iterator[Obstacle]:
    tracking = facts.tracking
    if tracking is None:
        return
    sync = f"studyflow sync {facts.name} sends what it lacks"
    if tracking.absence is not None:
        hint = tracking.absence.hint
        yield Obstacle(
            Level.SLOW,
            "MLflow",
            f"{tracking.absence.message.rstrip('.')}; trials go on, and their metrics by step, "
            "their pages and pruning wait for it.",
            f"{hint} Afterwards {sync}." if hint else f"{sync} when it is back.",
        )
    elif tracking.n_unsent and (
        not facts.is_driven or tracking.n_unsent > max(facts.allowed, MIN_TRIALS)
    ):
        yield Obstacle(
            Level.NOTE,
            "MLflow",
            f"MLflow lacks {plural(tracking.n_unsent, 'finished trial')} of it, in whole or in "
            "part.",
            f"{sync}.",
        )


def _prefect_away(facts: Facts) -> Iterator[Obstacle]:
    if facts.prefect_absence is not None:
        yield Obstacle(
            Level.NOTE, "Prefect", facts.prefect_absence.message, facts.prefect_absence.hint
        )


# ---- the study's end ----------------------------------------------------------------------------


def _end(facts: Facts, spec: StudySpec) -> Iterator[Obstacle]:
    """Tell why nothing more is to come."""
    if facts.n_left == 0:
        if not best_records(facts.counted, spec.directions):
            yield _because(Level.FINISHED, "budget", why_fruitless(spec, facts.records))
            return
        n = len(facts.counted)
        yield Obstacle(
            Level.FINISHED,
            "budget",
            f"Its budget is spent: all {plural(n, 'trial')} are finished."
            if n > 1
            else "Its budget is spent: its one trial is finished.",
            f"{_run(facts)} --n-trials {n + spec.budget.n_trials} goes on.",
        )
        return
    # A runner that is at work was started after these failures, and has yet to see for itself.
    reason = None if facts.is_driven else stop_reason(spec, facts.records)
    if reason is not None:
        level = Level.STUCK if reason.is_failure else Level.FINISHED
        yield _because(level, "stop rule", reason.reason)


# ---- who drives it ------------------------------------------------------------------------------


def _could_not_start(facts: Facts, _: StudySpec) -> Iterator[Obstacle]:
    """Tell why the last runner gave up: no trial could start, whatever its parameters."""
    finished = [record for record in facts.records if record.state.is_finished]
    last = max(finished, key=lambda r: (r.finished_at or 0.0, r.number), default=None)
    if last is None or facts.is_driven or last.code is not Code.COULD_NOT_START:
        return
    yield _because(
        Level.STUCK,
        "start",
        last.reason,
        f"mend that, and {_run(facts)} goes on.",
    )


def _paused(facts: Facts, _: StudySpec) -> Iterator[Obstacle]:
    if facts.is_paused:
        yield Obstacle(
            Level.STUCK,
            "pause",
            "It is paused: running trials finish, none starts.",
            f"studyflow resume {facts.name}",
        )


def _runner(facts: Facts, _: StudySpec) -> Iterator[Obstacle]:
    runner = facts.runner
    if runner.is_suspended:
        yield Obstacle(
            Level.STUCK,
            "runner",
            f"Its runner (process {runner.pid}) was stopped, as by Ctrl-Z, and does nothing.",
            f"type fg where it was started, or kill -CONT {runner.pid}.",
        )
    if runner.standing_by:
        who = f"process {runner.pid}" if runner.pid else "another process"
        processes = ", ".join(map(str, runner.standing_by))
        yield Obstacle(
            Level.NOTE,
            "runner",
            f"{who.capitalize()} drives it; {plural(len(runner.standing_by), 'runner')} "
            f"({processes}) only {'stands' if len(runner.standing_by) == 1 else 'stand'} by to "
            "take over when it ends.",
            "more trials at once are one runner's work: --max-parallel-trials.",
        )


def _flow_run(facts: Facts, _: StudySpec) -> Iterator[Obstacle]:
    """Tell what Prefect says of the flow run that should drive the study."""
    run = _newest_flow_run(facts)
    if run is None or facts.runner.is_there:
        return
    name, since = one_line(run.name, 100), run.since_seconds or 0.0
    waited = f" for {seconds(since)}" if run.since_seconds is not None else ""
    message = f": {_shown(run.message)}" if run.message else "."
    if run.state == "AwaitingConcurrencySlot":
        yield Obstacle(
            Level.STUCK,
            "flow run",
            f"Its flow run {name} has waited{waited} for a slot: another run of its deployment "
            "goes on.",
            "wait, cancel the other run, or deploy with a higher --concurrency-limit.",
        )
    elif run.kind == "SCHEDULED" and (run.state == "Late" or since > LATE_SECONDS):
        yield Obstacle(
            Level.STUCK,
            "flow run",
            f"Its flow run {name} is late: no worker has taken it up{waited}.",
            "is a worker of its work pool up, or studyflow deploy --serve still running?",
        )
    elif run.kind == "PENDING" and since > LATE_SECONDS:
        yield Obstacle(
            Level.STUCK,
            "flow run",
            f"Its flow run {name} was submitted {seconds(since)} ago and has not begun{message}",
            "look at its pod: kubectl get pods, and describe the one of its name.",
        )
    elif run.kind == "PAUSED":
        yield Obstacle(
            Level.STUCK,
            "flow run",
            f"Its flow run {name} was paused on its page ({run.state}).",
            "Resume in the menu of the run's page.",
        )
    elif run.kind in ("CRASHED", "FAILED", "CANCELLED", "CANCELLING"):
        ended = {"CRASHED": "crashed", "FAILED": "failed"}.get(run.kind, "was cancelled")
        yield Obstacle(
            Level.STUCK,
            "flow run",
            f"Its last flow run, {name}, {ended}{message}",
            f"{_run(facts)}, or a new run of its deployment, goes on where it was.",
        )


def _newest_flow_run(facts: Facts) -> FlowRunFacts | None:
    """Return the flow run that tells how the study stands; `None` where another runner came since.

    One that went well tells nothing: its study has ended, or goes on elsewhere.
    """
    run, quiet = facts.flow_run, _quiet_seconds(facts)
    if run is None or run.kind == "COMPLETED":
        return None
    has_ended = run.kind in ("CRASHED", "FAILED", "CANCELLED")
    is_old = quiet is not None and (run.since_seconds or 0.0) > quiet + LATE_SECONDS
    return None if has_ended and is_old else run


def _no_runner(facts: Facts, spec: StudySpec) -> Iterator[Obstacle]:
    if facts.is_driven or _newest_flow_run(facts) is not None:
        return
    if any(_could_not_start(facts, spec)):  # that is why there is none
        return
    quiet = _quiet_seconds(facts)
    evidence = [] if quiet is None else [f"The last sign of life is {seconds(quiet)} old."]
    if facts.running:
        evidence.append(
            f"{plural(len(facts.running), 'trial')} stand as running; the next runner takes them "
            "over."
        )
    if spec.budget.timeout_seconds is not None:
        evidence.append(
            f"Its last run may have ended by budget.timeout_seconds "
            f"({seconds(spec.budget.timeout_seconds)}), which counts anew in each run."
        )
    patience = max(QUIET_SECONDS, 3 * (typical_seconds(facts.counted) or 0.0))
    is_certain = facts.storage.is_file or facts.beats or quiet is None or quiet > patience
    yield Obstacle(
        Level.STUCK if is_certain else Level.NOTE,
        "runner",
        f"No runner drives it: {plural(facts.n_left, 'trial')} of its budget are left and nobody "
        "starts them."
        if is_certain
        else "No runner is seen from here; one elsewhere may drive it.",
        f"{_run(facts)} goes on where it was."
        if is_certain
        else "set PREFECT_API_URL to see flow runs, or look on the machine that runs it.",
        tuple(evidence),
    )


def _quiet_seconds(facts: Facts) -> float | None:
    """Return how long ago a runner last showed itself, or asked for a trial or told one."""
    times = [t for r in facts.records for t in (r.started_at, r.finished_at) if t is not None]
    times += [beat["at"] for beat in facts.beats.values()]
    return max(facts.now - max(times), 0.0) if times else None


# ---- the cluster --------------------------------------------------------------------------------


def _waits(facts: Facts, spec: StudySpec) -> Iterator[Obstacle]:
    """Tell what the attempts that have not begun wait for."""
    if facts.cluster is None:
        return
    level = Level.SLOW if facts.cluster.running else Level.STUCK
    groups: dict[str, list[PendingAttempt]] = {}
    for pending in facts.cluster.pending:
        if pending.reason:
            groups.setdefault(_kind_of_wait(pending), []).append(pending)
    for kind, waiting in groups.items():
        text, hint = _WAITS[kind](waiting, facts.cluster, spec)
        numbers = ", ".join(str(pending.attempt.number) for pending in waiting)
        longest = max(pending.seconds for pending in waiting)
        yield Obstacle(
            level,
            kind,
            _shown(text),
            _own_hint(waiting) or hint,
            evidence=(
                f"Waiting, up to {seconds(longest)} long: trial {numbers}.",
                f"The cluster says: {_shown(_told(waiting))}",
            ),
        )


def _kind_of_wait(pending: PendingAttempt) -> str:
    return "pod" if pending.reason is None else _KINDS_OF_WAITS.get(pending.reason.code, "pod")


def _told(waiting: Sequence[PendingAttempt]) -> str:
    """Return what the cluster says of the first of some attempts."""
    reason = waiting[0].reason
    return "" if reason is None else reason.message


def _own_hint(waiting: Sequence[PendingAttempt]) -> str | None:
    """Return the way out that the first of some attempts comes with; `None` without one."""
    reason = waiting[0].reason
    return None if reason is None else reason.hint


_KINDS_OF_WAITS: Final[Mapping[Code, str]] = {
    Code.IN_QUEUE: "queue",
    Code.QUOTA: "quota",
    Code.UNSCHEDULABLE: "node",
    Code.IMAGE_PULL: "image",
    Code.POD_REFUSED: "admission",
}


def _queued(waiting: Sequence[PendingAttempt], _: Survey, __: StudySpec) -> tuple[str, str]:
    queue, n = waiting[0].queue, plural(len(waiting), "Job")
    verb, them = ("is", "it") if len(waiting) == 1 else ("are", "them")
    if not queue:
        return f"{n} {verb} suspended, and no queue is named that would start {them}.", (
            'someone did that by hand: kubectl patch job NAME -p \'{"spec": {"suspend": false}}\'.'
        )
    return f"{n} {verb} suspended: Kueue's queue {queue} has not admitted {them} yet.", (
        f"kubectl describe localqueue {queue} shows what is before them; does Kueue run, and is "
        "the queue's quota large enough for one trial?"
    )


_QUOTA: Final = re.compile(
    r"exceeded quota: (?P<name>[^,]+), requested: (?P<wanted>\S+?)=(?P<amount>[^,\s]+).*?"
    r" used: .*?(?P=wanted)=(?P<used>[^,\s]+).* limited: .*?(?P=wanted)=(?P<limit>[^,\s]+)"
)


def _over_quota(
    waiting: Sequence[PendingAttempt], cluster: Survey, _: StudySpec
) -> tuple[str, str]:
    match, n = _QUOTA.search(_told(waiting)), plural(len(waiting), "trial")
    verb = "waits" if len(waiting) == 1 else "wait"
    hint = _fewer(cluster, "raise the quota, or let others finish")
    if match is None:
        return f"{n} {verb} for room in a quota: {_shown(_told(waiting))}", hint
    return (
        f"{n} {verb} for room in the quota {match['name']}: of {match['limit']} "
        f"{match['wanted']}, {match['used']} are used and a trial asks for {match['amount']}."
    ), hint


def _without_node(
    waiting: Sequence[PendingAttempt], cluster: Survey, spec: StudySpec
) -> tuple[str, str]:
    reason = _told(waiting).removeprefix("Unschedulable: ")
    missing, n, one = shortage(reason), plural(len(waiting), "pod"), len(waiting) == 1
    match missing.want:
        case Want.RESOURCE:
            wanted = waiting[0].requests.get(missing.what)
            asked = missing.what if wanted is None else f"{missing.what}: {wanted}"
            return (
                f"{n} {'asks' if one else 'ask'} for {asked} and no node has that free."
            ), _fewer(
                cluster,
                "wait for others to end, ask for less (trial.resources), or see whether any node "
                "has so much: kubectl describe nodes",
            )
        case Want.TOLERATION:
            return (
                f"{n} {'finds' if one else 'find'} no node: those that could take "
                f"{'it' if one else 'them'} keep other pods away by the taint {missing.what}."
            ), (
                "let trials tolerate it: trial.kubernetes.tolerations: "
                f"[{{key: {missing.what}, operator: Exists}}]."
            )
        case Want.AFFINITY:
            labels = ", ".join(f"{k}={v}" for k, v in spec.trial.kubernetes.node_selector.items())
            place = f"the labels {labels}" if labels else "what its affinity asks for"
            return f"{n} {'finds' if one else 'find'} no node that has {place}.", (
                "compare trial.kubernetes.node_selector and affinity with kubectl get nodes "
                "--show-labels."
            )
        case Want.VOLUME:
            return f"{n} {'waits' if one else 'wait'} for a volume: {_shown(reason)}", (
                "kubectl get pvc shows whether each claim of trial.kubernetes is bound; one that "
                "several nodes mount is ReadWriteMany."
            )
        case Want.HEALTHY_NODE:
            return f"{n} {'finds' if one else 'find'} no node that is ready: {_shown(reason)}", (
                "kubectl get nodes; kubectl uncordon NODE gives one back."
            )
        case _:
            return f"{n} {'finds' if one else 'find'} no node: {_shown(reason)}", (
                "kubectl describe pod shows what the scheduler has against each node."
            )


def _fewer(cluster: Survey, hint: str) -> str:
    """Add the parallelism that fits, where the study's own trials take the room."""
    n = len(cluster.running)
    return f"{hint}; {n} run now: --max-parallel-trials {n} asks for no more." if n else f"{hint}."


def _without_image(waiting: Sequence[PendingAttempt], _: Survey, __: StudySpec) -> tuple[str, str]:
    return _told(waiting), (
        "is its name right, does the node reach the registry, and does it have the pull secret "
        "(trial.kubernetes.image_pull_secrets)?"
    )


def _not_admitted(waiting: Sequence[PendingAttempt], _: Survey, __: StudySpec) -> tuple[str, str]:
    n = plural(len(waiting), "trial")
    return f"The cluster refuses to make the pods of {n}: {_told(waiting)}", (
        "change what the policy or webhook objects to (studyflow render FILE prints the Job; "
        "trial.kubernetes.pod_template patches it), or the policy."
    )


def _other_wait(waiting: Sequence[PendingAttempt], _: Survey, __: StudySpec) -> tuple[str, str]:
    n, verb = plural(len(waiting), "pod"), "does" if len(waiting) == 1 else "do"
    return f"{n} {verb} not start: {_told(waiting)}", "kubectl describe pod shows its events."


_WAITS: Final[
    dict[str, Callable[[Sequence[PendingAttempt], Survey, StudySpec], tuple[str, str]]]
] = {
    "queue": _queued,
    "quota": _over_quota,
    "node": _without_node,
    "image": _without_image,
    "admission": _not_admitted,
    "pod": _other_wait,
}


def _full_quotas(facts: Facts, _: StudySpec) -> Iterator[Obstacle]:
    """Tell of a quota that keeps even Jobs from being made: then no event says so."""
    cluster = facts.cluster
    if cluster is None or facts.n_left <= len(cluster.running):
        return
    if any(_kind_of_wait(pending) == "quota" for pending in cluster.pending):
        return
    for full in cluster.full_quotas:
        yield Obstacle(
            Level.SLOW if cluster.running else Level.STUCK,
            "quota",
            f"The quota {full.name} leaves no room for one more trial: of {full.hard} "
            f"{full.resource}, {full.used} are used.",
            _fewer(cluster, "raise the quota, or let others finish"),
        )


# ---- what its trials went through ---------------------------------------------------------------

_AGAINST_LOSS: Final = {
    Cause.PREEMPTED: "give trials a trial.kubernetes.priority_class",
    Cause.EVICTED: "ask for the memory that a trial takes (trial.resources.memory)",
    Cause.NODE_LOST: "look at the nodes: kubectl get nodes",
    Cause.IMAGE_PULL: "pull the image onto the nodes before, or from a nearer registry",
}


def _losses(facts: Facts, spec: StudySpec) -> Iterator[Obstacle]:
    """Tell of attempts that the infrastructure took away."""
    lost = [(record, attempt) for record in facts.records for attempt in record.lost_attempts]
    n, n_trials = len(lost), len(facts.counted)
    most = max((record.attempt for record in facts.running), default=0)
    is_much = n >= MIN_TRIALS and (2 * n >= n_trials or 2 * most > spec.retry.max_attempts)
    if not is_much:
        return
    cause, n_of_cause = Counter(attempt.cause for _, attempt in lost).most_common(1)[0]
    record, last = next(found for found in reversed(lost) if found[1].cause is cause)
    remedy = _AGAINST_LOSS.get(cause, "look at the place where trials run")
    keeps = (
        ""
        if spec.trial.kubernetes.checkpoints or executor_kind(facts.executor).shares_files
        else "; with trial.kubernetes.checkpoints a repeated attempt goes on where the last one was"
    )
    yield Obstacle(
        Level.SLOW,
        "lost attempts",
        f"{plural(n, 'attempt')} were lost to the infrastructure, beside "
        f"{plural(n_trials, 'finished trial')}; {n_of_cause} of them as {cause}.",
        f"{remedy}{keeps}.",
        (f"Trial {record.number}, attempt {last.attempt}: {_shown(last.message)}",),
    )


def _alike(facts: Facts, _: StudySpec) -> Iterator[Obstacle]:
    """Tell of most trials failing in one way."""
    recent = facts.counted[-RECENT_TRIALS:]
    failed = [r for r in recent if r.cause and r.cause.consequence is Consequence.FAIL]
    if not failed:
        return
    signatures = Counter(map(failure_signature, failed))
    signature, n = signatures.most_common(1)[0]
    if n < MIN_TRIALS or 2 * n < len(recent):
        return
    last = next(r for r in reversed(failed) if failure_signature(r) == signature)
    text = f"{n} of the last {len(recent)} trials failed alike ({last.cause}): {last.message}"
    yield _because(
        Level.SLOW,
        "failures",
        replace(last.reason, message=text),
        f"studyflow logs {facts.name} {last.number} shows how it ended; mend the script.",
    )


@dataclass(frozen=True, slots=True)
class _Fate:
    """How trials end whose parameters are to blame."""

    what: str
    causes: frozenset[Cause]
    ended: str
    """What became of them, in the past tense."""
    hint: str
    share: float
    """From which share of the recent trials on it is told."""


_FATES: Final = (
    _Fate(
        "memory",
        frozenset({Cause.HOST_OOM, Cause.CUDA_OOM}),
        "ran out of memory",
        "the sampler learns to avoid such trials; narrow the search space to spare them, or raise "
        "trial.resources.memory (host-oom) or take a larger card (cuda-oom).",
        0.2,
    ),
    _Fate(
        "time limit",
        frozenset({Cause.TIMEOUT}),
        "ran into trial.timeout_seconds",
        "raise trial.timeout_seconds, or train for fewer steps (trial.budget).",
        0.3,
    ),
    _Fate(
        "diverged",
        frozenset({Cause.NAN}),
        "diverged (nan)",
        "the sampler learns to avoid such trials; narrow the search space to spare them.",
        0.3,
    ),
)


def _fates(facts: Facts, _: StudySpec) -> Iterator[Obstacle]:
    """Tell of trials that their parameters make infeasible, and which parameters these are."""
    recent = facts.counted[-RECENT_TRIALS:]
    for fate in _FATES:
        fated = [record for record in recent if record.cause in fate.causes]
        if len(fated) < MIN_TRIALS or len(fated) < fate.share * len(recent):
            continue
        of_all = [record for record in facts.counted if record.cause in fate.causes]
        others = [record for record in facts.counted if record.cause not in fate.causes]
        region = common_region([r.params for r in of_all], [r.params for r in others])
        where = "."
        if region is not None:
            where = (
                f"; {region.n_inside} of the {len(of_all)} in all had {region.condition}, as "
                f"{'none' if not region.n_others else region.n_others} of the others."
            )
        who = (
            f"Every one of the last {len(recent)} trials"
            if len(fated) == len(recent)
            else f"{len(fated)} of the last {len(recent)} trials"
        )
        causes = ", ".join(sorted({str(record.cause) for record in fated}))
        yield Obstacle(
            Level.SLOW,
            fate.what,
            f"{who} {fate.ended}{where}",
            fate.hint,
            (f"Ended as {causes}; the last one is trial {fated[-1].number}.",),
        )


def _stragglers(facts: Facts, spec: StudySpec) -> Iterator[Obstacle]:
    """Tell of a running trial that takes much longer than the others did."""
    durations = [
        r.duration_seconds
        for r in facts.counted
        if r.state is TrialState.COMPLETE and r.duration_seconds is not None
    ]
    if len(durations) < MIN_TRIALS:
        return
    usual = statistics.median(durations)
    limit = max(3 * usual, 1.5 * max(durations), MUCH_WAITING_SECONDS)
    pending = {p.attempt.number for p in facts.cluster.pending} if facts.cluster else set()
    for record in facts.running:
        age = facts.now - (record.started_at or facts.now) - record.lost_seconds
        if age <= limit or record.number in pending or not facts.is_driven:
            continue
        timeout = spec.trial.timeout_seconds
        ends = (
            "no trial.timeout_seconds would end it"
            if timeout is None
            else f"trial.timeout_seconds ({seconds(timeout)}) ends each attempt"
        )
        yield Obstacle(
            Level.SLOW,
            "straggler",
            f"Trial {record.number} is under way for {seconds(age)}; the others took "
            f"{seconds(usual)}.",
            f"studyflow logs {facts.name} {record.number} -f shows what it does; {ends}.",
        )


# ---- how it is set up ---------------------------------------------------------------------------


def _suggestions(facts: Facts, spec: StudySpec) -> Iterator[Obstacle]:
    """Tell of suggestions that take longer than the trials leave time for."""
    recent = facts.counted[-RECENT_TRIALS:]
    times = [t for r in recent if (t := suggestion_seconds(r)) is not None]
    trial = typical_seconds(recent)
    if len(times) < MIN_TRIALS or trial is None:
        return
    suggestion = statistics.median(times)
    if suggestion < SLOW_READ_SECONDS or suggestion * facts.allowed <= trial:
        return
    busy = max(1.0, trial / suggestion)
    yield Obstacle(
        Level.SLOW,
        "suggestions",
        f"A suggestion takes {seconds(suggestion)} and a trial {seconds(trial)}: suggested one "
        f"after another, {number(busy, 2)} of {plural(facts.allowed, 'trial')} at once can be "
        "kept running.",
        f"another sampler than {spec.sampler.type} suggests faster (--sampler tpe); or let each "
        "trial do more.",
    )


def _slow_starts(facts: Facts, _: StudySpec) -> Iterator[Obstacle]:
    """Tell of trials that spend most of their time before their script begins."""
    recent = [
        r
        for r in facts.counted[-RECENT_TRIALS:]
        if r.trained_seconds is not None and r.started_at is not None and r.finished_at is not None
    ]
    if len(recent) < MIN_TRIALS:
        return
    waits, wholes = [], []
    for record in recent:
        whole = (record.finished_at or 0.0) - (record.started_at or 0.0)
        worked = (record.trained_seconds or 0.0) + record.lost_seconds
        waits.append(max(whole - worked - (suggestion_seconds(record) or 0.0), 0.0))
        wholes.append(whole)
    wait, whole = statistics.median(waits), statistics.median(wholes)
    if wait < MUCH_WAITING_SECONDS or 2 * wait < whole:
        return
    yield Obstacle(
        Level.SLOW,
        "waiting",
        f"Of the {seconds(whole)} from asking for a trial to its result, {seconds(wait)} pass "
        "without its script running.",
        executor_kind(facts.executor).long_wait_hint,
    )


def _pruning(facts: Facts, spec: StudySpec) -> Iterator[Obstacle]:
    """Tell of a pruner that nobody gives anything to judge by."""
    if spec.pruner.type == "none":
        return
    ended = [r for r in facts.counted if r.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if len(ended) < MIN_TRIALS or any(r.intermediate for r in facts.records):
        return
    metric = spec.objectives[0].metric
    yield Obstacle(
        Level.SLOW,
        "pruning",
        f"The pruner {spec.pruner.type} never prunes: no trial reported {metric} while it ran.",
        f"call sdk.report(step, {metric}=...) in the training loop, by that very name.",
    )


def _parallelism(facts: Facts, spec: StudySpec) -> Iterator[Obstacle]:
    """Tell what bounds the number of trials at once."""
    wanted = spec.budget.max_parallel_trials
    if facts.slots is not None and facts.slots < wanted:
        yield Obstacle(
            Level.NOTE,
            "parallelism",
            f"{facts.slots} of {wanted} trials at once find cards on this machine, with "
            f"{plural(spec.trial.resources.gpu, 'GPU')} for each.",
            "trial.resources.gpu says what each one gets; CUDA_VISIBLE_DEVICES may hide cards.",
        )
    elif facts.is_driven and facts.n_left > wanted and len(facts.running) >= wanted:
        yield Obstacle(
            Level.NOTE,
            "parallelism",
            f"It runs {plural(wanted, 'trial')} at once, as many as budget.max_parallel_trials "
            f"allows, and {facts.n_left} are left.",
            f"{_run(facts)} --max-parallel-trials {2 * wanted}, where there is room for them.",
        )


_OF_UNFINISHED_STUDIES: Final[tuple[Rule, ...]] = (
    _could_not_start,
    _paused,
    _runner,
    _flow_run,
    _no_runner,
    _waits,
    _full_quotas,
    _stragglers,
    _parallelism,
)
_OF_EVERY_STUDY: Final[tuple[Rule, ...]] = (
    _alike,
    _losses,
    _fates,
    _suggestions,
    _slow_starts,
    _pruning,
)


def pace(facts: Facts) -> Pace | None:
    """Return the study's pace; `None` before there is one."""
    running = facts.running if facts.is_driven else ()
    return pace_of(facts.counted, running, facts.n_left, facts.now)


def _run(facts: Facts) -> str:
    is_file = facts.called.endswith((".yaml", ".yml"))
    return f"studyflow run {facts.called if is_file else 'FILE'}"


def _shown(text: str) -> str:
    return one_line(text, MAX_MESSAGE_CHARS)


def _because(level: Level, what: str, reason: Reason, hint: str = "") -> Obstacle:
    """Return an obstacle with a reason, whose own way out goes before ours."""
    return Obstacle(level, what, _shown(reason.message), reason.hint or hint)
