"""`Study`: what the runner asks and tells, on top of an `optuna.Study`.

The storage is the only truth. Every method here can be repeated after a crash: an end is one write,
so a trial is either still running, and everything about it is done again, or finished, and nothing
is.

Every write about a trial is made on a condition: that its attempt, its holder and its lost attempts
are still those that the writer saw. A runner that stood still, for however long and wherever, finds
its late write refused when another has taken the trial over.

Trial numbers decide who may run when several runners ask at once: a trial is inside the budget when
fewer than `n_trials` trials with lower numbers count or run. Both runners see the same numbers, so
they agree without talking, and the surplus trial is withdrawn before anything of it has started.
"""

from __future__ import annotations

import logging
import math
import operator
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, count
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from studyflow.errors import StudyError, StudyMismatch, StudyNotFound, TrialTaken
from studyflow.spec import StudySpec, describe_differences, find_problems
from studyflow.storage import TrialChange
from studyflow.study import storage_form as form
from studyflow.study.attempt_storage import AttemptStorage
from studyflow.study.verdict import Verdict, is_counted, n_trials_to_finish
from studyflow.trial import Cause, MetricPoint
from studyflow.trial.record import LostAttempt, TrialRecord, TrialState, best_records

_log = logging.getLogger(__name__)

MAX_INTERMEDIATE_VALUES: Final = 1000
"""Most reported values kept per trial in the study's storage; MLflow has all of them. A pruner and
a plot need no more, and each one is a write."""

MAX_STEP: Final = 2**31 - 1
"""Largest step kept: Optuna's column for it has 32 bits, and PostgreSQL refuses more."""

_MOST_TRIES: Final = 8
"""How often a write is decided anew because another runner has changed its trial meanwhile. Each
time that one has gone on, so two in a row are rare."""

SamplerFactory = Callable[[int, int], optuna.samplers.BaseSampler]
"""Makes the sampler from a seed and the number of trials that the study has already."""


@dataclass(frozen=True, slots=True)
class Notices:
    """What people and runners have left with a study for its runners."""

    is_paused: bool
    """Whether no trial may start for now."""
    beats: Mapping[str, Mapping[str, Any]]
    """The newest beat of every site that ever worked on the study."""
    pardons: Mapping[str, int]
    """By node, how many of its failures no longer count."""


