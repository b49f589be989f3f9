"""Why parts of an experiment have no place in a study file, and what to do instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from studyflow.spec.katib.reading import Change
from studyflow.spec.problems import Path

_BOOKKEEPING: Final = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")
"""What a cluster writes into every object."""

_KNOWN: Final[tuple[tuple[Path, str, str], ...]] = (
    (("metadata",), "labels the experiment only", "see `tags`"),
    (
        ("spec", "resumePolicy"),
        "a study can always go on",
        "run the same file again, with a higher budget if that is spent",
    ),
    (("spec", "nasConfig"), "neural architecture search is not part of studyflow", ""),
    (
        ("spec", "metricsCollectorSpec"),
        "metrics are read from what the script prints, as `name=value`",
        "print them so, edit katib_trial.py, or call studyflow.sdk or MLflow in the script",
    ),
    (
        ("spec", "algorithm", "algorithmSettings"),
        "the sampler has no such argument",
        "see the arguments of samplers in the study file's reference",
    ),
    (("spec", "earlyStopping", "algorithmSettings"), "the pruner has no such argument", ""),
    (
        ("spec", "trialTemplate", "configMap"),
        "the template is in the cluster, not in this file",
        "put it under trialSpec, or write trial.command and trial.image by hand",
    ),
)
"""Path, what is so about it, and what to do; the longest path that fits counts."""

_TEMPLATE: Final[Path] = ("spec", "trialTemplate", "trialSpec")


def explain(rest: Iterable[tuple[Path, Any]]) -> Iterator[Change]:
    """Yield a change for each part of an experiment that nothing has been made of."""
    for path, value in rest:
        if path[0] == "status" or (path[0] == "metadata" and path[-1] in _BOOKKEEPING):
            continue  # what a cluster knows of the experiment, not what somebody wrote
        message, hint = _words(path)
        yield Change(path, value, message, hint, is_left_out=True)


def _words(path: Path) -> tuple[str, str]:
    for known, message, hint in _KNOWN:
        if path[: len(known)] == known:
            return message, hint
    if path[: len(_TEMPLATE)] == _TEMPLATE:
        return (
            "a study file has no field for it",
            "trial.kubernetes.pod_template takes what a trial's pod may have",
        )
    return "a study file has nothing of that kind", ""
