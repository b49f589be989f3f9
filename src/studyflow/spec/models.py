"""`StudySpec` and its parts: frozen, each field documented, each part checking itself.

Checks that need several parts (a point to try first must lie in the search space, …) stand in
`studyflow.spec.rules`, so that one look at a file can report the problems of every part together.
A spec made by `from_yaml` or `from_mapping` has passed both; one put together in Python only the
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, model_validator

from studyflow.spec.budget import BudgetSpec
from studyflow.spec.kubernetes import KubernetesSpec
from studyflow.spec.parameters import Parameter
from studyflow.spec.parts import QUANTITY, Part, Seconds, Text
from studyflow.spec.space import SearchSpace
from studyflow.spec.values import Real, Scalar, Whole, broken_rule

Direction = Literal["minimize", "maximize"]
SamplerName = Literal["botorch", "gp", "tpe", "cmaes", "nsga2", "qmc", "random", "grid"]
PrunerName = Literal[
    "none",
    "median",
    "percentile",
    "asha",
    "hyperband",
    "threshold",
    "patient",
    "wilcoxon",
    "curve",
]

NAME_LIMIT: Final = 200
"""Longest study name: Optuna's limit is 512, MLflow's 500; tags and folders need room beside it."""

KEY_LIMIT: Final = 250
"""Longest name of a parameter or metric: MLflow's limit for a key."""


class ObjectiveSpec(Part):
    """One number to optimise."""

    metric: str = Field(
        min_length=1,
        max_length=KEY_LIMIT,
        description="Name that `sdk.finish` gives it.",
        examples=["val_loss"],
    )
    direction: Direction = Field(description="Whether small or large values are good.")


class ConstraintSpec(Part):
    """A bound that a metric must keep for the trial to be feasible. Name `max`, `min` or both."""

    metric: str = Field(
        min_length=1,
        max_length=KEY_LIMIT,
        description="Name that `sdk.finish` gives it.",
        examples=["latency_ms"],
    )
    max: Real | None = Field(default=None, description="Largest feasible value.")
    min: Real | None = Field(default=None, description="Smallest feasible value.")

    @model_validator(mode="after")
    def _check(self) -> ConstraintSpec:
        if self.max is None and self.min is None:
            raise broken_rule(
                "a constraint must have max or min, but it has neither", "add one of them"
            )
        if self.max is not None and self.min is not None and self.min > self.max:
            raise broken_rule(
                f"min must not be above max, but min={self.min:g} and max={self.max:g}",
                "did you swap them?",
            )
        return self

    def violations(self, value: float) -> dict[str, float]:
        """Return by how much a value breaks each bound; at most 0 is feasible.

        Args:
            value: What the trial finished with.

        Returns:
            One entry for each bound, such as `{"latency_ms <= 20": -3.5}`.
        """
        bounds = {}
        if self.max is not None:
            bounds[f"{self.metric} <= {self.max:.12g}"] = value - self.max
        if self.min is not None:
            bounds[f"{self.metric} >= {self.min:.12g}"] = self.min - value
        return bounds


class SamplerSpec(Part):
    """The sampler, which suggests the next point. Any further field is an argument of that sampler.

    The arguments are listed in `studyflow.spec.arguments`.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    type: SamplerName = Field(default="botorch", description="Name of the sampler.")
    seed: Whole | None = Field(
        default=None, ge=0, lt=2**32, description="Makes suggestions repeatable; `null` draws one."
    )

    @property
    def arguments(self) -> dict[str, Any]:
        """The further fields, as given: defaults are not filled in."""
        return dict(self.model_extra or {})


class PrunerSpec(Part):
    """The pruner, which stops hopeless trials early. Any further field is one of its arguments.

    The arguments are listed in `studyflow.spec.arguments`.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    type: PrunerName = Field(default="none", description="Name of the pruner.")

    @property
    def arguments(self) -> dict[str, Any]:
        """The further fields, as given: defaults are not filled in."""
        return dict(self.model_extra or {})


class StopSpec(Part):
    """When to end before the budget is spent."""

    target: Real | None = Field(
        default=None, description="End when the objective is this good. One objective only."
    )
    no_improvement_trials: Whole | None = Field(
        default=None,
        ge=1,
        description="End when this many finished trials in a row brought no new best.",
    )
    alike_failures: Whole = Field(
        default=5,
        ge=1,
        description="End when this many trials in a row fail in the same way, or half of six times "
        "as many: the script or its environment is broken, and more GPU time will not fix it.",
    )
    first_failures: Whole = Field(
        default=3,
        ge=0,
        description="End when this many trials of different parameters fail in the same way before "
        "any trial has succeeded. These cost no budget, and only one further trial starts at a "
        "time. 0 switches this off.",
    )


