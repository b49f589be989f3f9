"""What is kept with a study and not with one of its trials: notices, limits, seed and image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from studyflow.spec import LIMITS, StudySpec, find_problems, moment_of
from studyflow.study import storage_form as form


@dataclass(frozen=True, slots=True)
class Notices:
    """What people and runners have left with a study for its runners."""

    is_paused: bool
    """Whether no trial may start for now."""
    beats: Mapping[str, Mapping[str, Any]]
    """The newest heartbeat of every site that ever worked on the study."""
    resets: Mapping[str, int]
    """By node, how many of its failures no longer count."""


class StudyAttributes:
    """Reads and writes a stored study's own attributes.

    Args:
        spec: The study file of this run.
        optuna_study: The stored study.
    """

    def __init__(self, spec: StudySpec, optuna_study: optuna.Study) -> None:
        self._spec = spec
        self._study = optuna_study
        self._kept: tuple[str, StudySpec | None] = ("", None)
        """The study file that was read last, as text and typed."""
        self._noticed: Mapping[str, Any] = {}
        """The study's attributes as `notices` read them last."""
        self._finish_at: float | None = None
        """When this run's study file has the study finished; `None` before that was asked."""

    def notices(self) -> Notices:
        """Return what people and runners have left with the study, by one read."""
        attrs = self._noticed = self._study.user_attrs
        return Notices(
            is_paused=bool(attrs.get(form.PAUSED, False)),
            beats=_beats_in(attrs),
            resets=dict(attrs.get(form.RESETS, {})),
        )

    def kept_spec(self) -> StudySpec:
        """Return the study file that trials were last started by, by whichever run."""
        return self._kept_in(self._study.user_attrs)

    def _kept_in(self, attrs: Mapping[str, Any]) -> StudySpec:
        text = attrs.get(form.SPEC)
        if text is not None and text != self._kept[0]:  # each launch asks, and reading takes long
            self._kept = text, find_problems(text)[0]
        return (None if text is None else self._kept[1]) or self._spec

    def keep_spec(self, n_used: int, *, is_shared: bool, is_new: bool) -> StudySpec | None:
        """Keep this run's study file; see `Study.keep_spec`.

        Args:
            n_used: Trials that are finished and count, or run.
            is_shared: Whether other runs may be at work.
            is_new: Whether this run has not kept it before; if it has, the study's attributes are
                read again only where another run had lowered a limit at the last look at notices.
        """
        if not is_new and self._noticed and _covers(self._kept_in(self._noticed), self._spec):
            return None
        kept = self.kept_spec()
        if not is_new and _covers(kept, self._spec):
            return None
        wanted = spec_to_keep(self._spec, kept if is_shared else None, n_used)
        text = wanted.to_yaml()
        if text == self._study.user_attrs.get(form.SPEC):
            return None
        self._study.set_user_attr(form.SPEC, text)
        return wanted

    def finish_at(self, now: float) -> float | None:
        """Return when the study is to be finished; see `Study.finish_at`."""
        text = self._spec.budget.finish_by
        if text is None:
            return None
        if self._finish_at is None:
            known, moment = self._study.user_attrs.get(form.FINISH_BY, (None, None))
            if known != text:
                moment = moment_of(text, now)
                self._study.set_user_attr(form.FINISH_BY, [text, moment])
            self._finish_at = float(moment)  # also when another run writes its own text there
        return self._finish_at

    def pinned_image(self) -> str | None:
        """Return the study file's image by its digest; `None` while it is not known."""
        image, pinned = self._study.user_attrs.get(form.IMAGE, (None, None))
        return pinned if image == self._spec.trial.image else None

    def pin_image(self, pinned: str) -> None:
        """Keep the study file's image by its digest."""
        self._study.set_user_attr(form.IMAGE, [self._spec.trial.image, pinned])

    def reset_node_failures(self, failures: Mapping[str, int]) -> Mapping[str, int]:
        """Keep how many failures of each node no longer count; return that of all nodes."""
        known = self.notices().resets
        merged = {**known, **{node: max(n, known.get(node, 0)) for node, n in failures.items()}}
        if merged != known:
            self._study.set_user_attr(form.RESETS, merged)
        return merged


