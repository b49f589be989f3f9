"""The arguments that each sampler and pruner takes, checked before anything starts.

Optuna and torch are not imported here: a study file is checked on a laptop that has neither. Where
an argument has Optuna's name it has Optuna's default; a test compares both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from studyflow.spec.values import Real, Truth, Whole, broken_rule

# Nobody waits for more trials or steps than this; it keeps typing errors such as 1e30 out.
_Count = Annotated[Whole, Field(ge=0, le=2**31 - 1)]
_Positive = Annotated[Whole, Field(ge=1, le=2**31 - 1)]
_Share = Annotated[Real, Field(ge=0, le=1)]


class _Arguments(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoArguments(_Arguments):
    """Takes no arguments."""


class BotorchArguments(_Arguments):
    """studyflow's own Gaussian process, built on BoTorch."""

    n_startup_trials: _Count | None = Field(
        default=None,
        description="Trials spread over the space before the model decides; `null` is one more "
        "than there are parameters, at least 6 and at most 20.",
    )
    deterministic: Truth = Field(
        default=False, description="The same parameters always give the same objective value."
    )
    cost_aware: Truth = Field(
        default=False,
        description="Suggest cheap trials sooner, the more so the more of `budget.gpu_hours` is "
        "left.",
    )
    ask_seconds: Real = Field(
        default=60.0,
        gt=0,
        description="Time for a suggestion; then the best point found so far is taken.",
    )


class GPArguments(_Arguments):
    """Optuna's Gaussian process."""

    n_startup_trials: _Count = Field(
        default=10, description="Random trials before the model decides."
    )
    deterministic_objective: Truth = Field(
        default=False, description="The same parameters always give the same objective value."
    )


class TPEArguments(_Arguments):
    """Tree-structured Parzen estimator."""

    n_startup_trials: _Count = Field(
        default=10, description="Random trials before the model decides."
    )
    n_ei_candidates: _Positive = Field(
        default=24, description="Candidates that expected improvement is computed for."
    )
    multivariate: Truth | None = Field(
        default=None, description="Model parameters jointly; `null` lets Optuna decide."
    )
    group: Truth = Field(
        default=False, description="Model the branches of a conditional space separately."
    )
    constant_liar: Truth = Field(
        default=True, description="Keep away from the points of running trials."
    )

    @model_validator(mode="after")
    def _check(self) -> TPEArguments:
        if self.group and self.multivariate is False:
            raise broken_rule(
                "group needs the multivariate model, but multivariate=false",
                "drop multivariate, or set group to false",
            )
        return self


class CmaEsArguments(_Arguments):
    """Covariance matrix adaptation; for continuous parameters and many trials."""

    # `restart_strategy` is left out: since Optuna 4.4 it only warns and does nothing.
    n_startup_trials: _Count = Field(default=1, description="Random trials before the first step.")
    sigma0: Real | None = Field(
        default=None, gt=0, description="First standard deviation; `null` is a sixth of the range."
    )
    popsize: Annotated[Whole, Field(ge=2, le=2**31 - 1)] | None = Field(
        default=None, description="Trials in a generation; `null` follows the number of parameters."
    )


class NSGA2Arguments(_Arguments):
    """Genetic algorithm for several objectives and many trials."""

    population_size: Annotated[Whole, Field(ge=2, le=2**31 - 1)] = Field(
        default=50, description="Trials in a generation."
    )
    mutation_prob: _Share | None = Field(
        default=None,
        description="Chance that a parameter mutates; `null` is 1 / number of parameters.",
    )
    crossover_prob: _Share = Field(default=0.9, description="Chance that a child has two parents.")
    swapping_prob: _Share = Field(
        default=0.5, description="Chance that a parameter comes from the second parent."
    )


class QMCArguments(_Arguments):
    """Quasi-random points, spread more evenly than random ones."""

    qmc_type: Literal["sobol", "halton"] = Field(default="sobol", description="Kind of sequence.")
    scramble: Truth = Field(default=False, description="Shift the sequence by the seed.")


class MedianArguments(_Arguments):
    """Stops trials that are worse than the median of earlier ones at the same step."""

    n_startup_trials: _Count = Field(
        default=5, description="Finished trials before any is stopped."
    )
    n_warmup_steps: _Count = Field(default=0, description="Steps before a trial may be stopped.")
    interval_steps: _Positive = Field(default=1, description="Steps between two looks at a trial.")
    n_min_trials: _Positive = Field(
        default=1, description="Trials that must have reported a step for it to be compared."
    )


class PercentileArguments(MedianArguments):
    """Stops trials outside the best `percentile` percent at the same step."""

    percentile: Real = Field(ge=0, le=100, description="Percentage of trials to keep.")


