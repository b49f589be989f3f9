"""Each finding from the snapshot that it is made of, in the words that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.study.studies import make_spec, record

from studyflow.diagnostics.blockers import find_blockers
from studyflow.diagnostics.snapshot import (
    FlowRun,
    RunnerState,
    Snapshot,
    StorageState,
    TrackingState,
)
from studyflow.executors import AttemptId
from studyflow.executors.kubernetes.observation import Wait
from studyflow.executors.kubernetes.survey import FullQuota, PendingAttempt, Survey
from studyflow.reasons import Code, Finding, Level, Reason, ReasonCode
from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.cost import AttemptCost
from studyflow.trial.record import LostAttempt, TrialRecord, TrialState

NOW = 1_000_000.0
FILE = StorageState("journal:///home/studies.log")
DATABASE = StorageState("postgresql://db/studies", is_file=False)
DRIVEN = RunnerState(is_there=True, pid=77)
SPEC = make_spec(budget={"n_trials": 30, "max_parallel_trials": 4})
GPU = {"nvidia.com/gpu": "1"}


def taken(*records: TrialRecord, spec: StudySpec = SPEC, **changes: Any) -> Snapshot:
    """Return the snapshot of a study that is driven and well, with changes."""
    usual: dict[str, Any] = {"storage": FILE, "runner": DRIVEN, "called": "study.yaml"}
    return Snapshot("demo", NOW, spec, records=records, **{**usual, **changes})


def finished(number: int, seconds: float = 60.0, **changes: Any) -> TrialRecord:
    """Return a trial that ended well, after so many seconds, one after another until now."""
    end = NOW - 10_000 + 100 * number
    done = replace(record(number, 0.5), started_at=end - seconds, finished_at=end)
    return replace(done, **{"trained_seconds": seconds, **changes})


def ended_by(number: int, cause: Cause, message: str = "", **changes: Any) -> TrialRecord:
    failed = {"state": TrialState.FAILED, "values": None, "cause": cause, "message": message}
    return finished(number, **{**failed, **changes})


def running(number: int, age: float = 30.0, **changes: Any) -> TrialRecord:
    trial = replace(record(number, state=TrialState.RUNNING), cause=None, attempt=1)
    return replace(trial, started_at=NOW - age, **changes)


CODES: Mapping[Wait, ReasonCode] = {
    Wait.QUEUE: Code.IN_QUEUE,
    Wait.POD: Code.POD_REFUSED,
    Wait.ROOM: Cause.UNSCHEDULABLE,
    Wait.IMAGE: Cause.IMAGE_PULL,
    Wait.CONTAINER: Code.CONTAINER_WAITING,
}


def pending(
    number: int, wait: Wait, message: str, code: ReasonCode | None = None, **changes: Any
) -> PendingAttempt:
    reason = Reason(code or CODES[wait], message) if message else None
    return PendingAttempt(AttemptId(number, 1), wait, reason, 90.0, requests=GPU, **changes)


def away(message: str, hint: str | None = None) -> Reason:
    return Reason(Code.UNSPECIFIED, message, hint)


def waiting(*attempts: PendingAttempt, running: int = 0, **changes: Any) -> Snapshot:
    busy = tuple(AttemptId(number, 1) for number in range(100, 100 + running))
    return taken(
        executor="kubernetes", cluster=Survey("trials", busy, attempts, **changes), storage=DATABASE
    )


def unschedulable(reasons: str) -> Snapshot:
    message = f"Unschedulable: 0/3 nodes are available: {reasons}"
    return waiting(pending(0, Wait.ROOM, message), pending(1, Wait.ROOM, message))


def flow_run(state: str, kind: str, since: float = 300.0, message: str = "") -> Snapshot:
    run = FlowRun("demo", state, kind, message, since)
    return taken(runner=RunnerState(), storage=DATABASE, flow_run=run)


def only(found: Snapshot) -> Finding:
    (finding,) = find_blockers(found)
    return finding


def test_a_study_that_goes_well_has_none() -> None:
    assert find_blockers(taken(*map(finished, range(5)), running(5))) == ()


WELL = [finished(number) for number in range(10)]
OOM = [ended_by(n, Cause.CUDA_OOM, params={"batch_size": 100 + n}) for n in range(10, 15)]

CASES: list[tuple[str, Snapshot, Level, str, str]] = [
    (
        "storage away",
        taken(
            spec=SPEC,
            storage=replace(
                FILE,
                absence=Reason(
                    Code.STORAGE_UNAVAILABLE, "The study storage X does not answer.", "up?"
                ),
            ),
            runner=RunnerState(),
        ),
        Level.PROBLEM,
        "The study storage X does not answer.",
        "up?",
    ),
    (
        "storage slow",
        taken(storage=replace(DATABASE, read_seconds=2.5)),
        Level.WARNING,
        "One small read of the study storage postgresql://db/studies takes 2.5 s",
        "is the database overloaded",
    ),
    (
        "budget spent",
        taken(*map(finished, range(3)), spec=make_spec(budget={"n_trials": 3})),
        Level.FINISHED,
        "Its budget is spent: all 3 trials are finished.",
        "studyflow run study.yaml --n-trials 6 goes on.",
    ),
    (
        "budget spent for nothing",
        taken(
            *(ended_by(n, Cause.NAN, "The training diverged.") for n in range(2)),
            spec=make_spec(budget={"n_trials": 2}),
        ),
        Level.FINISHED,
        "All 2 trials are finished and none gave a feasible value; 2 of them ended as nan",
        "fix the script or the search space.",
    ),
    (
        "stop rule",
        taken(
            *map(finished, range(3)),
            spec=make_spec(budget={"n_trials": 9}, stop={"target": 0.6}),
            runner=RunnerState(),
        ),
        Level.FINISHED,
        "Target 0.6 reached: trial 0 has loss=0.5.",
        "",
    ),
    (
        "no trial could start",
        taken(
            ended_by(
                0,
                Cause.CANCELLED,
                "No trial of the study can start: No Secret 'data'.",
                hint="create it.",
                code=Code.COULD_NOT_START,
            ),
            runner=RunnerState(),
        ),
        Level.PROBLEM,
        "No trial of the study can start: No Secret 'data'.",
        "create it.",
    ),
    (
        "paused",
        taken(is_paused=True),
        Level.PROBLEM,
        "It is paused: running trials finish, none starts.",
        "studyflow resume demo",
    ),
    (
        "paused without a runner",
        taken(is_paused=True, runner=RunnerState()),
        Level.PROBLEM,
        "It is paused: running trials finish, none starts.",
        "studyflow resume demo, then studyflow run study.yaml: no runner drives it.",
    ),
    (
        "runner suspended",
        taken(runner=replace(DRIVEN, is_suspended=True)),
        Level.PROBLEM,
        "Its runner (process 77) was stopped, as by Ctrl-Z, and does nothing.",
        "kill -CONT 77",
    ),
    (
        "runner stands by",
        taken(runner=replace(DRIVEN, standing_by=(78,))),
        Level.NOTE,
        "Process 77 drives it; 1 runner (78) only stands by to take over when it ends.",
        "--max-parallel-trials",
    ),
    (
        "no runner",
        taken(runner=RunnerState()),
        Level.PROBLEM,
        "No runner drives it: 30 trials of its budget are left and nobody starts them.",
        "studyflow run study.yaml goes on where it was.",
    ),
    (
        "no runner any more",
        taken(
            running(0), runner=RunnerState(), storage=DATABASE, beats={"gpu1/ab": {"at": NOW - 100}}
        ),
        Level.PROBLEM,
        "No runner drives it: 30 trials of its budget are left and nobody starts them.",
        "studyflow run study.yaml goes on where it was.",
    ),
    (
        "no runner seen",
        taken(running(0), runner=RunnerState(), storage=DATABASE),
        Level.NOTE,
        "No runner is seen from here; one elsewhere may drive it.",
        "PREFECT_API_URL",
    ),
    (
        "flow run late",
        flow_run("Late", "SCHEDULED"),
        Level.PROBLEM,
        "Its flow run demo is late: no worker has taken it up for 5 min.",
        "is a worker of its work pool up",
    ),
    (
        "flow run waits for a slot",
        flow_run("AwaitingConcurrencySlot", "SCHEDULED"),
        Level.PROBLEM,
        "Its flow run demo has waited for 5 min for a slot",
        "--concurrency-limit",
    ),
    (
        "flow run submitted",
        flow_run("Pending", "PENDING"),
        Level.PROBLEM,
        "Its flow run demo was submitted 5 min ago and has not begun.",
        "kubectl get pods",
    ),
    (
        "flow run paused",
        flow_run("Suspended", "PAUSED"),
        Level.PROBLEM,
        "Its flow run demo was paused on its page (Suspended).",
        "Resume",
    ),
    (
        "flow run crashed",
        flow_run("Crashed", "CRASHED", message="The pod was evicted."),
        Level.PROBLEM,
        "Its last flow run, demo, crashed: The pod was evicted.",
        "or a new run of its deployment",
    ),
    (
        "Prefect away",
        taken(
            prefect_absence=Reason(
                Code.ORCHESTRATOR_UNAVAILABLE,
                "Prefect's server does not answer: refused.",
                "start it",
            )
        ),
        Level.NOTE,
        "Prefect's server does not answer: refused.",
        "start it",
    ),
    (
        "cluster away",
        taken(
            cluster_absence=Reason(
                Code.EXECUTOR_UNAVAILABLE, "The Kubernetes API at X does not answer.", "is it up?"
            )
        ),
        Level.PROBLEM,
        "The Kubernetes API at X does not answer.",
        "is it up?",
    ),
    (
        "quota",
        waiting(
            pending(
                0,
                Wait.POD,
                'Quota: Error creating: pods "demo-0-1-" is forbidden: exceeded quota: team, '
                "requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=8, limited: "
                "requests.nvidia.com/gpu=8",
                Cause.QUOTA,
            ),
            running=3,
        ),
        Level.WARNING,
        (
            "1 trial waits for room in the quota team: of 8 requests.nvidia.com/gpu, 8 are used "
            "and a trial asks for 1."
        ),
        "3 run now: --max-parallel-trials 3",
    ),
    (
        "quota of Jobs",
        waiting(full_quotas=(FullQuota("team", "count/jobs.batch", "20", "20"),)),
        Level.PROBLEM,
        "The quota team leaves no room for one more trial: of 20 count/jobs.batch, 20 are used.",
        "raise the quota",
    ),
    (
        "GPUs",
        unschedulable("3 Insufficient nvidia.com/gpu."),
        Level.PROBLEM,
        "2 pods ask for nvidia.com/gpu: 1 and no node has that free.",
        "trial.resources",
    ),
    (
        "memory",
        unschedulable("1 Insufficient memory, 2 node(s) didn't match Pod's node affinity."),
        Level.PROBLEM,
        "2 pods ask for memory and no node has that free.",
        "kubectl describe nodes",
    ),
    (
        "taint",
        unschedulable(
            "1 node(s) had untolerated taint {nvidia.com/gpu: present}, 2 Insufficient "
            "nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No preemption victims found."
        ),
        Level.PROBLEM,
        (
            "2 pods find no node: those that could take them keep other pods away by the taint "
            "nvidia.com/gpu."
        ),
        "[{key: nvidia.com/gpu, operator: Exists}]",
    ),
    (
        "affinity",
        unschedulable("3 node(s) didn't match node selector."),
        Level.PROBLEM,
        "2 pods find no node that has what its affinity asks for.",
        "--show-labels",
    ),
    (
        "volume",
        unschedulable("3 pod has unbound immediate PersistentVolumeClaims."),
        Level.PROBLEM,
        "2 pods wait for a volume",
        "kubectl get pvc",
    ),
    (
        "cordoned",
        unschedulable("3 node(s) were unschedulable."),
        Level.PROBLEM,
        "2 pods find no node that is ready",
        "kubectl uncordon",
    ),
    (
        "image",
        waiting(pending(0, Wait.IMAGE, "The image r/demo:1 cannot be pulled: manifest unknown")),
        Level.PROBLEM,
        "The image r/demo:1 cannot be pulled: manifest unknown",
        "trial.kubernetes.image_pull_secrets",
    ),
    (
        "Kueue",
        waiting(
            pending(0, Wait.QUEUE, "Suspended: its queue has not admitted it yet.", queue="team")
        ),
        Level.PROBLEM,
        "1 Job is suspended: Kueue's queue team has not admitted it yet.",
        "kubectl describe localqueue team",
    ),
    (
        "suspended by hand",
        waiting(pending(0, Wait.QUEUE, "Suspended: its queue has not admitted it yet.")),
        Level.PROBLEM,
        "1 Job is suspended, and no queue is named that would start it.",
        "kubectl patch job",
    ),
    (
        "Pod Security",
        waiting(
            pending(0, Wait.POD, 'FailedCreate: pods "x" is forbidden: violates PodSecurity "r"')
        ),
        Level.PROBLEM,
        "The cluster refuses to make the pods of 1 trial: FailedCreate: pods",
        "trial.kubernetes.pod_template",
    ),
    (
        "webhook",
        waiting(
            pending(0, Wait.POD, 'FailedCreate: admission webhook "a.b" denied the request: no')
        ),
        Level.PROBLEM,
        "The cluster refuses to make the pods of 1 trial: FailedCreate: admission webhook",
        "or the policy.",
    ),
    (
        "other wait",
        waiting(pending(0, Wait.CONTAINER, "FailedMount: timed out")),
        Level.PROBLEM,
        "1 pod does not start: FailedMount: timed out",
        "kubectl describe pod",
    ),
    (
        "lost attempts",
        taken(
            replace(
                finished(0),
                lost_attempts=tuple(
                    LostAttempt(n, Cause.PREEMPTED, "Made to leave.") for n in (1, 2, 3)
                ),
            ),
            executor="kubernetes",
        ),
        Level.WARNING,
        (
            "3 attempts were lost to the infrastructure, beside 1 finished trial; 3 of them as "
            "preempted."
        ),
        "trial.kubernetes.priority_class; with trial.kubernetes.checkpoints",
    ),
    (
        "alike failures",
        taken(*(ended_by(n, Cause.USER_ERROR, f"No file run-{n}.csv") for n in range(4))),
        Level.WARNING,
        "4 of the last 4 trials failed alike (user-error): No file run-3.csv",
        "studyflow logs demo 3",
    ),
    (
        "memory of trials",
        taken(*(replace(r, params={"batch_size": 16 + r.number}) for r in WELL), *OOM),
        Level.WARNING,
        (
            "5 of the last 15 trials ran out of memory; 5 of the 5 in all had batch_size ≥ 110, as "
            "none of the others."
        ),
        "narrow the search space",
    ),
    (
        "time limit",
        taken(*(ended_by(number, Cause.TIMEOUT) for number in range(4))),
        Level.WARNING,
        "Every one of the last 4 trials ran into trial.timeout_seconds.",
        "raise trial.timeout_seconds",
    ),
    (
        "diverged",
        taken(*WELL[:3], *(ended_by(number, Cause.NAN) for number in range(3, 6))),
        Level.WARNING,
        "3 of the last 6 trials diverged (nan).",
        "narrow the search space",
    ),
    (
        "MLflow away",
        taken(tracking=TrackingState("http://m", away("MLflow at http://m is away.", "up?"))),
        Level.WARNING,
        (
            "MLflow at http://m is away; trials go on, and their metrics by step, their pages and "
            "pruning wait for it."
        ),
        "up? Afterwards studyflow sync demo sends what it lacks.",
    ),
    (
        "MLflow refuses",
        taken(tracking=TrackingState("http://m", away("MLflow says 403."))),
        Level.WARNING,
        "MLflow says 403; trials go on",
        "studyflow sync demo sends what it lacks when it is back.",
    ),
    (
        "MLflow lacks trials",
        taken(tracking=TrackingState("http://m", n_unsent=7)),
        Level.NOTE,
        "MLflow lacks 7 finished trials of it, in whole or in part.",
        "studyflow sync demo sends what it lacks.",
    ),
    (
        "straggler",
        taken(*WELL[:3], running(3, age=7200.0)),
        Level.WARNING,
        "Trial 3 is under way for 2 h; the others took 1 min.",
        "studyflow logs demo 3 -f shows what it does; no trial.timeout_seconds would end it.",
    ),
    (
        "parallelism",
        taken(*(running(number) for number in range(4))),
        Level.NOTE,
        "It runs 4 trials at once, as many as budget.max_parallel_trials allows, and 30 are left.",
        "--max-parallel-trials 8",
    ),
    (
        "GPUs",
        taken(slots=2, spec=make_spec(budget={"n_trials": 9, "max_parallel_trials": 4})),
        Level.NOTE,
        "2 of 4 trials at once find GPUs on this machine",
        "CUDA_VISIBLE_DEVICES",
    ),
    (
        "suggestions",
        taken(*(finished(n, 6.0, suggestion={"milliseconds": 4000.0}) for n in range(3))),
        Level.WARNING,
        (
            "A suggestion takes 4.0 s and a trial 6.0 s: suggested one after another, 1.5 of 4 "
            "trials at once can be kept running."
        ),
        "--sampler tpe",
    ),
    (
        "slow starts",
        taken(*(finished(n, 60.0, trained_seconds=10.0) for n in range(3)), executor="kubernetes"),
        Level.WARNING,
        "Of the 1 min from asking for a trial to its result, 50 s pass without its script running.",
        "image_pull_policy",
    ),
    (
        "pruning",
        taken(*WELL[:3], spec=make_spec(budget={"n_trials": 9}, pruner={"type": "median"})),
        Level.WARNING,
        "The pruner median never prunes: no trial reported loss while it ran.",
        "call sdk.report(step, loss=...)",
    ),
]


@pytest.mark.parametrize(
    ("found", "level", "text", "hint"), [pytest.param(*case[1:], id=case[0]) for case in CASES]
)
def test_each_finding_is_one_sentence_and_one_way_out(
    found: Snapshot, level: Level, text: str, hint: str
) -> None:
    finding = only(found)

    assert finding.level is level
    assert finding.message.startswith(text)
    assert hint in (finding.hint or "")


def test_the_gravest_comes_first() -> None:
    tracking = TrackingState("http://m", away("MLflow is away."))
    found = find_blockers(
        taken(
            *WELL[:3], tracking=tracking, is_paused=True, runner=replace(DRIVEN, standing_by=(78,))
        )
    )

    assert [finding.subject for finding in found] == ["pause", "MLflow", "runner"]


def test_a_finished_study_needs_no_runner() -> None:
    spec = make_spec(budget={"n_trials": 3})

    assert only(taken(*WELL[:3], spec=spec, runner=RunnerState())).level is Level.FINISHED


def test_a_flow_run_that_ended_before_others_worked_tells_nothing() -> None:
    crashed = FlowRun("demo", "Crashed", "CRASHED", since_seconds=90_000.0)

    assert find_blockers(taken(*WELL, flow_run=crashed)) == ()
    later = taken(*WELL, flow_run=crashed, runner=RunnerState(), storage=DATABASE)
    assert only(later).message.startswith("No runner drives it")


def test_a_flow_run_at_work_is_a_runner() -> None:
    assert find_blockers(flow_run("Running", "RUNNING")) == ()


def test_a_few_trials_on_their_way_to_mlflow_are_no_news() -> None:
    assert find_blockers(taken(tracking=TrackingState("http://m", n_unsent=2))) == ()
    assert find_blockers(taken(tracking=TrackingState("http://m", n_unsent=0))) == ()


def test_a_container_that_is_being_made_is_no_news() -> None:
    assert find_blockers(waiting(pending(0, Wait.CONTAINER, ""))) == ()


def test_evidence_names_the_trials_and_what_the_cluster_says() -> None:
    assert only(unschedulable("3 Insufficient nvidia.com/gpu.")).evidence == (
        "Waiting, up to 1 min 30 s long: trial 0, 1.",
        "The cluster says: Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    )


def test_evidence_names_the_trials_that_lost_attempts_brought_further() -> None:
    lost = [
        LostAttempt(n, Cause.PREEMPTED, "Made to leave.", checkpoint_step=step)
        for n, step in ((1, 10), (2, 25), (3, None))
    ]
    going = replace(running(4), attempt=4, lost_attempts=tuple(lost))
    lines = only(taken(finished(0), going, executor="kubernetes")).evidence
    assert lines[0] == "Trial 4, attempt 3: Made to leave."
    assert lines[1] == (
        "Trial 4, attempt 2: it brought the trial to step 25, so retry.max_attempts counts from it."
    )


def test_a_finding_tells_scripts_what_it_is_about_by_its_code() -> None:
    assert only(taken(is_paused=True)).code is Cause.PAUSED
    assert only(taken(runner=RunnerState())).code is Code.RUNNER_MISSING
    stuck = only(waiting(pending(0, Wait.POD, "Quota: exceeded quota: team.", Cause.QUOTA)))
    assert (stuck.code, stuck.subject) == (Cause.QUOTA, "quota")


def test_a_message_cannot_move_the_cursor() -> None:
    trials = [ended_by(n, Cause.USER_ERROR, "\x1b[2J wiped") for n in range(3)]

    assert "\x1b" not in only(taken(*trials)).message


ENDLESS = make_spec(budget={"gpu_hours": 4, "max_parallel_trials": 2})


def hour(number: int) -> TrialRecord:
    return finished(number, 3600.0, costs=(AttemptCost(1, Cause.OK, 3600.0),))


def test_a_study_whose_hours_are_spent_is_finished() -> None:
    records = [hour(number) for number in range(4)]
    (found,) = find_blockers(taken(*records, spec=ENDLESS, runner=RunnerState()))
    assert (found.code, found.level) == (Code.GPU_HOURS_SPENT, Level.FINISHED)
    assert find_blockers(taken(*records, spec=ENDLESS)) == (), "a runner sees for itself"


def test_a_study_whose_time_is_over_is_finished() -> None:
    spec = make_spec(budget={"n_trials": 9, "finish_by": "07:00"})
    late = taken(hour(0), spec=spec, runner=RunnerState(), finish_at=NOW)
    assert [found.code for found in find_blockers(late)] == [Code.FINISH_TIME_REACHED]
    early = replace(late, finish_at=NOW + 9999.0)
    assert [found.code for found in find_blockers(early)] == [Code.RUNNER_MISSING]


def test_a_study_without_a_number_of_trials_is_told_of_without_one() -> None:
    (found,) = find_blockers(taken(hour(0), spec=ENDLESS, runner=RunnerState()))
    assert found.message == "No runner drives it: trials are left and nobody starts them."
    full = taken(hour(0), running(1), running(2), spec=ENDLESS)
    assert [f.message for f in find_blockers(full)] == [
        "It runs 2 trials at once, as many as budget.max_parallel_trials allows."
    ]
    assert full.n_left is None
