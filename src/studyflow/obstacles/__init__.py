"""Why is a study stuck or slow? Findings, each one sentence and one way out, the gravest first.

facts.py     what is known of a study at one moment, from storage, runner, cluster, MLflow, Prefect
pace.py      how fast its trials come, and where their time goes; pure
scheduler.py what the scheduler says of a pod that found no node; pure
regions.py   which parameters the trials of one fate have in common; pure
rules.py     from the facts to the findings; pure
flow_runs.py asks Prefect's server
look.py      asks everybody, each for a few seconds
"""

from studyflow.obstacles.facts import Facts
from studyflow.obstacles.look import Named, look
from studyflow.obstacles.pace import Pace
from studyflow.obstacles.rules import Level, Obstacle, find_obstacles, pace

__all__ = ["Facts", "Level", "Named", "Obstacle", "Pace", "find_obstacles", "look", "pace"]
