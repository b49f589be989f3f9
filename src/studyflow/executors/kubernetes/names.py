"""Names and labels of what a study has in a cluster: functions of study, trial and attempt.

A Job's name is all that keeps an attempt from being started twice, so it depends on nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from studyflow.executors.protocol import AttemptId

STUDY_LABEL: Final = "studyflow.dev/study"
TRIAL_LABEL: Final = "studyflow.dev/trial"
ATTEMPT_LABEL: Final = "studyflow.dev/attempt"
QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
"""Kueue's own: the local queue that a Job waits in."""
STUDY_ANNOTATION: Final = "studyflow.dev/study-name"
"""The study's name as it is; a label's value could not hold every name."""

COMMON_LABELS: Final[Mapping[str, str]] = {
    "app.kubernetes.io/name": "studyflow",
    "app.kubernetes.io/component": "trial",
    "app.kubernetes.io/managed-by": "studyflow",
}

SLUG_CHARS: Final = 26
"""63 characters are the limit of a label's value, and the Job controller makes one of the Job's
name; 8 go to the hash, 17 to the numbers and dashes, and some to the suffix of the pod's name."""


@functools.lru_cache(maxsize=64)
def study_key(study: str) -> str:
    """Return the value of `STUDY_LABEL`: readable, and different for different names."""
    slug = re.sub(r"[^a-z0-9]+", "-", study.lower()).strip("-")[:SLUG_CHARS].strip("-")
    digest = hashlib.sha256(study.encode()).hexdigest()[:8]
    return f"{slug}-{digest}" if slug else f"study-{digest}"


def job_name(study: str, attempt: AttemptId) -> str:
    """Return the name of an attempt's Job, a DNS label."""
    key = study_key(study)
    # A Job's name becomes part of its pods' host names, which begin with a letter for some tools.
    prefix = key if key[0].isalpha() else f"s{key}"
    return f"{prefix}-{attempt.number}-{attempt.attempt}"


def study_selector(study: str) -> str:
    """Return the label selector that finds everything of a study's trials."""
    return f"app.kubernetes.io/managed-by=studyflow,{STUDY_LABEL}={study_key(study)}"


def attempt_labels(study: str, attempt: AttemptId) -> dict[str, str]:
    """Return the labels of an attempt's Job and pod."""
    return {
        **COMMON_LABELS,
        STUDY_LABEL: study_key(study),
        TRIAL_LABEL: str(attempt.number),
        ATTEMPT_LABEL: str(attempt.attempt),
    }


def attempt_of(labels: Mapping[str, str]) -> AttemptId | None:
    """Return the attempt that an object's labels name; `None` when they name none."""
    number, attempt = labels.get(TRIAL_LABEL, ""), labels.get(ATTEMPT_LABEL, "")
    if not (number.isdecimal() and attempt.isdecimal()):
        return None
    return AttemptId(int(number), int(attempt))


def queue_of(job: Mapping[str, Any]) -> str | None:
    """Return the queue that a Job waits in; `None` when it is in none."""
    return (job["metadata"].get("labels") or {}).get(QUEUE_LABEL) or None
