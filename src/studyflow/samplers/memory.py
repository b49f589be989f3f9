"""What a sampler keeps between two suggestions, so that the second one costs less.

Nothing here decides anything: a suggestion is the same with a new memory as with a used one. Every
entry is found by all that it was computed from.
"""

from __future__ import annotations

import hashlib
import operator
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

import numpy as np
from optuna.trial import FrozenTrial

from studyflow.samplers.arrays import FloatArray

T = TypeVar("T")

N_FITS: Final = 32
"""Fits that are kept: a few models of each objective and constraint, some numbers each."""

N_FACTORS: Final = 6
"""Matrices that are kept: up to 20 MB each, at `MAX_MODEL_POINTS` points."""

N_HISTORIES: Final = 2
"""Readings of finished trials that are kept: of all, and of those that models are learnt from."""


class Kept(Generic[T]):
    """Results by what they were computed from; those used longest ago are dropped.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._results: OrderedDict[Hashable, T] = OrderedDict()
        self.n_computed = 0
        """How many results were not there and had to be computed."""

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the result of a key, computed if it is not there; an error is not kept."""
        if key not in self._results:
            self.n_computed += 1
            self._results[key] = compute()
            while len(self._results) > self._size:
                self._results.popitem(last=False)
        self._results.move_to_end(key)
        return self._results[key]


@dataclass
class Memory:
    """What one sampler keeps. Not thread-safe: one suggestion at a time uses it."""

    fits: Kept[Any] = field(default_factory=lambda: Kept(N_FITS))
    """Hyperparameters, by the data, the structure and the bounds they were fitted with."""
    factors: Kept[FloatArray] = field(default_factory=lambda: Kept(N_FACTORS))
    """Cholesky factors, by points, noise and hyperparameters."""
    histories: HistoryMemory = field(default_factory=lambda: HistoryMemory())


class HistoryMemory:
    """What is kept of finished trials, which never change.

    A trial is known again by its object, so that a sampler may serve several studies.
    """

    def __init__(self) -> None:
        self._dimensions: Hashable = None
        self._codes: dict[int, tuple[FrozenTrial, FloatArray]] = {}
        """By number: the trial, and its codes."""
        self._histories: list[tuple[Sequence[FrozenTrial], object, Any]] = []
        """Trials, what else they were read by, and what was read; the newest is the last."""

    def codes(
        self,
        trials: Sequence[FrozenTrial],
        dimensions: Hashable,
        encode: Callable[[Sequence[FrozenTrial]], FloatArray],
    ) -> list[FloatArray]:
        """Return the codes of each trial, `d`.

        Args:
            trials: Finished.
            dimensions: Those of the space; kept codes are of one space.
            encode: Returns the codes of trials that are not known yet, `n x d`.
        """
        if self._dimensions != dimensions:
            self._dimensions, self._codes = dimensions, {}
        new = [trial for trial in trials if not self._knows(trial)]
        if new:
            found = encode(new)
            self._codes.update({t.number: (t, c) for t, c in zip(new, found, strict=True)})
        return [self._codes[trial.number][1] for trial in trials]

    def history(self, trials: Sequence[FrozenTrial], by: object, read: Callable[[], T]) -> T:
        """Return what was read of exactly these trials, or read it.

        Args:
            trials: Finished.
            by: What it depends on besides.
            read: Reads it.
        """
        for known, known_by, history in self._histories:
            is_same = len(known) == len(trials) and all(map(operator.is_, known, trials))
            if is_same and known_by == by:
                return cast(T, history)
        history = read()
        self._histories = [*self._histories[1 - N_HISTORIES :], (trials, by, history)]
        return history

    def _knows(self, trial: FrozenTrial) -> bool:
        known = self._codes.get(trial.number)
        return known is not None and known[0] is trial


def content_key(*parts: Any) -> Hashable:
    """Return a key of values and arrays: equal if and only if all of them are, to the last bit."""
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(repr((part.shape, part.dtype.str)).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.digest()
