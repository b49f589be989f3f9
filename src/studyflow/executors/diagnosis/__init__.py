"""Why an attempt ended: exit code, signals, outcome document and last lines become one `Outcome`.

ending.py     what an executor found of an end
said.py       what the script left where its outcome belongs, checked
exits.py      what a script's exit code and last lines mean: one rule after the other
failures.py   the failure that ended a script, found in the last lines of its log
silence.py    why a script that ended in order gave no result
left_out.py   variables of the runner that a script seems to miss
diagnose.py   which of these counts

Pure: no file is read and no clock asked here, so every rule is a row of a table in the tests.
"""

from studyflow.executors.diagnosis.diagnose import blame_device, diagnose, redacted
from studyflow.executors.diagnosis.ending import Ending, How, NoDocument
from studyflow.executors.diagnosis.left_out import missed_variables
from studyflow.executors.diagnosis.said import outcome_of
from studyflow.executors.diagnosis.text import readable

__all__ = [
    "Ending",
    "How",
    "NoDocument",
    "blame_device",
    "diagnose",
    "missed_variables",
    "outcome_of",
    "readable",
    "redacted",
]