def spec_to_keep(own: StudySpec, other: StudySpec | None, n_used: int) -> StudySpec:
    """Return a run's study file as the study keeps it: with limits that hold for all its trials.

    Args:
        own: The run's study file, with the run's own numbers.
        other: The one that another run at work was started by; `None` when this run is alone.
        n_used: Trials that are finished and count, or run: the budget is no smaller.
    """
    budgets = [own.budget] if other is None else [own.budget, other.budget]
    numbers = [budget.n_trials for budget in budgets]
    given = [number for number in numbers if number is not None]
    limits = {
        "n_trials": max(n_used, *given) if len(given) == len(numbers) else None,
        "max_parallel_trials": max(budget.max_parallel_trials for budget in budgets),
    }
    if limits == {name: getattr(own.budget, name) for name in limits}:
        return own
    if other is not None and own.budget.n_trials is not None and limits["n_trials"] is None:
        # The limits that the other run has instead bound the study now.
        limits |= {
            name: getattr(other.budget, name)
            for name in LIMITS
            if getattr(own.budget, name) is None
        }
    document = own.model_dump(mode="json", exclude_unset=True)
    document["budget"] |= limits
    return StudySpec.from_mapping(document)


def _covers(kept: StudySpec, own: StudySpec) -> bool:
    """Return whether the limits of a kept study file allow what a run may do."""
    kept_trials, own_trials = kept.budget.n_trials, own.budget.n_trials
    has_trials = kept_trials is None or (own_trials is not None and kept_trials >= own_trials)
    return has_trials and kept.budget.max_parallel_trials >= own.budget.max_parallel_trials


def seed_of(spec: StudySpec, study: optuna.Study) -> int:
    """Return the seed of a stored study's sampler: the file's, or the one drawn when it began."""
    seed = spec.sampler.seed
    return int(study.user_attrs.get(form.SEED, 0) if seed is None else seed)


def kept_finish_at(spec: StudySpec, study: optuna.Study) -> float | None:
    """Return when a stored study is to be finished; `None` without a limit, or before any run.

    That is the time of the run that asked last: each run of a deployment has its own, and one that
    starts no trial leaves the study file as the run before it had it.

    Args:
        spec: The study file that its trials were last started by.
        study: The stored study.
    """
    if spec.budget.finish_by is None:
        return None
    _, moment = study.user_attrs.get(form.FINISH_BY, (None, None))
    return None if moment is None else float(moment)


def coming_finish_at(spec: StudySpec, study: optuna.Study | None, now: float) -> float | None:
    """Return when the next run has a study finished; `None` without a limit.

    Args:
        spec: The study file of that run.
        study: The stored study, which keeps the moment of a run with the same text; `None` before.
        now: Seconds since the epoch.
    """
    text = spec.budget.finish_by
    if text is None:
        return None
    attrs = {} if study is None else study.user_attrs
    known, moment = attrs.get(form.FINISH_BY, (None, None))
    return float(moment) if known == text else moment_of(text, now)


def is_paused(study: optuna.Study) -> bool:
    """Return whether a stored study is paused."""
    return bool(study.user_attrs.get(form.PAUSED, False))


def set_paused(study: optuna.Study, paused: bool) -> None:
    """Pause a stored study or resume it: every runner sees it in its next turn."""
    study.set_user_attr(form.PAUSED, paused)


def load_beats(study: optuna.Study) -> Mapping[str, Mapping[str, Any]]:
    """Return the newest heartbeat of every site that ever worked on a stored study.

    See `studyflow.study.heartbeat` for what is in it.
    """
    return _beats_in(study.user_attrs)


def _beats_in(attrs: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return {
        key.removeprefix(form.BEAT): beat
        for key, beat in attrs.items()
        if key.startswith(form.BEAT)
    }
