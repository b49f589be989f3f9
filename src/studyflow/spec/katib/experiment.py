"""An experiment of Katib as a study: what is carried over, and what is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from studyflow.spec.check import check_mapping
from studyflow.spec.katib import search
from studyflow.spec.katib.reading import Change, Notes, Part
from studyflow.spec.katib.remains import explain
from studyflow.spec.katib.space import parameter
from studyflow.spec.katib.trial import read_trial
from studyflow.spec.models import StudySpec
from studyflow.spec.problems import BrokenRule, Problem
from studyflow.spec.reader import find_problems_in, spec_error

_API: Final = "kubeflow.org/v1beta1"


@dataclass(frozen=True)
class Translation:
    """A study made of an experiment, and what is otherwise in it or not at all."""

    spec: StudySpec
    changes: tuple[Change, ...]
    """In the order of the experiment's sections."""


def translate_experiment(text: str, *, source: str = "experiment.yaml") -> Translation:
    """Return the study that an experiment of Katib becomes.

    Nothing of the experiment is dropped unsaid.

    Args:
        text: The manifest, YAML or JSON.
        source: Its name, for messages.

    Raises:
        SpecError: The text is no experiment, or one that Katib would refuse too; every problem is
            in the message. Or the study that it makes breaks a rule of study files.
    """
    notes = Notes()
    document, problems = find_problems_in(text, source, lambda data: _translate(data, notes))
    if document is None:
        raise spec_error(problems, source)
    spec, findings = check_mapping(document)
    if spec is None:
        raise spec_error(tuple(map(Problem.at, findings)), f"The study file of {source}")
    return Translation(spec, tuple(notes.changes))


def _translate(data: Any, notes: Notes) -> tuple[dict[str, Any] | None, tuple[BrokenRule, ...]]:
    top = Part(data, (), notes)
    version, kind = top.take("apiVersion"), top.take("kind")
    if version != _API or kind != "Experiment":
        message = f"must be an Experiment of {_API}, but it is {kind} of {version}"
        return None, (BrokenRule((), message, "name the manifest of a Katib experiment"),)
    metadata, spec = top.part("metadata"), top.part("spec")
    document = _sections(metadata, spec)
    if notes.broken:
        return None, tuple(notes.broken)
    notes.changes += explain(top.rest())
    return document, ()


def _sections(metadata: Part, spec: Part) -> dict[str, Any]:
    """Return the study file's sections; what is wrong with the experiment is noted."""
    document: dict[str, Any] = {"name": metadata.take("name") or metadata.take("generateName")}
    if not isinstance(document["name"], str):
        metadata.notes.wrong(metadata.path, "must have a name", "correct the experiment")
    document["name"] = str(document["name"]).rstrip("-")
    if (labels := metadata.take("labels")) is not None:
        document["tags"] = labels
    if (namespace := metadata.take("namespace")) is not None:
        metadata.notes.left_out(
            metadata.at("namespace"),
            namespace,
            "a study file does not say where trials run",
            "run it with --executor kubernetes --namespace NAMESPACE",
        )
    document["trial"] = {"kubernetes": {}}
    metrics = search.objective(spec.part("objective"), document)
    algorithm = spec.part("algorithm")
    has_priors = "bayesianoptimization" in str(algorithm.peek("algorithmName"))
    found = [parameter(one, has_priors=has_priors) for one in spec.parts("parameters")]
    document["search_space"] = dict(one for one in found if one is not None)
    if not found:
        spec.notes.wrong(
            spec.at("parameters"),
            "must name parameters; neural architecture search is not part of studyflow",
            "write a study file for the parameters that are searched",
        )
    search.sampler(algorithm, document)
    search.pruner(spec.part("earlyStopping"), document)
    search.budget(spec, document)
    _collector(spec)
    read_trial(spec.part("trialTemplate"), metrics, document)
    return document


def _collector(spec: Part) -> None:
    """Take the collector of metrics where it is the one that our adapter is as well."""
    collector = spec.part("metricsCollectorSpec").part("collector")
    if collector.peek("kind") == "StdOut":
        collector.take("kind")
