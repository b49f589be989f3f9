"""A runner that goes on with a study of many finished trials: what it reads, and its first turn.

The peer is plain Optuna that loads the study and asks for a trial.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from benchmarks.control_plane.loop import SPACE, Loop, filled
from benchmarks.control_plane.measures import Row, cpu_ms

from studyflow.storage import ForwardingStorage, open_storage


class Calls(ForwardingStorage):
    """Counts the reads of all trials."""

    def __init__(self, storage: optuna.storages.BaseStorage) -> None:
        super().__init__(storage)
        self.counts: Counter[str] = Counter()

    def _pass(self, method: str, call: Callable[[], Any]) -> Any:
        self.counts[method] += 1
        return call()


def measure(url: str, n: int) -> Iterator[Row]:
    filled(open_storage(url), n)
    kind = url.partition(":")[0]
    calls: list[Calls] = []

    def resume() -> None:
        calls.append(Calls(open_storage(url)))
        Loop(calls[-1], n, 10).turn()

    def optuna_alone() -> None:
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.load_study(study_name="loop", storage=open_storage(url), sampler=sampler)
        study.ask(dict(SPACE))
        study.get_trials(deepcopy=False)

    peer = cpu_ms(optuna_alone) / 1000
    ours = cpu_ms(resume) / 1000
    what = f"{kind}, {n:,} finished trials"
    yield Row(f"{what}: opened, and ten trials begun", ours, "s CPU", peer, "Optuna, one trial")
    yield Row(f"{what}: reads of the trials", calls[-1].counts["get_all_trials"], "reads")


def rows(*, is_quick: bool) -> Iterator[Row]:
    n = 100 if is_quick else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from measure(f"sqlite:///{folder / 'studies.db'}", n)
        yield from measure(f"journal:///{folder / 'studies.journal'}", n)
