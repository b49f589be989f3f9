"""Which nodes the study keeps away from, as one turn of the loop found it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from studyflow.executors import AttemptState, AttemptStatus
from studyflow.observers.observer import Observer
from studyflow.study import NodeRecord, Study, TrialIndex, nodes_to_avoid
from studyflow.trial.record import TrialRecord
from studyflow.tuner.progress import Notes, enumerated


class Nodes:
    """The nodes that have failed the study. See `studyflow.study.nodes` for how they are judged.

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

    def judge(self, trials: TrialIndex, statuses: Iterable[AttemptStatus]) -> None:
        """Find out which nodes to keep away from, and tell which no trial goes to any more."""
        running = [s for s in statuses if s.state is AttemptState.RUNNING]
        in_use = {status.node for status in running if status.node is not None}
        self._known = trials.judge_nodes(self._resets, in_use)
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
        known = self._study.known_trials().judge_nodes(self._resets)
        failures = {k.node: k.n_failures for k in known if k.node in nodes}
        self._resets = self._study.reset_node_failures(failures)
        names = enumerated(sorted(nodes))
        noun, verb = ("Nodes", "are") if len(nodes) > 1 else ("Node", "is")
        self._observer.noted(f"{noun} {names} {verb} used again: no other node has room.")
