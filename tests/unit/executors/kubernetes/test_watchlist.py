"""What a poll costs: requests and looks by what has changed, however many pods there are."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.executors.kubernetes.test_executor import AWAY, Rig, Runner, a_spec, a_trial, done

from studyflow.background import DaemonPool
from studyflow.errors import ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptState
from studyflow.executors.kubernetes.ends import LOGS_AT_ONCE
from studyflow.executors.kubernetes.judging import judge
from studyflow.executors.kubernetes.logs import PodLogs
from studyflow.executors.kubernetes.monitor import MAX_EVENT_REQUESTS
from studyflow.executors.kubernetes.names import job_name
from studyflow.executors.kubernetes.objects import Object, first_pod
from studyflow.executors.kubernetes.survey import survey
from studyflow.redaction import Redactor
from studyflow.trial import Cause

N = 60
PACKAGE = "studyflow.executors.kubernetes"


class Looks:
    """Counts the judgements of attempts, and the pods that were gone through for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n_judged = self.n_pods = 0

        def counting_judge(seen: Any) -> Any:
            self.n_judged += 1
            return judge(seen)

        def counting_first(job: Object, pods: Iterable[Object]) -> Object | None:
            known = list(pods)
            self.n_pods += len(known)
            return first_pod(job, known)

        monkeypatch.setattr(f"{PACKAGE}.monitor.judge", counting_judge)
        monkeypatch.setattr(f"{PACKAGE}.study_objects.first_pod", counting_first)

    def of(self, runner: Runner) -> int:
        """Return how many attempts a poll judges."""
        before = self.n_judged
        runner.executor.poll()
        return self.n_judged - before


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def submit(runner: Runner, n: int = N) -> list[AttemptId]:
    return [runner.executor.submit(a_trial(number)) for number in range(n)]


def job(attempt: AttemptId) -> str:
    return job_name("demo", attempt)


def test_a_first_poll_looks_at_each_attempt_once_and_at_its_own_pods(
    rig: Rig, looks: Looks
) -> None:
    submit(rig.runner())
    runner = rig.runner()

    assert looks.of(runner) == N
    assert looks.n_pods == N
    assert runner.api.n_requests == {"list jobs": 1, "list pods": 1}


def test_a_poll_looks_at_what_has_changed(rig: Rig, looks: Looks) -> None:
    runner = rig.runner()
    attempts = submit(runner)
    for attempt in attempts:
        rig.cluster.start(job(attempt))
    runner.executor.poll()
    requests = Counter(runner.api.n_requests)

    assert [looks.of(runner) for _ in range(5)] == [0] * 5
    rig.cluster.clock.advance(500)
    assert looks.of(runner) == 0, "time alone changes nothing for what runs without a limit"
    rig.cluster.finish(job(attempts[7]), message=done(7))
    assert looks.of(runner) == 1
    assert looks.of(runner) == 0

    statuses = runner.executor.poll()
    assert set(statuses) == set(attempts)
    ended = [a for a, status in statuses.items() if status.state is AttemptState.ENDED]
    assert ended == [attempts[7]]
    asked = Counter(runner.api.n_requests) - requests
    assert {k: n for k, n in asked.items() if "watch" not in k} == {"log pods": 1}


def test_a_new_list_that_brings_nothing_new_costs_no_looks(rig: Rig, looks: Looks) -> None:
    runner = rig.runner()
    for attempt in submit(runner):
        rig.cluster.start(job(attempt))
    runner.executor.poll()

    rig.cluster.clock.advance(3600)
    assert looks.of(runner) == 0
    assert runner.api.n_requests["list pods"] == 2


def test_attempts_that_wait_are_looked_at_more_rarely_the_longer_they_wait(
    rig: Rig, looks: Looks
) -> None:
    runner = rig.runner()
    for attempt in submit(runner):
        rig.cluster.unschedulable(job(attempt))
    runner.executor.poll()
    assert looks.of(runner) == 0, "no time has passed"

    n_minutes = []
    for _ in range(10):
        before = looks.n_judged
        for _ in range(60):
            rig.cluster.clock.advance(1)
            runner.executor.poll()
        n_minutes.append((looks.n_judged - before) / N)

    assert n_minutes[0] <= 30
    assert n_minutes[-1] <= 5
    assert all(status.waits_for_room for status in runner.executor.poll().values())