class RetrySpec(Part):
    """How often a trial is attempted again when its attempt was lost to the infrastructure."""

    max_attempts: Whole = Field(
        default=10,
        ge=1,
        le=1000,
        description="Attempts of one trial before it fails with the last cause. One that brings "
        "the trial further than those before it, by a newer checkpoint, counts as the first again.",
    )
    backoff_seconds: Real = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="Pause before the second attempt; it doubles with every further one, up to "
        "five minutes.",
    )


NotifyEvent = Literal["finished", "failed", "new_best"]


class NotifySpec(Part):
    """A webhook that hears of the study. Its address is a secret: name what holds it."""

    url_env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable of the runner that holds the address.",
        examples=["SLACK_WEBHOOK_URL"],
    )
    url_file: str | None = Field(
        default=None, min_length=1, description="File that holds the address, such as a Secret's."
    )
    allow_http: bool = Field(
        default=False,
        description="Whether the address may begin with http:// though it leads to another "
        "machine: whoever is on the way there can read it.",
    )
    events: tuple[NotifyEvent, ...] = Field(
        default=("finished", "failed"),
        min_length=1,
        description="What it hears of: the end of a run, with or without a result, and every new "
        "best trial.",
    )

    @model_validator(mode="before")
    @classmethod
    def _keep_secret(cls, data: Any) -> Any:
        is_shown = isinstance(data, Mapping) and (
            "url" in data or "://" in str(data.get("url_env", ""))
        )
        if is_shown:
            # Not shown again: this file, and what is printed, reach MLflow and logs.
            raise broken_rule(
                "the address of a webhook is a secret and must not stand in the study file",
                "set an environment variable to it, and name that: url_env: SLACK_WEBHOOK_URL",
            )
        return data

    @model_validator(mode="after")
    def _check(self) -> NotifySpec:
        named = [n for n in ("url_env", "url_file") if getattr(self, n) is not None]
        if len(named) != 1:
            raise broken_rule(
                "notify must say once where the address is, but it names "
                f"{' and '.join(named) or 'nothing'}",
                "name url_env or url_file",
            )
        return self


TrialRuns = Literal["auto", "always", "never"]


class PrefectSpec(Part):
    """How Prefect shows the study. Nothing of the study depends on it."""

    trial_runs: TrialRuns = Field(
        default="auto",
        description="Whether each trial is a task run on the flow run's page, which costs time for "
        "each. `auto`: in a study of up to 200 trials.",
    )


class ResourcesSpec(Part):
    """What one trial needs. Locally only `gpu` has an effect: each slot gets GPUs of its own."""

    cpu: Text | None = Field(
        default=None, pattern=r"^\d+(\.\d+)?m?$", description="Cores, such as `2` or `500m`."
    )
    memory: Text | None = Field(
        default=None,
        pattern=QUANTITY,
        description="Memory in bytes, such as `4Gi` or `500M`.",
    )
    gpu: Whole = Field(default=0, ge=0, le=1024, description="GPUs for each trial.")


class TrialSpec(Part):
    """How one trial is run."""

    command: tuple[Text, ...] = Field(
        min_length=1,
        description="Program and arguments; no shell is involved.",
        examples=[["python", "train.py"]],
    )
    image: str | None = Field(
        default=None, pattern=r"^\S+$", description="Container image, used on Kubernetes."
    )
    resources: ResourcesSpec = Field(
        default_factory=ResourcesSpec, description="What one trial needs."
    )
    timeout_seconds: Seconds | None = Field(
        default=None, description="Longest time one attempt may run.", examples=[1800]
    )
    budget: Whole | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="Steps a trial may train for; reaches the script as `trial.budget`.",
    )
    nan_reports: Whole | None = Field(
        default=3,
        ge=1,
        description="Reports of the (first) objective in a row that are NaN or infinite, after "
        "which the trial ends as `nan`; with `null` only the final value counts.",
    )
    env: dict[str, Text] = Field(
        default_factory=dict, description="Environment variables for the script; no secrets here."
    )
    inherit_env: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_*?][A-Za-z0-9_*?]*$")], ...] = Field(
        default=(),
        description="Variables of the runner that a local trial gets though they look like "
        "secrets: names, or patterns such as `WANDB_*`. On Kubernetes trials get what `secret_env` "
        "names.",
        examples=[["HF_TOKEN", "WANDB_*"]],
    )
    kubernetes: KubernetesSpec = Field(
        default_factory=KubernetesSpec, description="How its pod is made, on Kubernetes."
    )


