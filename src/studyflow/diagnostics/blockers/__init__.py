"""From a snapshot of a study to what stands in its way: each rule sees one thing. Pure.

thresholds.py  from when on something is worth telling
servers.py     storage, cluster, MLflow and Prefect
endings.py     why nothing more is to come
runners.py     who should drive the study, and does not
waiting.py     what attempts wait for in the cluster
failures.py    what the trials went through
setup.py       how the study is set up

Within a level, findings come in the order of the rules: what explains the others comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from studyflow.diagnostics.blockers import endings, failures, runners, servers, setup, waiting
from studyflow.diagnostics.snapshot import Snapshot
from studyflow.reasons import Finding, Level
from studyflow.spec import StudySpec

Rule = Callable[[Snapshot, StudySpec], Iterator[Finding]]

_OF_UNFINISHED_STUDIES: Final[tuple[Rule, ...]] = (
    endings.could_not_start,
    runners.paused,
    runners.suspended_or_standing_by,
    runners.flow_run,
    runners.no_runner,
    waiting.pending_attempts,
    waiting.full_quotas,
    failures.stragglers,
    setup.parallelism,
)
_OF_EVERY_STUDY: Final[tuple[Rule, ...]] = (
    failures.failed_alike,
    failures.lost_attempts,
    failures.infeasible_parameters,
    setup.slow_suggestions,
    setup.slow_starts,
    setup.never_pruned,
)


def find_blockers(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Return what stands in a study's way, the gravest first; empty when nothing does."""
    found = list(servers.storage(snapshot))
    if snapshot.spec is not None and snapshot.storage.absence is None:
        end = list(endings.end(snapshot, snapshot.spec))
        rules = _OF_EVERY_STUDY if end else (*_OF_UNFINISHED_STUDIES, *_OF_EVERY_STUDY)
        found += end
        found += [finding for rule in rules for finding in rule(snapshot, snapshot.spec)]
    found += [
        *servers.cluster(snapshot),
        *servers.mlflow(snapshot),
        *servers.prefect(snapshot),
    ]
    levels = list(Level)
    return tuple(sorted(found, key=lambda finding: levels.index(finding.level)))