def test_a_time_limit_holds_to_the_second_although_nothing_changes(rig: Rig) -> None:
    runner = rig.runner(a_spec(timeout_seconds=100))
    attempts = submit(runner, 3)
    for attempt in attempts:
        rig.cluster.start(job(attempt))
    runner.executor.poll()
    rig.cluster.clock.advance(99.5)
    runner.executor.poll()
    assert "patch jobs" not in runner.api.n_requests

    rig.cluster.clock.advance(0.5)
    runner.executor.poll()
    assert runner.api.n_requests["patch jobs"] == len(attempts)
    assert {runner.outcome(attempt).cause for attempt in attempts} == {Cause.TIMEOUT}


def test_the_events_of_a_few_attempts_are_asked_for_at_a_time(rig: Rig) -> None:
    runner = rig.runner()
    attempts = submit(runner)
    for attempt in attempts:
        rig.cluster.schedule(job(attempt))
    runner.executor.poll()
    n_asked = []
    for _ in range(30):
        rig.cluster.clock.advance(5)
        before = runner.api.n_requests.get("list events", 0)
        runner.executor.poll()
        n_asked.append(runner.api.n_requests.get("list events", 0) - before)

    assert max(n_asked) == MAX_EVENT_REQUESTS
    assert sum(n_asked) >= len(attempts), "each has its turn"


def test_a_poll_with_many_ends_leaves_the_rest_to_the_next_one(rig: Rig) -> None:
    runner = rig.runner()
    attempts = submit(runner, 15)
    for attempt in attempts:
        rig.cluster.start(job(attempt))
        rig.cluster.finish(job(attempt), message=done(attempt.number))
    runner.api.interrupt("log pods", lambda: rig.cluster.clock.advance(0.125), times=None)
    runner.executor._changed.clear()

    n_ended: list[int] = []
    while not n_ended or n_ended[-1] < len(attempts):
        assert len(n_ended) < 20
        statuses = runner.executor.poll()
        assert set(statuses) == set(attempts), "none has disappeared meanwhile"
        assert runner.executor._changed.is_set() or len(n_ended) == 3, "the next poll follows"
        n_ended.append(sum(s.state is AttemptState.ENDED for s in statuses.values()))

    assert n_ended == [4, 8, 12, 15]
    assert runner.api.n_requests["log pods"] == len(attempts)


def test_a_poll_that_fails_has_looked_at_nothing_in_vain(rig: Rig, looks: Looks) -> None:
    runner = rig.runner(a_spec(timeout_seconds=100))
    attempts = submit(runner, 4)
    for attempt in attempts:
        rig.cluster.start(job(attempt))
    runner.executor.poll()
    rig.cluster.clock.advance(100)
    runner.api.interrupt("patch jobs", AWAY)

    with pytest.raises(ExecutorUnavailable):
        runner.executor.poll()
    runner.executor.poll()
    assert {runner.outcome(attempt).cause for attempt in attempts} == {Cause.TIMEOUT}


def test_a_survey_goes_through_the_pods_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(rig.runner())
    runner = rig.runner()
    found = survey(runner.api, "demo", {}, rig.cluster.clock())
    assert len(found.pending) == N
    assert runner.api.n_requests["list pods"] == 1


def test_logs_are_fetched_side_by_side(rig: Rig, tmp_path: Path) -> None:
    runner = rig.runner()
    attempts = submit(runner, LOGS_AT_ONCE)
    for attempt in attempts:
        rig.cluster.start(job(attempt))
        rig.cluster.write_log(job(attempt), "hello\n")
    together = threading.Barrier(LOGS_AT_ONCE, timeout=10)
    runner.api.interrupt("log pods", lambda: [together.wait()].clear(), times=None)
    pool = DaemonPool("test", LOGS_AT_ONCE)
    logs = PodLogs(runner.api, tmp_path, Redactor(), pool)

    fetched = [logs.begin_fetch(a, rig.cluster.pod_names(job(a))[0]) for a in attempts]
    saved = [log.result(10) for log in fetched]
    pool.close()

    assert saved == [True] * LOGS_AT_ONCE
    assert all(logs.path(attempt).read_text() == "hello\n" for attempt in attempts)