class StudySpec(Part):
    """One study: what to optimise and over what, how long to search, and how a trial is run."""

    name: str = Field(
        min_length=1,
        max_length=NAME_LIMIT,
        description="Name of the study.",
        examples=["cnn-lstm"],
    )
    description: str = Field(default="", max_length=5000, description="What this study is about.")
    tags: dict[str, Text] = Field(
        default_factory=dict, description="Labels; tags of the study's run in MLflow."
    )
    experiment: str | None = Field(
        default=None,
        min_length=1,
        max_length=NAME_LIMIT,
        description="MLflow experiment that shows the study; by default one of its own, by its "
        "name. Studies that name the same one stand side by side there.",
    )
    objectives: tuple[ObjectiveSpec, ...] = Field(
        min_length=1, description="What to optimise; two or more make a multi-objective study."
    )
    constraints: tuple[ConstraintSpec, ...] = Field(
        default=(), description="Bounds that other metrics must keep."
    )
    search_space: dict[str, Parameter] = Field(
        min_length=1, description="The parameters to search, by name."
    )
    fixed: dict[str, Scalar] = Field(
        default_factory=dict, description="Parameters with one value for every trial."
    )
    enqueue: tuple[dict[str, Scalar], ...] = Field(
        default=(), description="Points to try first, in this order. Left-out parameters are drawn."
    )
    sampler: SamplerSpec = Field(
        default_factory=SamplerSpec, description="The sampler, which suggests the next point."
    )
    pruner: PrunerSpec = Field(
        default_factory=PrunerSpec, description="The pruner, which stops hopeless trials early."
    )
    budget: BudgetSpec = Field(description="How much the study may spend.")
    stop: StopSpec = Field(
        default_factory=StopSpec, description="When to end before the budget is spent."
    )
    retry: RetrySpec = Field(
        default_factory=RetrySpec,
        description="How often a trial lost to the infrastructure is attempted again.",
    )
    notify: NotifySpec | None = Field(
        default=None, description="A webhook that hears of the study's end and new best trials."
    )
    prefect: PrefectSpec = Field(
        default_factory=PrefectSpec, description="How Prefect shows the study."
    )
    trial: TrialSpec = Field(description="How one trial is run.")

    @property
    def space(self) -> SearchSpace:
        """The search space, parents before children.

        Raises:
            SpaceError: The conditions are impossible; a spec read by `from_yaml` never raises.
        """
        return SearchSpace(self.search_space)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The direction of every objective."""
        return tuple(objective.direction for objective in self.objectives)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that every trial must finish with: objectives, then constraints."""
        names = [objective.metric for objective in self.objectives]
        names += [constraint.metric for constraint in self.constraints]
        return tuple(dict.fromkeys(names))

    @classmethod
    def from_yaml(cls, path: str | Path) -> StudySpec:
        """Return the study that a file describes.

        Raises:
            SpecError: The file cannot be read or is wrong; every problem is in the message, with
                line and column, rule, value and fix.
        """
        # The reader builds these models, so it cannot be imported before they exist.
        from studyflow.spec.reader import read_study

        return read_study(Path(path))

    @classmethod
    def from_text(cls, text: str, *, source: str = "study.yaml") -> StudySpec:
        """Return the study that YAML text describes.

        Args:
            text: The whole file.
            source: Its name in messages.

        Raises:
            SpecError: The text is wrong; every problem is in the message, with line and column.
        """
        from studyflow.spec.reader import read_text

        return read_text(text, source=source)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> StudySpec:
        """Return the study that an already parsed mapping describes, such as flow parameters.

        Raises:
            SpecError: The mapping is wrong; every problem is in the message, by its path.
        """
        from studyflow.spec.reader import read_mapping

        return read_mapping(mapping)

    def to_yaml(self) -> str:
        """Return the study as a file; reading it again gives an equal spec.

        Fields that have their default are left out.
        """
        from studyflow.spec.writer import write_study

        return write_study(self)

    def identity(self) -> dict[str, Any]:
        """Return what must not change when a study continues: search space and objectives.

        Made of JSON values, to be stored with the study and handed to `describe_differences`.
        Fields that have their default are left out, so a later version may add some.
        """
        space: dict[str, Any] = {}
        for name, parameter in self.search_space.items():
            space[name] = parameter.model_dump(
                mode="json", exclude_defaults=True, exclude={"when", "prior"}
            )
            if parameter.when:
                # `when: {a: 1}` and `when: {a: [1]}` mean the same.
                space[name]["when"] = {k: list(v) for k, v in parameter.conditions.items()}
        return {
            "search_space": space,
            "objectives": [objective.model_dump(mode="json") for objective in self.objectives],
        }
