"""What is unsent, and which task is next."""

from __future__ import annotations

import dataclasses

from studyflow.testing.tracker_contract import card, complete, points, running
from studyflow.tracking import StudySummary
from studyflow.tracking.mirror.backlog import (
    STUDY,
    Backlog,
    CloseStudy,
    FindUnsent,
    OpenStudy,
    Probe,
    SendTrial,
    subject_of,
)

NOBODY: frozenset[int] = frozenset()
SUMMARY = StudySummary(True, (), ())


def ending(backlog: Backlog, number: int) -> None:
    backlog.of(complete(number)).ending = complete(number)


def test_the_study_is_opened_first_and_closed_after_its_trials() -> None:
    backlog = Backlog(10)
    backlog.card, backlog.summary, backlog.probe = card(), SUMMARY, dict
    backlog.unchecked = {1: complete(1)}
    ending(backlog, 0)
    assert backlog.n_pending == 4

    assert backlog.next_task(0.0, NOBODY) == OpenStudy(card())
    backlog.card = None
    assert backlog.next_task(0.0, NOBODY) == FindUnsent({1: complete(1)})
    backlog.unchecked = {}
    task = backlog.next_task(0.0, NOBODY)
    assert isinstance(task, SendTrial)
    assert subject_of(task) == 0
    task.trial.ending = None
    backlog.drop_if_empty(0)
    assert backlog.get(0) is None
    assert backlog.next_task(0.0, NOBODY) == CloseStudy(SUMMARY)
    backlog.summary = None
    assert backlog.next_task(0.0, NOBODY) == Probe(dict)
    assert not backlog.is_waiting, "nobody waits for a probe"


def test_what_another_thread_writes_about_is_left_alone() -> None:
    backlog = Backlog(10)
    backlog.card = card()
    ending(backlog, 0)
    ending(backlog, 1)
    task = backlog.next_task(0.0, {STUDY, 0})
    assert task is not None
    assert subject_of(task) == 1
    assert backlog.next_task(0.0, {STUDY, 0, 1}) is None
    assert backlog.seconds_until_due(0.0, {STUDY, 0, 1}) is None
    assert backlog.seconds_until_due(0.0, {0, 1}) == 0.0


def test_a_trial_that_failed_is_due_after_its_pause() -> None:
    backlog = Backlog(10)
    ending(backlog, 0)
    backlog.of(complete(0)).not_before = 7.0
    assert backlog.seconds_until_due(5.0, NOBODY) == 2.0
    assert backlog.next_task(5.0, NOBODY) is None
    backlog.try_all_now()
    assert backlog.seconds_until_due(5.0, NOBODY) == 0.0


def test_a_refused_trial_is_pending_and_not_waiting() -> None:
    backlog = Backlog(10)
    ending(backlog, 3)
    backlog.of(complete(3)).is_refused = True
    assert (backlog.n_pending, backlog.refused, backlog.is_waiting) == (1, (3,), False)
    assert backlog.seconds_until_due(0.0, NOBODY) is None


def test_points_beyond_the_limit_are_left_to_the_trials_file() -> None:
    backlog = Backlog(5)
    first, second = backlog.of(running(0)), backlog.of(running(1))
    backlog.add_points(first, points(0, 3))
    backlog.add_points(second, points(1, 2))
    assert backlog.n_points == 5
    backlog.add_points(first, points(0, 1))
    assert (backlog.n_points, first.points, first.must_resend) == (2, [], True)
    assert not second.must_resend


def test_points_that_could_not_be_sent_go_before_newer_ones() -> None:
    backlog = Backlog(10)
    trial = backlog.of(running(0))
    backlog.add_points(trial, points(0)[:2])
    taken = backlog.take_points(trial)
    assert backlog.n_points == 0
    backlog.add_points(trial, points(0)[2:])
    backlog.add_points(trial, taken, in_front=True)
    assert trial.points == points(0)


def test_an_older_record_takes_no_newer_ones_place() -> None:
    backlog = Backlog(10)
    second = running(0, attempt=2)
    assert backlog.of(second).record == second
    assert backlog.of(running(0)).record == second
    done = dataclasses.replace(complete(0), attempt=2)
    assert backlog.of(done).record == done
    assert backlog.of(running(0, attempt=3)).record == done