class Study:
    """A study that exists in a storage. Made by `Study.open`.

    Not thread-safe: one thread of one runner uses one object.

    Args:
        spec: The study file.
        optuna_study: The stored study; its sampler and pruner do the suggesting and pruning.
        storage: Where it is: the same that `optuna_study` reads and writes.
    """

    def __init__(
        self, spec: StudySpec, optuna_study: optuna.Study, storage: AttemptStorage
    ) -> None:
        self.spec = spec
        self.optuna_study = optuna_study
        self._storage = storage
        self._space = spec.space
        self._n_trials = n_trials_to_finish(spec)
        self._last: tuple[list[FrozenTrial], tuple[TrialRecord, ...]] = ([], ())
        """What the storage gave last of all trials, and the records made from it."""
        self._renew_sampler: Callable[[int], optuna.samplers.BaseSampler] | None = None
        self._next_number = self._count_begun()
        """Number of the trial that the sampler's stream of random numbers has come to."""

    @classmethod
    def open(
        cls,
        spec: StudySpec,
        storage: optuna.storages.BaseStorage,
        *,
        make_sampler: SamplerFactory,
        pruner: optuna.pruners.BasePruner,
        fork_from: str | None = None,
    ) -> Study:
        """Return the study of this name, created if it does not exist.

        Args:
            spec: The study file.
            storage: Where studies are kept.
            make_sampler: Makes the sampler.
            pruner: Decides which running trials are hopeless.
            fork_from: Name of a study whose finished trials a new study takes over, as far as they
                fit into its search space.

        Raises:
            StudyMismatch: The stored study has other objectives or another search space.
            StudyError: A later studyflow has written it in a format of its own.
            StudyNotFound: `fork_from` names no study.
        """
        attempts = AttemptStorage(storage)
        study = optuna.create_study(
            study_name=spec.name,
            storage=attempts,
            directions=list(spec.directions),
            load_if_exists=True,
            pruner=pruner,
        )
        check_format(study)
        check_identity(spec, study)
        if study.user_attrs.get(form.FORMAT) != form.FORMAT_NUMBER:
            study.set_user_attr(form.FORMAT, form.FORMAT_NUMBER)
        if fork_from is not None and _may_take_over(study):
            source = find_study(fork_from, storage)
            check_format(source)
            _take_over(spec, source, study)
        if spec.sampler.seed is None and form.SEED not in study.user_attrs:
            study.set_user_attr(form.SEED, random.SystemRandom().randrange(2**32))
        kept_seed = seed_of(spec, study)
        study.sampler = make_sampler(kept_seed, len(study.get_trials(deepcopy=False)))
        opened = cls(spec, study, attempts)
        opened._renew_sampler = lambda number: make_sampler(kept_seed, number)
        opened._enqueue()
        if form.SPEC not in study.user_attrs:
            study.set_user_attr(form.SPEC, spec.to_yaml())
        return opened

    @property
    def name(self) -> str:
        """The study's name."""
        return self.spec.name

    def kept_spec(self) -> StudySpec:
        """Return the study file that trials were last started by, by whichever run."""
        text = self.optuna_study.user_attrs.get(form.SPEC)
        return (None if text is None else find_problems(text)[0]) or self.spec

    def keep_spec(self, *, is_shared: bool, is_new: bool = True) -> StudySpec | None:
        """Keep this run's study file as the one that trials are started by.

        Args:
            is_shared: Whether other runs may be at work, whose limits hold as well.
            is_new: Whether this run has not kept it before; later it only raises limits that
                another run has lowered.

        Returns:
            The study file as it is kept, if that has changed anything.
        """
        kept = self.kept_spec()
        if not is_new and _covers(kept, self.spec):
            return None
        used = sum(r.state is TrialState.RUNNING or is_counted(r) for r in self.records())
        wanted = spec_to_keep(self.spec, kept if is_shared else None, used)
        text = wanted.to_yaml()
        if text == self.optuna_study.user_attrs.get(form.SPEC):
            return None
        self.optuna_study.set_user_attr(form.SPEC, text)
        return wanted

    def records(self) -> tuple[TrialRecord, ...]:
        """Return every trial, by number; each record is made once for each state of its trial.

        A storage never changes what it has given: it gives a new object after each write. What is
        finished stays as it is, whatever object comes.
        """
        known, records = self._last
        given = self._frozen()
        changed = [
            number
            for number in compress(count(), map(operator.is_not, given, known))
            if not records[number].state.is_finished
        ]
        if changed or len(given) != len(known):
            renewed = [*records, *map(self._to_record, given[len(known) :])]
            for number in changed:
                renewed[number] = self._to_record(given[number])
            records = tuple(renewed)
        self._last = (given, records)
        return records

    def record(self, number: int) -> TrialRecord:
        """Return one trial.

        Raises:
            IndexError: There is no trial of that number.
        """
        return self.records()[number]

    def best(self) -> tuple[TrialRecord, ...]:
        """Return the best trial, or the Pareto front of several objectives; empty without any."""
        return best_records(self.records(), self.spec.directions)

    def running(self) -> tuple[TrialRecord, ...]:
        """Return the trials that were asked for and not told, by number."""
        return tuple(record for record in self.records() if record.state is TrialState.RUNNING)

    @property
    def n_trials(self) -> int:
        """How many trials the study is to finish: the budget, or a grid's size if that is less."""
        return self._n_trials

    def notices(self) -> Notices:
        """Return what people and runners have left with the study, by one read."""
        attrs = self.optuna_study.user_attrs
        return Notices(
            is_paused=bool(attrs.get(form.PAUSED, False)),
            beats=_beats_in(attrs),
            pardons=dict(attrs.get(form.PARDONS, {})),
        )

    def room(self) -> int:
        """Return how many trials may still be asked for; those that run use up budget."""
        used = sum(
            record.state is TrialState.RUNNING or is_counted(record) for record in self.records()
        )
        return max(self.n_trials - used, 0)

    def ask(self, holder: str | None = None) -> TrialRecord | None:
        """Return a new running trial with all its parameters, or `None` when there is no room.

        Enqueued points come first, then the sampler's suggestions. A runner that took so long over
        one that another has taken its trial gets none.

        Args:
            holder: Site that will look after the trial.
        """
        if self.room() == 0:
            return None
        self._follow_stream(self._count_begun())
        try:
            with self._storage.asking(holder):
                trial = self.optuna_study.ask()
                self._follow_stream(trial.number)
                self._next_number = trial.number + 1
                self._space.suggest(trial)
        except TrialTaken as error:
            _log.info("%s", error)
            return None
        asked = self.record(trial.number)
        if self._rank(trial.number) < self.n_trials:
            return asked
        withdrawn = Verdict(
            Cause.CANCELLED, TrialState.FAILED, "Withdrawn: another runner was first."
        )
        self.tell(trial.number, withdrawn, seen=asked)
        return None

    def complete_suggestion(
        self, number: int, holder: str | None = None, seen: TrialRecord | None = None
    ) -> TrialRecord:
        """Return a running trial with all its parameters, drawing those that are missing.

        A runner killed inside `ask` leaves a trial with only some of them.

        Args:
            number: Number of the trial.
            holder: Site that takes the trial over, if parameters are missing.
            seen: The trial as it was when that was decided; as it is now by default.

        Raises:
            TrialTaken: Another runner has gone on with the trial since.
        """
        if not self._space.problems(self._frozen()[number].params):
            return self.record(number)

        claim = TrialChange({form.HOLDER: holder})
        if holder is not None and not self._change(number, lambda _: claim, seen):
            raise TrialTaken(f"Another runner looks after trial {number} now.")
        frozen = self._frozen()[number]
        with self._storage.fenced(frozen):
            self._space.suggest(optuna.trial.Trial(self.optuna_study, frozen._trial_id))
        return self.record(number)

    def begin_attempt(
        self,
        number: int,
        attempt: int,
        holder: str | None = None,
        seen: TrialRecord | None = None,
    ) -> TrialRecord:
        """Note that an attempt is about to be launched; repeating it changes nothing.

        Args:
            number: Number of the trial.
            attempt: Number of the attempt.
            holder: Site where it is launched.
            seen: The trial as it was when that was decided; as it is now by default.

        Returns:
            The trial as it is then: of another attempt or holder if another runner was first.
        """

        def begin(frozen: FrozenTrial) -> TrialChange | None:
            begun, held = frozen.user_attrs.get(form.ATTEMPT, 0), frozen.user_attrs.get(form.HOLDER)
            is_anothers = begun == attempt and None not in (held, holder) and held != holder
            if begun > attempt or is_anothers:
                return None
            return TrialChange(
                {form.ATTEMPT: attempt, **({} if holder is None else {form.HOLDER: holder})}
            )

        self._change(number, begin, seen)
        return self.record(number)

    def withdraw_attempt(self, number: int, attempt: int, seen: TrialRecord | None = None) -> None:
        """Note that an attempt, the newest of its trial, is not launched after all.

        Args:
            number: Number of the trial.
            attempt: Number of the attempt.
            seen: The trial as it was when that was decided; as it is now by default.
        """

        def withdraw(frozen: FrozenTrial) -> TrialChange | None:
            is_newest = frozen.user_attrs.get(form.ATTEMPT) == attempt
            return TrialChange({form.ATTEMPT: attempt - 1}) if is_newest else None

        self._change(number, withdraw, seen)

    def end_attempt(
        self,
        number: int,
        attempt: int,
        verdict: Verdict,
        trained_seconds: float | None = None,
        node: str | None = None,
        ended_at: float | None = None,
        seen: TrialRecord | None = None,
    ) -> bool:
        """Note an attempt that was lost and will be followed by another; return whether it was.

        It is noted once, and only while it is the newest: else another runner has gone on.

        Args:
            number: Number of the trial.
            attempt: Number of the attempt.
            verdict: What ended it.
            trained_seconds: How long its script ran, for nothing, if that is known.
            node: Node that ran it or was to, if there are several.
            ended_at: When it ended, in seconds since the epoch, if that is known.
            seen: The trial as it was when that was judged; as it is now by default.
        """
        lost = LostAttempt(
            attempt,
            verdict.cause,
            verdict.message,
            verdict.hint,
            trained_seconds=trained_seconds,
            node=node,
            ended_at=ended_at,
        )

        def end(frozen: FrozenTrial) -> TrialChange | None:
            known = form.lost_attempts(frozen.user_attrs)
            is_newest = frozen.user_attrs.get(form.ATTEMPT, 0) == attempt
            if not is_newest or any(other.attempt == attempt for other in known):
                return None
            documents = [*frozen.user_attrs.get(form.ATTEMPTS, []), form.to_document(lost)]
            return TrialChange({form.ATTEMPTS: documents})

        return self._change(number, end, seen)

    def set_run_id(self, number: int, run_id: str, seen: TrialRecord | None = None) -> None:
        """Note which MLflow run shows a trial.

        Args:
            number: Number of the trial.
            run_id: MLflow's id of the run.
            seen: The trial as it was when the run was opened; one that has gone on keeps its own.
        """

        def note(frozen: FrozenTrial) -> TrialChange | None:
            is_known = frozen.user_attrs.get(form.RUN_ID) == run_id
            return None if is_known else TrialChange({form.RUN_ID: run_id})

        self._change(number, note, seen)

    def pinned_image(self) -> str | None:
        """Return the study file's image by its digest, once a trial has shown which it is.

        An image that was changed in the study file since is not pinned yet.
        """
        image, pinned = self.optuna_study.user_attrs.get(form.IMAGE, (None, None))
        return pinned if image == self.spec.trial.image else None

    def pin_image(self, pinned: str) -> None:
        """Keep the study file's image by its digest: all trials run the same one."""
        self.optuna_study.set_user_attr(form.IMAGE, [self.spec.trial.image, pinned])

    def pardon(self, failures: Mapping[str, int]) -> Mapping[str, int]:
        """Let so many failures of each node count no longer: there is no place without them.

        Returns:
            All pardons, by node.
        """
        known = self.notices().pardons
        merged = {**known, **{node: max(n, known.get(node, 0)) for node, n in failures.items()}}
        if merged != known:
            self.optuna_study.set_user_attr(form.PARDONS, merged)
        return merged

    def report(
        self, number: int, points: Sequence[MetricPoint], seen: TrialRecord | None = None
    ) -> None:
        """Keep the reported values of the first objective, for pruners and plots.

        Other metrics are ignored, and steps that this attempt has reported already. What an earlier
        attempt reported for a step is replaced.

        Args:
            number: Number of the trial.
            points: What was reported.
            seen: The trial of the attempt that reported it; one that has gone on ignores it.
        """
        metric = self.spec.objectives[0].metric
        wanted: dict[int, float] = {}
        for point in points:
            if point.name == metric and 0 <= point.step <= MAX_STEP:
                wanted.setdefault(point.step, point.value)
        if not wanted:
            return

        def keep(frozen: FrozenTrial) -> TrialChange | None:
            if frozen.state is not OptunaState.RUNNING:
                return None
            new, attrs = form.with_points(frozen, wanted, MAX_INTERMEDIATE_VALUES)
            return TrialChange(attrs, intermediate=new) if new else None

        self._change(number, keep, seen)

    def first_step(self, number: int) -> int | None:
        """Return the lowest step that any attempt of a trial reported; `None` without one."""
        return min(self._frozen()[number].intermediate_values, default=None)

    def should_prune(self, number: int) -> bool:
        """Return whether the pruner gives up a running trial after its newest reported value.

        An attempt that has reported nothing yet is not judged by what an earlier one reported.
        """
        stored = self._frozen()[number]
        if stored.state is not OptunaState.RUNNING or not form.has_reported(stored):
            return False
        frozen = form.of_one_attempt(stored)
        try:
            with self._storage.fenced(stored):
                return self.optuna_study.pruner.prune(self.optuna_study, frozen)
        except TrialTaken:
            return False

    def tell(
        self,
        number: int,
        verdict: Verdict,
        metrics: Mapping[str, float] | None = None,
        trained_seconds: float | None = None,
        node: str | None = None,
        seen: TrialRecord | None = None,
    ) -> TrialRecord:
        """Finish a trial and return it; a trial that is finished already is left as it is.

        Args:
            number: Number of the trial.
            verdict: What became of it; its state must be final.
            metrics: Every metric that the trial finished with.
            trained_seconds: How long the script of the last attempt ran, if that is known.
            node: Node that the last attempt ran on, if there are several.
            seen: The trial as it was when that was judged; when it has come to another attempt,
                holder or loss since, by another runner, it goes on.
        """
        assert verdict.state is not None, "a trial between attempts cannot be told"
        end = {
            form.CAUSE: verdict.cause.value,
            form.MESSAGE: verdict.message,
            form.HINT: verdict.hint,
            form.CODE: verdict.code,
            form.METRICS: {k: v for k, v in (metrics or {}).items() if math.isfinite(v)},
            form.SECONDS: trained_seconds,
            form.NODE: node,
        }
        for _ in range(_MOST_TRIES):
            frozen = self._frozen()[number]
            if frozen.state.is_finished() or (seen is not None and _has_gone_on(frozen, seen)):
                break
            change = TrialChange(
                form.end_of_attempt(frozen.user_attrs, verdict.constraints, **end),
                {f"{form.CONSTRAINT}{name}": v for name, v in verdict.constraints.items()},
            )
            try:
                with self._storage.fenced(frozen, end=change):
                    self.optuna_study.tell(
                        number,
                        verdict.values,
                        state=form.OPTUNA_STATES[verdict.state],
                        skip_if_finished=True,
                    )
            except TrialTaken:
                _log.info("trial=%d was changed by another runner", number)
        return self.record(number)

    def _change(
        self,
        number: int,
        decide: Callable[[FrozenTrial], TrialChange | None],
        seen: TrialRecord | None = None,
    ) -> bool:
        """Write what is decided about a trial; return whether anything was.

        When another runner changes the trial between the look and the write, it is looked at again.

        Args:
            number: Number of the trial.
            decide: Returns what to write about a trial that is not finished, if anything.
            seen: The trial when its writer decided to write; once it has gone on, nothing is.
        """
        for _ in range(_MOST_TRIES):
            frozen = self._frozen()[number]
            if frozen.state.is_finished() or (seen is not None and _has_gone_on(frozen, seen)):
                return False
            change = decide(frozen)
            if change is None:
                return False
            expected = form.ownership(frozen.user_attrs)
            if self._storage.change_trial(frozen._trial_id, expected, change):
                return True
        return False

    def _follow_stream(self, number: int) -> None:
        """Start the sampler's random numbers anew when another runner asked for trials between.

        Both runners began with the same seed: without this, each draws what the other has drawn.
        """
        if number != self._next_number and self._renew_sampler is not None:
            self.optuna_study.sampler = self._renew_sampler(number)
            self._next_number = number

    def _count_begun(self) -> int:
        """Return how many trials are more than an enqueued point: the next one's number."""
        return sum(frozen.state is not OptunaState.WAITING for frozen in self._frozen())

    def _rank(self, number: int) -> int:
        """Return how many trials before this one count or run."""
        return sum(
            record.state is TrialState.RUNNING or is_counted(record)
            for record in self.records()[:number]
        )

    def _enqueue(self) -> None:
        """Queue the points to try first that no trial stands for.

        A cancelled trial does not: its point was never evaluated.
        """
        known = [
            frozen.system_attrs.get(form.POINT, frozen.params)
            for frozen in self._frozen()
            if not _is_cancelled(frozen)
        ]
        for given in self.spec.enqueue:
            point = self._space.on_grid(given)
            if not any(_is_same_point(point, self._space.on_grid(other)) for other in known):
                self.optuna_study.enqueue_trial(point)
                known.append(point)

    def _to_record(self, frozen: FrozenTrial) -> TrialRecord:
        return form.to_record(frozen, self.spec.fixed)

    def _frozen(self) -> list[FrozenTrial]:
        """Return all trials with whatever is stored of them."""
        return self._storage.stored_trials(self.optuna_study._study_id)


