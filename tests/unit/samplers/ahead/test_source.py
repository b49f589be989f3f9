"""The runner's side of suggestions ahead, and the chain that makes them."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any, Final

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from tests.unit.samplers.ahead.workers import HeldWorker, Workers

from studyflow.samplers.ahead.sampler import SamplerAhead
from studyflow.samplers.ahead.source import SuggestionsAhead
from studyflow.samplers.botorch import BoTorchSampler
from studyflow.samplers.explanation import explanation_of
from studyflow.testing.fake_clock import FakeClock

SPACE: Final[dict[str, BaseDistribution]] = {
    "kind": CategoricalDistribution(["a", "b"]),
    "x": FloatDistribution(0.0, 1.0),
    "y": FloatDistribution(0.0, 1.0),
}
LONG, SHORT = 3600.0, 0.001


class Runner:
    """What a runner does with suggestions, over plain Optuna."""

    def __init__(
        self, *, workers: Workers | None = None, trial_seconds: float = LONG, n_slots: int = 3
    ) -> None:
        self.workers = workers or Workers(is_eager=True)
        self.clock = FakeClock()
        self.ahead = SuggestionsAhead(self.workers, self.clock)
        self.ours = BoTorchSampler(seed=1, search_space=SPACE)
        self.ahead.follow(self.ours.strategy, self.ours.ask_seconds)
        self.study = optuna.create_study(sampler=SamplerAhead(self.ours, self.ahead))
        self.n_slots, self.trial_seconds = n_slots, trial_seconds
        self.running: list[optuna.Trial] = []

    @property
    def worker(self) -> HeldWorker:
        return self.workers.only

    def prepare(self, room: int = 100) -> None:
        trials = self.study.get_trials(deepcopy=False)
        n_running = sum(t.state is TrialState.RUNNING for t in trials)
        self.ahead.prepare(
            trials,
            lambda trial: trial,
            self.study.directions,
            n_free=self.n_slots - n_running,
            room=room,
        )

    def ask(self) -> optuna.Trial:
        trial = self.study.ask()
        suggest(trial)
        self.running.append(trial)
        self.prepare()
        return trial

    def tell(self, position: int = 0) -> None:
        trial = self.running.pop(position)
        state = TrialState.COMPLETE
        self.study.tell(trial, value(trial.params), state=state)
        stored = self.study.get_trials(deepcopy=False)[trial.number]
        stored.datetime_start = datetime.now() - timedelta(seconds=self.trial_seconds)
        self.prepare()

    def fill(self) -> None:
        self.prepare()
        while len(self.running) < self.n_slots:
            assert self.ahead.await_suggestion(0.0)
            self.ask()

    def run(self, n_trials: int) -> None:
        """Run trials until so many have ended; all slots have a trial then."""
        self.fill()
        for _ in range(n_trials):
            self.tell()
            self.fill()


def suggest(trial: optuna.Trial) -> None:
    trial.suggest_categorical("kind", ["a", "b"])
    for name in ("x", "y"):
        trial.suggest_float(name, 0.0, 1.0)


def value(params: dict[str, Any]) -> float:
    return float((params["x"] - 0.3) ** 2 + params["y"] + (params["kind"] == "b"))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def asked_alone(trials: list[FrozenTrial]) -> dict[str, Any]:
    """Return what plain Optuna would suggest next, with the same trials and seed."""
    study = optuna.create_study(sampler=BoTorchSampler(seed=1, search_space=SPACE))
    study.add_trials(trials)
    trial = study.ask()
    suggest(trial)
    return trial.params


def test_long_trials_get_the_suggestion_that_the_sampler_gives_when_asked_then() -> None:
    runner = Runner(trial_seconds=LONG)
    runner.run(12)
    runner.tell()
    before = runner.study.get_trials(deepcopy=False)

    runner.fill()

    assert runner.running[-1].params == asked_alone(before)
    explanation = explanation_of(runner.study.trials[-1])
    assert explanation is not None
    assert (explanation.level, explanation.n_data, explanation.n_pending) == ("model", 13, 2)
    assert runner.ours._memory.fits.n_computed == 0, "the runner's thread fitted nothing"


def test_a_batch_for_free_slots_is_one_fit_and_the_one_that_asking_in_turn_gives() -> None:
    runner = Runner(n_slots=4)
    runner.run(10)
    n_fits = runner.worker.chain._memory.fits.n_computed
    runner.worker.is_eager = False
    for _ in range(4):
        runner.tell()
    before = list(runner.study.get_trials(deepcopy=False))

    runner.worker.work()
    runner.fill()

    # Two models where the values have a long tail, whatever the number of suggestions.
    assert runner.worker.chain._memory.fits.n_computed - n_fits in (1, 2)
    trials = runner.study.get_trials(deepcopy=False)
    for trial in runner.running:
        assert trial.params == asked_alone([*before, *trials[len(before) : trial.number]])


def test_long_trials_have_nothing_made_that_may_be_outdated() -> None:
    runner = Runner(trial_seconds=LONG)
    runner.run(12)
    assert sorted(runner.worker.made) == list(range(15)), "one for each trial that was asked for"


def test_short_trials_get_one_that_is_ready_and_misses_the_newest_result() -> None:
    runner = Runner(trial_seconds=SHORT)
    runner.run(12)
    runner.worker.is_eager = False
    n_made = len(runner.worker.made)

    runner.tell()

    assert runner.ahead.await_suggestion(0.0)
    runner.ask()
    assert len(runner.worker.made) == n_made
    explanation = explanation_of(runner.study.trials[-1])
    assert explanation is not None
    assert explanation.n_data == 12


def test_one_that_is_ready_is_made_anew_when_a_result_changes_the_model() -> None:
    runner = Runner(trial_seconds=SHORT)
    runner.run(12)
    n_made = len(runner.worker.made)
    runner.tell()
    renewed = runner.worker.made[n_made:]
    assert runner.running[-1].number + 1 in renewed
    runner.ask()
    explanation = explanation_of(runner.study.trials[-1])
    assert explanation is not None
    assert explanation.n_data == 13


def test_what_misses_more_results_than_there_are_slots_is_not_taken() -> None:
    runner = Runner(trial_seconds=SHORT, n_slots=2)
    runner.run(10)
    runner.worker.is_eager = False
    for _ in range(2):
        runner.tell()
    runner.ahead._n_news += 1  # one more, of another runner
    assert not runner.ahead.await_suggestion(0.0)


def test_no_two_trials_have_the_same_point_however_old_their_suggestions_are() -> None:
    runner = Runner(trial_seconds=SHORT, n_slots=4)
    runner.run(30)
    points = [(t.params["kind"], t.params["x"], t.params["y"]) for t in runner.study.trials]
    assert len(set(points)) == len(points)


def test_a_suggestion_that_is_not_used_leaves_no_trace() -> None:
    runner = Runner(trial_seconds=SHORT)
    runner.run(12)
    ready = set(runner.ahead.ready)
    before = [(t.number, t.state, t.system_attrs) for t in runner.study.trials]
    assert ready, "some are ready"
    runner.ahead.close()
    assert runner.worker.is_closed
    assert [(t.number, t.state, t.system_attrs) for t in runner.study.trials] == before
    assert all(number >= len(before) for number in ready)


def test_nothing_is_prepared_beyond_the_budget() -> None:
    runner = Runner(trial_seconds=SHORT)
    runner.run(8)
    n_updates = len(runner.worker.updates)
    runner.tell()
    runner.prepare(room=0)
    assert runner.worker.updates[-1].wanted.n_wanted == 0
    assert len(runner.worker.updates) > n_updates


def test_no_worker_starts_before_a_slot_is_free() -> None:
    runner = Runner(n_slots=0)
    runner.prepare()
    assert runner.workers.started == []
    assert runner.ahead.await_suggestion(0.0), "the sampler is asked in this thread"


def test_what_a_trial_reports_is_told_to_nobody() -> None:
    runner = Runner()
    runner.run(3)
    n_updates = len(runner.worker.updates)
    runner.running[0].report(0.5, 1)
    runner.prepare()
    assert len(runner.worker.updates) == n_updates


def test_a_worker_is_told_what_has_changed_and_no_more() -> None:
    runner = Runner()
    runner.run(10)
    told = sum(len(update.trials) for update in runner.worker.updates)
    assert told == 13 + 10, "each trial when it began and when it ended"


def test_a_point_that_another_runner_begins_to_try_is_not_used_here() -> None:
    runner = Runner(trial_seconds=SHORT)
    runner.run(12)
    runner.worker.is_eager = False
    number, ready = min(runner.ahead.ready.items())
    other = optuna.trial.create_trial(
        state=TrialState.RUNNING, params=ready.suggested.params, distributions=SPACE
    )
    runner.study.add_trial(other)
    runner.prepare()
    assert runner.study.trials[-1].number == number
    assert number not in runner.ahead.ready
    assert all(
        later.suggested.params != ready.suggested.params for later in runner.ahead.ready.values()
    )


def test_a_trial_of_another_number_than_expected_gets_its_suggestion_from_the_sampler() -> None:
    runner = Runner(trial_seconds=LONG)
    runner.run(12)
    runner.tell()
    other = optuna.trial.create_trial(
        state=TrialState.RUNNING, params={"kind": "a", "x": 0.9, "y": 0.9}, distributions=SPACE
    )
    runner.study.add_trial(other)  # between the runner's look and its ask
    before = runner.study.get_trials(deepcopy=False)
    trial = runner.ask()
    assert trial.params == asked_alone(list(before))


def test_an_enqueued_point_goes_first_as_it_is() -> None:
    runner = Runner(trial_seconds=SHORT)
    runner.run(8)
    point = {"kind": "b", "x": 0.5, "y": 0.25}
    runner.study.enqueue_trial(point)
    runner.tell()
    trial = runner.ask()
    assert trial.params == point


def test_without_its_worker_the_sampler_is_asked_here_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runner = Runner(workers=Workers())
    with caplog.at_level(logging.WARNING):
        runner.prepare()
        assert not runner.ahead.await_suggestion(0.0)
        runner.worker.die()
        for _ in range(3):
            assert runner.ahead.await_suggestion(0.0)
            runner.ask()
            runner.prepare()
    expected = "Suggestions are made in the runner's own thread from here on: the process ended"
    assert [said[: len(expected)] for said in warnings_of(caplog)] == [expected]
    assert runner.worker.is_closed
    assert len(runner.workers.started) == 1


def test_a_worker_that_hangs_is_left_when_the_time_for_a_suggestion_is_long_over() -> None:
    runner = Runner(workers=Workers())
    runner.prepare()
    assert not runner.ahead.await_suggestion(0.0)
    runner.clock.advance(runner.ours.ask_seconds + 59.0)
    assert not runner.ahead.await_suggestion(0.0)
    runner.clock.advance(2.0)
    assert runner.ahead.await_suggestion(0.0)
    assert runner.worker.is_closed


def test_a_pause_is_no_time_that_a_worker_hangs() -> None:
    runner = Runner(workers=Workers())
    runner.prepare()
    assert not runner.ahead.await_suggestion(0.0)
    runner.prepare(room=0)
    runner.worker.work()
    assert runner.worker.made == []
    runner.clock.advance(3600.0)
    runner.prepare()
    assert not runner.ahead.await_suggestion(0.0), "it has its time from now on"
    runner.worker.work()
    assert runner.ahead.await_suggestion(0.0)
    assert not runner.worker.is_closed


def test_where_no_process_can_be_started_the_sampler_is_asked_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object) -> HeldWorker:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    runner = Runner()
    runner.ahead = SuggestionsAhead(refuse, runner.clock)
    runner.ahead.follow(runner.ours.strategy, runner.ours.ask_seconds)
    with caplog.at_level(logging.WARNING):
        runner.fill()
    assert len(runner.running) == runner.n_slots
    assert len(warnings_of(caplog)) == 1
    assert "Resource temporarily unavailable" in warnings_of(caplog)[0]


def test_a_model_that_fails_falls_back_and_says_so_on_its_trial(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner(trial_seconds=LONG)
    runner.run(12)
    from studyflow.samplers import fitted_models

    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError("singular")

    monkeypatch.setattr(fitted_models, "fit", broken)
    with caplog.at_level(logging.WARNING):
        runner.tell()
        runner.fill()
    explanation = explanation_of(runner.study.trials[-1])
    assert explanation is not None
    assert explanation.level == "space-filling"
    assert len(warnings_of(caplog)) == 1


def test_one_that_stands_aside_for_a_point_that_was_not_tried_is_not_taken() -> None:
    runner = Runner(trial_seconds=SHORT)
    runner.run(12)
    runner.worker.is_eager = False
    first = min(runner.ahead.ready)
    assert runner.ahead.ready[first + 1].after == runner.ahead.ready[first].serial

    runner.tell()
    runner.worker.work(1)  # the first is made anew
    runner.tell()
    old = runner.ahead.ready[first]
    trial = runner.ask()  # it is used while another one is made in its place
    runner.worker.chain._made.pop(first, None)
    assert trial.params == old.suggested.params
    runner.worker.work()

    assert runner.ahead.ready[first + 1].after is None
    assert runner.ahead.await_suggestion(0.0)
