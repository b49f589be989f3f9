"""Which nodes the study keeps away from, as one turn of the loop found it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from studyflow.executors import AttemptState, AttemptStatus
from studyflow.observers.observer import Observer
from studyflow.study import NodeRecord, Study, judge_nodes, nodes_to_avoid
from studyflow.trial.record import TrialRecord
from studyflow.tuner.progress import Notes


class Nodes:
    """What the study has against nodes. See `studyflow.study.nodes` for how they are judged.

    Args:
        study: The study.
        observer: Told when a node is used again.
        notes: Told of the nodes that no trial goes to.
    """

    def __init__(self, study: Study, observer: Observer, notes: Notes) -> None:
        self._study = study
        self._observer = observer
        self._notes = notes
        self._known: tuple[NodeRecord, ...] = ()
        self._resets: Mapping[str, int] = {}

    def take_resets(self, resets: Mapping[str, int]) -> None:
        """Take in how many failures of each node no longer count, as the storage has it."""
        self._resets = resets

    def judge(self, statuses: Iterable[AttemptStatus]) -> None:
        """Find out which nodes to keep away from, and tell which no trial goes to any more."""
        running = [s for s in statuses if s.state is AttemptState.RUNNING]
        self._known = judge_nodes(
            self._study.spec,
            self._study.records(),
            self._resets,
            nodes_in_use={status.node for status in running if status.node is not None},
        )
        for known in self._known:
            if known.is_barred:
                self._notes.add(known.message)

    @property
    def barred(self) -> frozenset[str]:
        """The nodes that no trial goes to."""
        return frozenset(known.node for known in self._known if known.is_barred)

    def to_avoid(self, record: TrialRecord) -> tuple[str, ...]:
        """Return the nodes that a trial's next attempt avoids."""
        return nodes_to_avoid(record, self._known)

    def reset(self, nodes: Collection[str]) -> None:
        """Let nodes be used again that a trial cannot do without."""
        known = judge_nodes(self._study.spec, self._study.records(), self._resets)
        failures = {k.node: k.n_failures for k in known if k.node in nodes}
        self._resets = self._study.pardon(failures)
        self._observer.noted(f"There is no place without {', '.join(sorted(nodes))}: used again.")
