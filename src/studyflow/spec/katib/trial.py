"""A trial's template of Katib as the section `trial`: which pod it has, and its container."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from studyflow.spec.katib.pod import read_pod
from studyflow.spec.katib.reading import Part

ADAPTER: Final = "katib_trial.py"
"""Name of the script that runs a training as Katib does; see `cli/templates`."""

_REPLICAS: Final = {
    "PyTorchJob": ("pytorchReplicaSpecs", ("Master", "Worker")),
    "TFJob": ("tfReplicaSpecs", ("Chief", "Master", "Worker")),
    "XGBoostJob": ("xgbReplicaSpecs", ("Master", "Worker")),
    "PaddleJob": ("paddleReplicaSpecs", ("Master", "Worker")),
    "JAXJob": ("jaxReplicaSpecs", ("Worker",)),
    "MPIJob": ("mpiReplicaSpecs", ("Launcher", "Worker")),
}
"""Where jobs of Kubeflow's training operator have their pods; the first that is there counts."""

_PLACE: Final = re.compile(r"\$\{trialParameters\.([^}]+)\}")
_METADATA: Final = re.compile(r"\$\{trialSpec\.([^}]+)\}")


def read_trial(part: Part, metrics: Mapping[str, str], document: dict[str, Any]) -> None:
    """Write the section `trial`.

    Args:
        part: `spec.trialTemplate`.
        metrics: Which value of each metric counts, by its name.
        document: The study file, written to.
    """
    trial: dict[str, Any] = document["trial"]
    names = _references(part)
    part.take("retain")  # Jobs are deleted once their logs and results are kept
    for key in ("successCondition", "failureCondition", "primaryPodLabels"):
        if (value := part.take(key)) is not None:
            part.notes.left_out(
                part.at(key),
                value,
                "a trial has succeeded if its script ends with exit code 0 and a result",
                "nothing to do for a script that keeps to exit codes",
            )
    primary = part.take("primaryContainerName")
    pod = _pod(part.part("trialSpec"), trial)
    words: list[str] = []
    if pod is not None:
        words = read_pod(pod, primary, trial)
    if not words:
        part.notes.left_out(
            part.path,
            {},
            "the experiment does not say by which command a trial is trained, so the file has "
            "`python train.py`",
            "write trial.command, and trial.image",
        )
        words = ["python", "train.py"]
    filled = [_filled(word, names) for word in words]
    trial["env"] = {name: _filled(value, names) for name, value in trial.get("env", {}).items()}
    python = words[0] if words[0].startswith("python") else "python3"
    kept = [f"{name}={strategy}" for name, strategy in metrics.items()]
    trial["command"] = [python, ADAPTER, *kept, "--", *filled]
    part.notes.changed(
        part.path,
        {},
        f"the command is run by {ADAPTER}, which fills in parameters and reads printed metrics",
        "put that file and studyflow into the image; the pod's user is 10001, and writes to "
        "/tmp and its volumes only",
    )
    for name, text in (("command", " ".join(filled)), ("env", " ".join(trial["env"].values()))):
        for left in _PLACE.findall(text) + _METADATA.findall(text):
            part.notes.left_out(
                part.at("trialSpec"),
                left,
                f"nothing fills this place of the trial's {name}",
                "see trial.number and trial.params of studyflow.sdk",
            )
    for key in ("env", "resources", "kubernetes"):
        if not trial.get(key):
            trial.pop(key, None)


def _references(part: Part) -> dict[str, str]:
    """Return the parameter of each place in the template."""
    names = {}
    for one in part.parts("trialParameters"):
        name, reference = one.take("name"), one.take("reference")
        one.take("description")
        if not isinstance(reference, str) or not isinstance(name, str):
            one.notes.wrong(one.path, "must have name and reference", "correct the experiment")
        elif _METADATA.fullmatch(reference):
            one.notes.left_out(
                one.at("reference"),
                reference,
                "a trial's pod does not get its own manifest",
                "STUDYFLOW_TRIAL has the study, number and attempt of the trial",
            )
        else:
            names[name] = reference
    return names


def _filled(text: str, names: Mapping[str, str]) -> str:
    """Return a text with places as our adapter fills them: `${lr}`."""
    return _PLACE.sub(lambda m: "${" + names[m[1]] + "}" if m[1] in names else m[0], text)


def _pod(manifest: Part, trial: dict[str, Any]) -> Part | None:
    """Return the pod's template within the manifest of a trial, or `None`."""
    kind = manifest.take("kind")
    manifest.take("apiVersion")
    spec = manifest.part("spec")
    metadata = manifest.part("metadata")
    for key, ours in (("labels", "labels"), ("annotations", "annotations")):
        if (given := metadata.take(key)) is not None:
            trial["kubernetes"][ours] = dict(given)
    if kind == "Job":
        if (seconds := spec.number("activeDeadlineSeconds")) is not None:
            trial["timeout_seconds"] = seconds
        _set_aside_restarts(spec)
        return spec.part("template")
    if kind not in _REPLICAS:
        if kind is not None:
            manifest.notes.left_out(
                manifest.at("kind"),
                kind,
                "of this kind no pod is known",
                "write trial.command, trial.image and trial.resources",
            )
        return None
    key, order = _REPLICAS[kind]
    replicas = spec.part(key)
    chosen: Part | None = None
    for name in (*order, *(n for n in replicas.keys() if n not in order)):  # noqa: SIM118
        if name not in replicas:
            continue
        replica = replicas.part(name)
        count = replica.whole("replicas") or 1
        replica.take("restartPolicy")
        if chosen is None:
            chosen, count = replica.part("template"), count - 1
        else:
            replica.take("template")
        if count:
            replica.notes.left_out(
                replica.path,
                {},
                f"a trial is one pod; the other pods of this {kind} ({count} here) are not there",
                "train on several GPUs of one node: resources.gpu, and torchrun in the command",
            )
    return chosen


def _set_aside_restarts(spec: Part) -> None:
    """Take what says when a Job is repeated or removed: attempts are studyflow's affair."""
    for key in ("completions", "parallelism"):
        if spec.take(key) not in (None, 1):
            spec.notes.left_out(
                spec.at(key),
                "more than 1",
                "a trial is one pod",
                "train on several GPUs of one node: resources.gpu, and torchrun in the command",
            )
    for key in ("backoffLimit", "ttlSecondsAfterFinished"):
        if (value := spec.take(key)) is not None:
            spec.notes.left_out(
                spec.at(key),
                value,
                "attempts lost to the infrastructure are repeated, failed scripts are not, and "
                "ended Jobs are deleted",
                "see retry.max_attempts",
            )