def spec_to_keep(own: StudySpec, other: StudySpec | None, n_used: int) -> StudySpec:
    """Return a run's study file as the study keeps it: with limits that hold for all its trials.

    Args:
        own: The run's study file, with the run's own numbers.
        other: The one that another run at work was started by; `None` when this run is alone.
        n_used: Trials that are finished and count, or run: the budget is no smaller.
    """
    budgets = [own.budget] if other is None else [own.budget, other.budget]
    limits = {
        "n_trials": max(n_used, *(budget.n_trials for budget in budgets)),
        "max_parallel_trials": max(budget.max_parallel_trials for budget in budgets),
    }
    if limits == {name: getattr(own.budget, name) for name in limits}:
        return own
    document = own.model_dump(mode="json", exclude_unset=True)
    document["budget"] |= limits
    return StudySpec.from_mapping(document)


def _covers(kept: StudySpec, own: StudySpec) -> bool:
    """Return whether the limits of a kept study file allow what a run may do."""
    return (
        kept.budget.n_trials >= own.budget.n_trials
        and kept.budget.max_parallel_trials >= own.budget.max_parallel_trials
    )


def seed_of(spec: StudySpec, study: optuna.Study) -> int:
    """Return the seed of a stored study's sampler: the file's, or the one drawn when it began."""
    seed = spec.sampler.seed
    return int(study.user_attrs.get(form.SEED, 0) if seed is None else seed)


