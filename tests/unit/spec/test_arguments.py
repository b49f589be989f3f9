"""The tables of arguments agree with the installed Optuna, and importing them needs none of it."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings
from typing import Any

import optuna
import pytest

from studyflow.samplers.botorch import BoTorchSampler
from studyflow.spec import PrunerSpec, SamplerSpec
from studyflow.spec.arguments import PRUNER_ARGUMENTS, SAMPLER_ARGUMENTS
from studyflow.spec.models import PrunerName, SamplerName

SAMPLERS: dict[str, Any] = {
    "gp": optuna.samplers.GPSampler,
    "tpe": optuna.samplers.TPESampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
    "qmc": optuna.samplers.QMCSampler,
    "random": optuna.samplers.RandomSampler,
    "grid": optuna.samplers.GridSampler,
}
PRUNERS: dict[str, Any] = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "asha": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "threshold": optuna.pruners.ThresholdPruner,
    "patient": optuna.pruners.PatientPruner,
    "wilcoxon": optuna.pruners.WilcoxonPruner,
    "curve": optuna.pruners.NopPruner,
}
CASES = [(SAMPLER_ARGUMENTS[n], c) for n, c in SAMPLERS.items()]
CASES += [(PRUNER_ARGUMENTS[n], c) for n, c in PRUNERS.items()]


@pytest.mark.parametrize(("arguments", "optuna_class"), CASES)
def test_arguments_have_the_names_and_defaults_of_optuna(arguments: Any, optuna_class: Any) -> None:
    signature = inspect.signature(optuna_class).parameters
    for name, info in arguments.model_fields.items():
        if name in ("wrapped", "variant"):  # `wrapped_pruner` in Optuna; and what is not a pruner's
            continue
        assert name in signature
        if info.is_required():
            assert signature[name].default is inspect.Parameter.empty
        else:
            assert info.default == signature[name].default
        assert info.description


def test_the_arguments_of_our_sampler_have_its_names_and_limits() -> None:
    signature = inspect.signature(BoTorchSampler).parameters
    fields = SAMPLER_ARGUMENTS["botorch"].model_fields

    # `cost_aware` is about the budget of the study, which the sampler is given by `cost_budget`.
    assert set(fields) - {"cost_aware"} <= set(signature)
    assert fields["ask_seconds"].default == signature["ask_seconds"].default


def test_the_tables_hold_every_type() -> None:
    assert set(SAMPLER_ARGUMENTS) == set(SamplerName.__args__)  # type: ignore[attr-defined]
    assert set(PRUNER_ARGUMENTS) == set(PrunerName.__args__)  # type: ignore[attr-defined]
    assert SamplerSpec().type == "botorch"
    assert PrunerSpec().type == "none"


def test_what_the_tables_allow_optuna_allows() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental features
        optuna.samplers.TPESampler(group=True, multivariate=None)
        optuna.samplers.CmaEsSampler(popsize=2, sigma0=0.1)
        optuna.samplers.NSGAIISampler(population_size=2, mutation_prob=0.0)
        optuna.samplers.QMCSampler(qmc_type="halton", scramble=True, seed=0)
        optuna.pruners.SuccessiveHalvingPruner(min_resource="auto", reduction_factor=2)
        optuna.pruners.HyperbandPruner(max_resource="auto", bootstrap_count=0)
        optuna.pruners.ThresholdPruner(lower=1.0, upper=1.0)
        optuna.pruners.PatientPruner(None, patience=0)


def test_checking_a_study_imports_neither_optuna_nor_torch() -> None:
    code = (
        "import sys, studyflow.spec as s; s.find_problems('name: a'); s.json_schema();"
        "sys.exit(bool({'optuna', 'torch', 'numpy'} & sys.modules.keys()))"
    )

    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
