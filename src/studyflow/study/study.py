"""`Study`: what the runner asks and tells, on top of an `optuna.Study`.

The storage is the single source of truth. Every method here can be repeated after a crash: an end
is one write, so a trial is either still running, and everything about it is done again, or
finished, and nothing is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import optuna

from studyflow.spec import StudySpec
from studyflow.study import storage_form as form
from studyflow.study.attempt_storage import AttemptStorage, StoredTrials
from studyflow.study.attributes import Notices, StudyAttributes, seed_of
from studyflow.study.forking import may_take_over, take_over
from studyflow.study.given_back import given_back_in
from studyflow.study.identity import check_format, check_identity
from studyflow.study.index import TrialIndex
from studyflow.study.stored import find_study
from studyflow.study.suggestions import Ahead, Suggestions
from studyflow.study.trial_writes import TrialWrites
from studyflow.trial.cost import Begin
from studyflow.trial.record import TrialRecord

SamplerFactory = Callable[[int, int], optuna.samplers.BaseSampler]
"""Makes the sampler from a seed and the number of trials that the study has already."""


class Study(TrialWrites):
    """A study that exists in a storage: its trials, and the writes of each. Made by `Study.open`.

    Not thread-safe: one thread of one runner uses one object.

    Args:
        spec: The study file.
        optuna_study: The stored study; its sampler and pruner do the suggesting and pruning.
        storage: Where it is: the same that `optuna_study` reads and writes.
        renew_sampler: Makes the sampler anew for a trial's number; `None` to keep it.
        ahead: Has suggestions made while trials run; `None` for none.
    """

    def __init__(
        self,
        spec: StudySpec,
        optuna_study: optuna.Study,
        storage: AttemptStorage,
        renew_sampler: Callable[[int], optuna.samplers.BaseSampler] | None = None,
        ahead: Ahead | None = None,
    ) -> None:
        index = TrialIndex(
            spec,
            StoredTrials(storage, optuna_study._study_id),
            given_back_in(optuna_study.user_attrs),
        )
        super().__init__(spec, optuna_study, storage, index)
        self._attributes = StudyAttributes(spec, optuna_study)
        writes = TrialWrites(spec, optuna_study, storage, index)
        self._suggestions = Suggestions(
            spec, optuna_study, storage, index, writes, renew_sampler, ahead
        )

    @classmethod
    def open(
        cls,
        spec: StudySpec,
        storage: optuna.storages.BaseStorage,
        *,
        make_sampler: SamplerFactory,
        pruner: optuna.pruners.BasePruner,
        fork_from: str | None = None,
        ahead: Ahead | None = None,
    ) -> Study:
        """Return the study of this name, created if it does not exist.

        Args:
            spec: The study file.
            storage: Where studies are kept.
            make_sampler: Makes the sampler.
            pruner: Decides which running trials are hopeless.
            fork_from: Name of a study whose finished trials a new study takes over, as far as they
                fit into its search space.
            ahead: Has suggestions made while trials run; `None` makes each when it is asked for.

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
        if form.FORMAT not in study.user_attrs:
            study.set_user_attr(form.FORMAT, form.FORMAT_NUMBER)
        if fork_from is not None and may_take_over(study):
            source = find_study(fork_from, storage)
            check_format(source)
            take_over(spec, source, study)
        if spec.sampler.seed is None and form.SEED not in study.user_attrs:
            study.set_user_attr(form.SEED, random.SystemRandom().randrange(2**32))
        kept_seed = seed_of(spec, study)
        study.sampler = make_sampler(kept_seed, len(study.get_trials(deepcopy=False)))
        opened = cls(spec, study, attempts, lambda number: make_sampler(kept_seed, number), ahead)
        opened._suggestions.enqueue()
        if form.SPEC not in study.user_attrs:
            study.set_user_attr(form.SPEC, spec.to_yaml())
        return opened

    @property
    def name(self) -> str:
        """The study's name."""
        return self.spec.name

    # ---- reading ----------------------------------------------------------------------------

    def trials(self) -> TrialIndex:
        """Return all trials and what follows from them, as the storage has them now.

        It is the same object each time, and changes with the next read of the storage.
        """
        return self._index.refresh()

    def known_trials(self) -> TrialIndex:
        """Return the same as of this runner's last read or write, whichever was later."""
        return self._index.current()

    def records(self) -> tuple[TrialRecord, ...]:
        """Return every trial, by number; each record is made once for each state of its trial."""
        return self.trials().records

    def record(self, number: int) -> TrialRecord:
        """Return one trial.

        Raises:
            IndexError: There is no trial of that number.
        """
        return self.trials().record(number)

    def running(self) -> tuple[TrialRecord, ...]:
        """Return the trials that were asked for and not told, by number."""
        return self.trials().running

    @property
    def n_trials(self) -> int | None:
        """How many trials the study is to finish; `None` for as many as another limit allows."""
        return self._index.n_trials

    def room(self) -> int:
        """Return how many trials may still be asked for; those that run use up budget."""
        return self.trials().room

    def notices(self) -> Notices:
        """Return what people and runners have left with the study, by one read."""
        return self._attributes.notices()

    # ---- asking -----------------------------------------------------------------------------

    def prepare(self, n_free: int, *, may_ask: bool) -> None:
        """Have suggestions made for the next trials, as far as that helps; returns at once.

        Nothing of them is stored: one that is not used leaves no trace.

        Args:
            n_free: How many slots wait for a trial.
            may_ask: Whether any further trial may be asked for.
        """
        self._suggestions.prepare(n_free, may_ask=may_ask)

    def await_suggestion(self, seconds: float) -> bool:
        """Return whether `ask` need not wait for the sampler, at the latest after some seconds."""
        return self._suggestions.await_suggestion(seconds)

    def ask(self, holder: str | None = None, first: Begin | None = None) -> TrialRecord | None:
        """Return a new running trial with all its parameters, or `None` when there is no room.

        Enqueued points come first, then the sampler's suggestions. A runner that took so long over
        one that another has taken its trial gets none.

        Args:
            holder: Site that will look after the trial.
            first: What is known of its first attempt, if that is launched next. Where no other
                runner can have taken the last slot, it is noted with the trial, by the same write;
                the record says so, and else `begin_attempt` follows.
        """
        return self._suggestions.ask(holder, first)

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
        return self._suggestions.complete(number, holder, seen)

    def withdraw_surplus(self, record: TrialRecord) -> None:
        """End one of `TrialIndex.surplus`, unless its runner has gone on with it."""
        self._suggestions.withdraw(record)

    # ---- the study's own attributes -----------------------------------------------------------

    def kept_spec(self) -> StudySpec:
        """Return the study file that trials were last started by, by whichever run."""
        return self._attributes.kept_spec()

    def keep_spec(self, *, is_shared: bool, is_new: bool = True) -> StudySpec | None:
        """Keep this run's study file as the one that trials are started by.

        Args:
            is_shared: Whether other runs may be at work, whose limits hold as well.
            is_new: Whether this run has not kept it before; later it only raises limits that
                another run has lowered.

        Returns:
            The study file as it is kept, if that has changed anything.
        """
        n_used = self.known_trials().n_used
        return self._attributes.keep_spec(n_used, is_shared=is_shared, is_new=is_new)

    def finish_at(self, now: float) -> float | None:
        """Return when the study is to be finished, in seconds since the epoch; `None` for never.

        A time of day is the next one when it is first asked for; all runs keep to that one until
        the study file has another text.

        Args:
            now: Seconds since the epoch.
        """
        return self._attributes.finish_at(now)

    def pinned_image(self) -> str | None:
        """Return the study file's image by its digest, once a trial has shown which it is.

        An image that was changed in the study file since is not pinned yet.
        """
        return self._attributes.pinned_image()

    def pin_image(self, pinned: str) -> None:
        """Keep the study file's image by its digest: all trials run the same one."""
        self._attributes.pin_image(pinned)

    def reset_node_failures(self, failures: Mapping[str, int]) -> Mapping[str, int]:
        """Let so many failures of each node count no longer: no other node has room.

        Returns:
            How many no longer count, for all nodes.
        """
        return self._attributes.reset_node_failures(failures)
