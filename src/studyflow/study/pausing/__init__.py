"""Which running trial is paused, and what a free slot goes to: policies, and what they look at."""

from studyflow.study.pausing.policy import (
    Decision,
    Move,
    PausePolicy,
    TakeUpAll,
)
from studyflow.study.pausing.promotion import Promotion
from studyflow.study.pausing.registry import pause_policy
from studyflow.study.pausing.standing import Stage, Standing, TrialStanding
from studyflow.study.pausing.standings import Standings

__all__ = [
    "Decision",
    "Move",
    "PausePolicy",
    "Promotion",
    "Stage",
    "Standing",
    "Standings",
    "TakeUpAll",
    "TrialStanding",
    "pause_policy",
]