def _has_gone_on(frozen: FrozenTrial, seen: TrialRecord) -> bool:
    """Return whether a trial has another attempt, holder or loss than a record of it."""
    now = form.to_record(frozen)
    return (now.attempt, now.holder, now.lost_attempts) != (
        seen.attempt,
        seen.holder,
        seen.lost_attempts,
    )


def _is_cancelled(frozen: FrozenTrial) -> bool:
    return frozen.state.is_finished() and frozen.user_attrs.get(form.CAUSE) == Cause.CANCELLED


def _is_same_point(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    # `True` equals 1 in Python, yet they are two choices; a float written as 1 comes back as 1.0.
    return a.keys() == b.keys() and all(
        isinstance(value, bool) is isinstance(b[name], bool) and value == b[name]
        for name, value in a.items()
    )


def study_names(storage: optuna.storages.BaseStorage) -> tuple[str, ...]:
    """Return the names of all studies in a storage, in alphabetical order."""
    return tuple(sorted(optuna.get_all_study_names(storage)))


def find_study(name: str, storage: optuna.storages.BaseStorage) -> optuna.Study:
    """Return a stored study, for reading.

    Raises:
        StudyNotFound: There is none of that name; the message names those there are.
    """
    try:
        return optuna.load_study(
            study_name=name, storage=AttemptStorage(storage), sampler=_no_sampler()
        )
    except KeyError:
        known = ", ".join(study_names(storage)) or "none yet"
        raise StudyNotFound(
            f"There is no study named {name!r} in this storage (there are: {known}).",
            hint="name one of them, or a study file, or set STUDYFLOW_STORAGE or STUDYFLOW_HOME.",
        ) from None


def is_paused(study: optuna.Study) -> bool:
    """Return whether a stored study is paused."""
    return bool(study.user_attrs.get(form.PAUSED, False))


def set_paused(study: optuna.Study, paused: bool) -> None:
    """Pause a stored study or resume it: every runner sees it in its next turn."""
    study.set_user_attr(form.PAUSED, paused)


def load_beats(study: optuna.Study) -> Mapping[str, Mapping[str, Any]]:
    """Return the newest beat of every site that ever worked on a stored study.

    See `studyflow.study.heartbeat` for what is in it.
    """
    return _beats_in(study.user_attrs)


def _beats_in(attrs: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return {
        key.removeprefix(form.BEAT): beat
        for key, beat in attrs.items()
        if key.startswith(form.BEAT)
    }


def load_records(study: optuna.Study) -> tuple[StudySpec | None, tuple[TrialRecord, ...]]:
    """Return the study file that a stored study last ran with, and its trials.

    The file is `None` for a study that studyflow did not make, or made by other rules.
    """
    text = study.user_attrs.get(form.SPEC)
    spec = None if text is None else find_problems(text)[0]
    fixed = {} if spec is None else spec.fixed
    return spec, tuple(form.to_record(frozen, fixed) for frozen in _stored_trials(study))


def _stored_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return all trials with whatever is stored of them."""
    if isinstance(study._storage, AttemptStorage):
        return study._storage.stored_trials(study._study_id)
    return study.get_trials(deepcopy=False)


def _no_sampler() -> optuna.samplers.BaseSampler:
    """Return a sampler that costs nothing to make; the study is only read."""
    return optuna.samplers.RandomSampler()


def check_format(study: optuna.Study) -> None:
    """Return if this studyflow may go on with a stored study.

    Raises:
        StudyError: A later studyflow has written it in a format that is not known here.
    """
    stored = study.user_attrs.get(form.FORMAT, form.FORMAT_NUMBER)
    if not isinstance(stored, int) or stored > form.FORMAT_NUMBER:
        raise StudyError(
            f"The study {study.study_name!r} is stored in format {stored!r}, and this studyflow "
            f"writes format {form.FORMAT_NUMBER}: a later one has worked on it.",
            hint="go on with the later studyflow, or start a new study under another name.",
        )


def check_identity(spec: StudySpec, study: optuna.Study) -> None:
    """Return if a study file may go on with a stored study; a new one is marked as its.

    Raises:
        StudyMismatch: It has other objectives or another search space.
    """
    stored = study.user_attrs.get(form.IDENTITY)
    if stored is None:
        # Just created, here or by a runner that died at once; or another program's study.
        directions = [direction.name.lower() for direction in study.directions]
        differences = describe_differences(
            {"directions": directions}, {"directions": list(spec.directions)}
        )
    else:
        differences = describe_differences(stored, spec.identity())
    if stored is None and not differences:
        study.set_user_attr(form.IDENTITY, spec.identity())
    if differences:
        old = [] if stored is None else [o["metric"] for o in stored["objectives"]]
        can_fork = old == [objective.metric for objective in spec.objectives]
        raise StudyMismatch(
            f"The study {spec.name!r} exists and differs from the study file in what makes its "
            "trials comparable:",
            differences=differences,
            hint="undo the change, or start a new study that takes over the trials that fit: "
            f"--fork NEW-NAME (its old trials stay in {spec.name!r})."
            if can_fork
            else f"undo the change, or give the study file another name: the trials of "
            f"{spec.name!r} have other metrics, so none could be taken over.",
        )


def _may_take_over(study: optuna.Study) -> bool:
    """Return whether a study is new, or its runner was killed while it took over trials."""
    trials = study.get_trials(deepcopy=False)
    return form.FORKED_FROM not in study.user_attrs and all(
        form.TAKEN_OVER in trial.user_attrs for trial in trials
    )


def _take_over(spec: StudySpec, source: optuna.Study, target: optuna.Study) -> None:
    """Copy the finished trials of another study that are points of this one's search space."""
    space, old = spec.space, load_records(source)[0]
    if old is not None and [o.metric for o in old.objectives] != [
        o.metric for o in spec.objectives
    ]:
        _log.warning("Took over no trial of %s: it has other objectives", source.study_name)
        return
    taken, there = 0, len(target.get_trials(deepcopy=False))
    trials = source.get_trials(deepcopy=False)
    for frozen in trials:
        params = space.on_grid({n: v for n, v in frozen.params.items() if n in space})
        attrs = {k: v for k, v in frozen.user_attrs.items() if k != form.RUN_ID}  # its old run
        fits = frozen.state.is_finished() and not space.problems(params)
        if not fits or _is_cancelled(frozen):
            continue
        point = frozen.system_attrs.get(form.POINT)
        taken += 1
        if taken > there:  # the others were copied before a crash, in this same order
            target.add_trial(
                optuna.trial.create_trial(
                    state=frozen.state,
                    params=params,
                    distributions={name: space[name].distribution() for name in params},
                    values=frozen.values,
                    intermediate_values=frozen.intermediate_values,
                    user_attrs={**attrs, form.TAKEN_OVER: source.study_name},
                    system_attrs={} if point is None else {form.POINT: point},
                    constraints=frozen.constraints or None,
                )
            )
    target.set_user_attr(form.FORKED_FROM, source.study_name)
    _log.info("Took over %d of %d trials of %s", taken, len(trials), source.study_name)
