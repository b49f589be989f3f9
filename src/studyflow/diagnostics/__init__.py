"""What is wrong with an installation, a study or its results.

preflight.py          `studyflow doctor`: what a study needs, before it starts
snapshot.py           what is known of a study at one moment
probes.py             asks everybody for it, each for a few seconds
flow_runs.py          asks Prefect's server
blockers.py           why a study is stuck or slow, from the snapshot; pure
throughput.py         how fast trials come, and where their time goes; pure
scheduler_messages.py what the scheduler says of a pod that found no node; pure
failure_regions.py    which parameters the trials of one failure kind have in common; pure
invariants.py         what always holds: `studyflow verify`, and the end of every fault test
"""

from studyflow.diagnostics.blockers import Level, Obstacle, find_obstacles, pace
from studyflow.diagnostics.probes import Named, look
from studyflow.diagnostics.snapshot import Facts
from studyflow.diagnostics.throughput import Pace

__all__ = ["Facts", "Level", "Named", "Obstacle", "Pace", "find_obstacles", "look", "pace"]