class AshaArguments(_Arguments):
    """Asynchronous successive halving."""

    variant: Literal["stopping", "promotion"] = Field(
        default="stopping",
        description="What becomes of trials that are not among the best of their rung: `stopping` "
        "ends them, `promotion` pauses them, and a slot that is free takes one up that belongs to "
        "the best by then. Needs trials that publish checkpoints.",
    )
    min_resource: _Positive | Literal["auto"] = Field(
        default="auto", description="Steps before the first decision; `auto` looks at the trials."
    )
    reduction_factor: Annotated[Whole, Field(ge=2, le=2**31 - 1)] = Field(
        default=4, description="One in this many trials goes on at each decision."
    )
    min_early_stopping_rate: _Count = Field(
        default=0, description="Delays the first decision by powers of the reduction factor."
    )
    bootstrap_count: _Count = Field(
        default=0, description="Trials that must reach a decision before any goes on."
    )

    @model_validator(mode="after")
    def _check(self) -> AshaArguments:
        if self.bootstrap_count > 0 and self.min_resource == "auto":
            raise broken_rule(
                "bootstrap_count needs a min_resource in steps, but "
                f"bootstrap_count={self.bootstrap_count} and min_resource is auto",
                "set min_resource, or drop bootstrap_count",
            )
        return self


class HyperbandArguments(_Arguments):
    """Successive halving in several brackets, from hasty to patient."""

    min_resource: _Positive = Field(default=1, description="Steps before the first decision.")
    max_resource: _Positive | Literal["auto"] = Field(
        default="auto",
        description="Steps of a full trial; `auto` is `trial.budget`, or else what is seen.",
    )
    reduction_factor: Annotated[Whole, Field(ge=2, le=2**31 - 1)] = Field(
        default=3, description="One in this many trials goes on at each decision."
    )
    bootstrap_count: _Count = Field(
        default=0, description="Trials that must reach a decision before any goes on."
    )


class ThresholdArguments(_Arguments):
    """Stops trials whose metric leaves a fixed range."""

    lower: Real | None = Field(default=None, description="Trials below this are stopped.")
    upper: Real | None = Field(default=None, description="Trials above this are stopped.")
    n_warmup_steps: _Count = Field(default=0, description="Steps before a trial may be stopped.")
    interval_steps: _Positive = Field(default=1, description="Steps between two looks at a trial.")

    @model_validator(mode="after")
    def _check(self) -> ThresholdArguments:
        if self.lower is None and self.upper is None:
            raise broken_rule("threshold needs lower or upper, but it has neither", "add one")
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise broken_rule(
                f"lower must not be above upper, but lower={self.lower:g} and upper={self.upper:g}",
                "did you swap them?",
            )
        return self


class PatientArguments(_Arguments):
    """Lets another pruner act only after some steps without improvement."""

    patience: _Count = Field(description="Steps without improvement to wait for.")
    min_delta: Real = Field(default=0.0, ge=0, description="Smallest change that counts as one.")
    wrapped: dict[str, Any] | None = Field(
        default=None, description="The other pruner; `null` stops at the end of the patience."
    )


class WilcoxonArguments(_Arguments):
    """Compares with the best trial step by step, as over the folds of a cross-validation."""

    p_threshold: _Share = Field(default=0.1, description="Larger stops trials sooner.")
    n_startup_steps: _Count = Field(default=2, description="Steps before a trial may be stopped.")


class CurveArguments(_Arguments):
    """Pauses trials by forecasts of how they will end, and takes up those that promise most.

    Takes no arguments. Needs `trial.budget`, and checkpoints: without them what would be paused
    ends.
    """


SAMPLER_ARGUMENTS: Final[Mapping[str, type[_Arguments]]] = {
    "botorch": BotorchArguments,
    "gp": GPArguments,
    "tpe": TPEArguments,
    "cmaes": CmaEsArguments,
    "nsga2": NSGA2Arguments,
    "qmc": QMCArguments,
    "random": NoArguments,
    "grid": NoArguments,
}
"""The arguments of each sampler, by `sampler.type`."""

PRUNER_ARGUMENTS: Final[Mapping[str, type[_Arguments]]] = {
    "none": NoArguments,
    "median": MedianArguments,
    "percentile": PercentileArguments,
    "asha": AshaArguments,
    "hyperband": HyperbandArguments,
    "threshold": ThresholdArguments,
    "patient": PatientArguments,
    "wilcoxon": WilcoxonArguments,
    "curve": CurveArguments,
}
"""The arguments of each pruner, by `pruner.type`."""

NOT_WRAPPED: Final = frozenset({"none", "patient", "curve"})
"""Pruners that `patient` does not wrap."""
