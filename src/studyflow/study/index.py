"""All trials of a study and what follows from them, kept up to date by each read of the storage.

A finished trial never changes, and a storage gives a new object after each write. So a read costs
what has changed, not what has ever run.
"""

from __future__ import annotations

import operator
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import compress, count

from optuna.trial import FrozenTrial

from studyflow.ledger.durations import Sample, sample_of
from studyflow.ledger.limits import Recorded
from studyflow.ledger.rows import rows_of
from studyflow.spec import StudySpec
from studyflow.study import storage_form as form
from studyflow.study.attempt_storage import StoredTrials
from studyflow.study.budget import by_end, is_counted, n_trials_to_finish, uses_budget
from studyflow.study.canary import proven_seconds
from studyflow.study.curve import last_step_reported
from studyflow.study.first_failures import first_failures, is_success
from studyflow.study.front import Front
from studyflow.study.given_back import as_given_back
from studyflow.study.nodes import NodeFailures, NodeRecord
from studyflow.study.stop_rules import StopReason, StopRules
from studyflow.trial.record import TrialRecord, TrialState


class TrialIndex:
    """All trials as the last read of the storage found them; `refresh` reads again.

    Args:
        spec: The study.
        stored: The study's trials in the storage.
        given_back: Numbers of failed trials that use no budget any more.
    """

    def __init__(
        self, spec: StudySpec, stored: StoredTrials, given_back: Collection[int] = ()
    ) -> None:
        self._spec = spec
        self._stored = stored
        self._given_back = given_back
        self._has_success = False
        self._first_failures: list[TrialRecord] = []
        self._read_after = -1
        """How many writes there had been before the last read."""
        self._given: list[FrozenTrial] = []
        """What the storage gave last."""
        self._records: list[TrialRecord] = []
        self._all: tuple[TrialRecord, ...] | None = ()
        self._all_running: tuple[TrialRecord, ...] | None = ()
        """The same, and those that run, as tuples by number; `None` once that is outdated."""
        self._run_ids: dict[int, str] = {}
        """By trial that runs, its run in MLflow, as noted here."""
        self.n_changes = 0
        """How often a read has found that a trial was made or had changed."""
        self._running: dict[int, TrialRecord] = {}
        self._repeated: set[int] = set()
        """Running trials of which an attempt has ended."""
        self._waiting: set[int] = set()
        self._n_trials = n_trials_to_finish(spec)
        self._counted: Counter[TrialState] = Counter()
        self._n_taken_over = 0
        self._last_step: int | None = None
        self._proven_seconds = 0.0
        self._best = Front(spec.directions)
        self._rules = StopRules(spec)
        self._nodes = NodeFailures(spec)
        self._recorded = Recorded()
        self._samples: list[Sample] = []

    def refresh(self) -> TrialIndex:
        """Read the storage, take in what has changed, and return this index."""
        return self._refresh(self._stored.read)

    def current(self) -> TrialIndex:
        """Return this index, read again only as far as this runner has written since.

        What other runners have written meanwhile may be missing: good for what the next write
        checks, as every write does that they could have made void.
        """
        return self if self._read_after == self._stored.n_writes else self._refresh_written()

    def renewed(self, number: int) -> TrialIndex:
        """Return the same, and one trial as the storage has it now.

        Args:
            number: Number of the trial.
        """
        if number >= len(self._given):
            return self._refresh_written()  # which finds new trials
        return self._refresh_written(self._given[number]._trial_id)

    def _refresh_written(self, *trial_ids: int) -> TrialIndex:
        return self._refresh(lambda: self._stored.read_written(trial_ids))

    def _refresh(self, read: Callable[[], list[FrozenTrial]]) -> TrialIndex:
        n_writes = self._stored.n_writes
        given = read()
        changed = [
            number
            for number in compress(count(), map(operator.is_not, given, self._given))
            if not self._records[number].state.is_finished
        ]
        numbers = [*changed, *range(len(self._given), len(given))]
        renewed = [self._to_record(given[number]) for number in numbers]
        self._given, self._read_after = given, n_writes
        for record in renewed:
            self._replace(record)
        for record in sorted((r for r in renewed if r.state.is_finished), key=by_end):
            self._finish(record)
        return self

    def note_run_id(self, number: int, run_id: str) -> None:
        """Show which MLflow run a trial has, before that is stored: its next write stores it."""
        self._run_ids[number] = run_id
        record = self._records[number]
        if not record.state.is_finished:
            self._replace(replace(record, run_id=run_id))

    def run_id(self, number: int) -> str | None:
        """Return a trial's run in MLflow that may not be stored yet; `None` if there is none."""
        return self._run_ids.get(number)

    def _to_record(self, frozen: FrozenTrial) -> TrialRecord:
        record = as_given_back(form.to_record(frozen, self._spec.fixed), self._given_back)
        noted = self._run_ids.get(record.number)
        if record.state.is_finished:
            self._run_ids.pop(record.number, None)
        elif noted is not None:
            return replace(record, run_id=noted)
        return record

    def _replace(self, record: TrialRecord) -> None:
        """Take in a trial as it is now."""
        self.n_changes += 1
        number, n_lost_before = record.number, 0
        if number < len(self._records):
            n_lost_before = len(self._records[number].lost_attempts)
            self._records[number] = record
        else:
            self._records.append(record)
        self._all = self._all_running = None
        self._proven_seconds = max(self._proven_seconds, proven_seconds(record))
        for lost in record.lost_attempts[n_lost_before:]:
            self._nodes.add_lost(number, lost)
        self._has_success = self._has_success or is_success(record)
        self._running.pop(number, None)
        self._repeated.discard(number)
        self._waiting.discard(number)
        if record.state is TrialState.RUNNING:
            self._running[number] = record
            if record.attempt > 1 or record.costs:
                self._repeated.add(number)
        elif record.state is TrialState.WAITING:
            self._waiting.add(number)

    def _finish(self, record: TrialRecord) -> None:
        """Take in that a trial has come to its end."""
        self._best.add(record)
        self._n_taken_over += record.is_taken_over
        self._recorded.add(rows_of(record, self._spec.trial.resources.gpu))
        if (sample := sample_of(record)) is not None:
            self._samples.append(sample)
        if record.is_first_failure:
            self._first_failures.append(record)
        steps = (self._last_step, last_step_reported([record]))
        self._last_step = max((step for step in steps if step is not None), default=None)
        if is_counted(record):
            self._counted[record.state] += 1
            self._rules.add(record)
        if is_counted(record) or record.is_first_failure:
            self._nodes.add_finished(record)

    @property
    def records(self) -> tuple[TrialRecord, ...]:
        """Every trial, by number. A turn of the loop needs the properties below, not this."""
        if self._all is None:
            self._all = tuple(self._records)
        return self._all

    def record(self, number: int) -> TrialRecord:
        """Return one trial.

        Raises:
            IndexError: There is no trial of that number.
        """
        return self._records[number]

    def frozen(self, number: int) -> FrozenTrial:
        """Return one trial as the storage gave it.

        Raises:
            IndexError: There is no trial of that number.
        """
        return self._given[number]

    @property
    def frozen_trials(self) -> Sequence[FrozenTrial]:
        """Every trial as the storage gave it, by number."""
        return self._given

    @property
    def running(self) -> tuple[TrialRecord, ...]:
        """The trials that were asked for and not told, by number."""
        if self._all_running is None:
            self._all_running = tuple(self._running[number] for number in sorted(self._running))
        return self._all_running

    @property
    def n_running(self) -> int:
        """How many trials were asked for and not told."""
        return len(self._running)

    @property
    def n_trials(self) -> int | None:
        """How many trials the study is to finish; `None` for as many as another limit allows."""
        return self._n_trials

    @property
    def n_counted(self) -> int:
        """How many finished trials count towards the budget."""
        return self._counted.total()

    def n_counted_as(self, state: TrialState) -> int:
        """Return how many of them are in a state."""
        return self._counted[state]

    @property
    def n_used(self) -> int:
        """How many trials count towards the budget, or run."""
        return self.n_counted + len(self._running)

    @property
    def room(self) -> int:
        """How many trials may still be asked for by `n_trials`; those that run use up budget."""
        return sys.maxsize if self._n_trials is None else max(self._n_trials - self.n_used, 0)

    @property
    def n_begun(self) -> int:
        """How many trials are more than an enqueued point: the next one's number."""
        return len(self._records) - len(self._waiting)

    @property
    def has_queue(self) -> bool:
        """Whether enqueued points wait to be tried."""
        return bool(self._waiting)

    @property
    def n_taken_over(self) -> int:
        """How many trials were copied from another study."""
        return self._n_taken_over

    @property
    def best(self) -> tuple[TrialRecord, ...]:
        """The best trial, or the Pareto front of several objectives; empty without any."""
        return self._best.records

    @property
    def last_step(self) -> int | None:
        """The highest step that a complete trial has reported; `None` before the first."""
        return self._last_step

    @property
    def proven_seconds(self) -> float:
        """For how long a trial has shown that the study's script runs; see `Canary`."""
        return self._proven_seconds

    @property
    def recorded(self) -> Recorded:
        """What the ended attempts of all trials cost."""
        total = self._recorded.copy()
        for number in sorted(self._repeated):  # in another order the sum may be another one
            total.add(rows_of(self._records[number], self._spec.trial.resources.gpu))
        return total

    @property
    def samples(self) -> Sequence[Sample]:
        """What finished trials say of how long one takes, in the order in which they were seen."""
        return self._samples

    @property
    def has_success(self) -> bool:
        """Whether a trial has shown that the study's script works to its end."""
        return self._has_success

    def first_failures(self, finished_before: Collection[int]) -> tuple[TrialRecord, ...]:
        """Return the free failures before any success; see `first_failures.first_failures`."""
        return () if self._has_success else first_failures(self._first_failures, finished_before)

    @property
    def surplus(self) -> frozenset[int]:
        """The trials that were asked for, have not begun, and find no room in the budget.

        Of two runners that asked at once one was second; see `studyflow.study.suggestions`.
        """
        limit = self._n_trials
        if limit is None or self.n_used <= limit:
            return frozenset()
        waiting = (n for n, r in self._running.items() if not (r.has_attempt or r.is_paused))
        return frozenset(n for n in waiting if self.rank(n) >= limit)

    def rank(self, number: int) -> int:
        """Return how many trials before this one count or run."""
        return self.n_used - sum(map(uses_budget, self._records[number:]))

    def stop_reason(
        self, finished_before: Collection[int] = (), barred_nodes: Collection[str] = ()
    ) -> StopReason | None:
        """Return why no further trial should be started, or `None` to go on.

        Args:
            finished_before: See `StopRules.reason`.
            barred_nodes: See `StopRules.reason`.
        """
        return self._rules.reason(finished_before, barred_nodes)

    def judge_nodes(
        self, resets: Mapping[str, int], nodes_in_use: Collection[str] = ()
    ) -> tuple[NodeRecord, ...]:
        """Return the nodes that have failed the study, by name.

        Args:
            resets: By node, how many of its failures no longer count.
            nodes_in_use: Nodes on which attempts of the study run now.
        """
        return self._nodes.judge(resets, nodes_in_use)
