"""What is wrong with an installation, a study or its results.

preflight/          `studyflow doctor`: what a study needs, before it starts
probes/             asks every server, each in one place and for a few seconds
snapshot.py         what is known of a study at one moment
blockers/           why a study is stuck or slow, from the snapshot; pure
throughput.py       how fast trials come, and where their time goes; pure
failure_regions.py  which parameters the trials of one failure kind have in common; pure
invariants.py       what always holds: `studyflow verify`, and the end of every fault test
"""

from studyflow.diagnostics.blockers import find_blockers
from studyflow.diagnostics.probes import Named, take_snapshot
from studyflow.diagnostics.snapshot import Snapshot
from studyflow.diagnostics.throughput import Throughput, throughput
from studyflow.reasons import Finding, Level

__all__ = [
    "Finding",
    "Level",
    "Named",
    "Snapshot",
    "Throughput",
    "find_blockers",
    "take_snapshot",
    "throughput",
]
