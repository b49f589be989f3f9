"""What a study file may not say about its pod, and what a platform lets it ask for.

study.py      a study file judged as a whole
template.py   the rules for a pod: allowed fields by table, everything else refused
finished.py   the last look at a Job before it is sent
hold.py       what must hold of every pod, put on after the file's patch
platform.py   the administrator's allow-list; platform_file.py reads it
walking.py    rules for values, put together to rules for manifests
looking.py    looks into manifests of any form
"""

from studyflow.spec.pods.finished import Ours, judge_job
from studyflow.spec.pods.hold import container_security, hold
from studyflow.spec.pods.merge import strategic_merge
from studyflow.spec.pods.platform import PLATFORM_VARIABLE, Platform
from studyflow.spec.pods.platform_file import platform_path, read_platform
from studyflow.spec.pods.study import judge_data, judge_study

__all__ = [
    "PLATFORM_VARIABLE",
    "Ours",
    "Platform",
    "container_security",
    "hold",
    "judge_data",
    "judge_job",
    "judge_study",
    "platform_path",
    "read_platform",
    "strategic_merge",
]
