"""Small studies in every odd condition that a report meets."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from studyflow.reports import StudyData
from studyflow.spec import StudySpec
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

START = 1_790_000_000.0
"""2026-09-21 14:13:20 UTC."""

CNN: dict[str, Any] = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "batch_size": {"type": "int", "low": 16, "high": 128, "step": 16},
    "cnn_filters": {"type": "int", "low": 16, "high": 128, "step": 16},
    "kernel_size": {"type": "int", "low": 2, "high": 7},
    "lstm_units": {"type": "int", "low": 32, "high": 256, "step": 32},
    "dropout": {"type": "float", "low": 0.0, "high": 0.6},
    "epochs": {"type": "int", "low": 5, "high": 40},
}
SMALL = {name: CNN[name] for name in ("learning_rate", "batch_size", "dropout")}
"""Three of them: matrices of seven take a second each."""
CONDITIONAL: dict[str, Any] = {
    "lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
    "momentum": {"type": "float", "low": 0.5, "high": 0.99, "when": {"optimizer": "sgd"}},
}
HOSTILE: dict[str, Any] = {
    "学习率": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "$x$_{<b>}": {"type": "float", "low": -1.0, "high": 1.0},
    "a|b`c`*d*": {"type": "categorical", "choices": ["$\\frac$", "=SUM(A1)", None, True, 3]},
    "emoji 🦄 \u202e": {"type": "int", "low": 1, "high": 10**6, "log": True},
}


_ENDS = {5: TrialState.PRUNED, 6: TrialState.FAILED}


def make_spec(space: dict[str, Any], **fields: Any) -> StudySpec:
    document: dict[str, Any] = {
        "name": "cnn-lstm",
        "objectives": [{"metric": "val_loss", "direction": "minimize"}],
        "search_space": space,
        "sampler": {"seed": 0},
        "budget": {"n_trials": 30, "max_parallel_trials": 2},
        "trial": {"command": ["python", "train.py"]},
    }
    return StudySpec.model_validate({**document, **fields})


def make_study(
    spec: StudySpec,
    count: int,
    objective: Callable[[dict[str, Any]], tuple[float, ...]] | None = None,
    *,
    end: Callable[[int], TrialState] = lambda i: _ENDS.get(i % 7, TrialState.COMPLETE),
    cause: Cause = Cause.CUDA_OOM,
    message: str = "CUDA out of memory",
) -> StudyData:
    generator = random.Random(0)
    objective = objective or (lambda params: (_bowl(spec, params),) * len(spec.objectives))
    records = []
    for i in range(count):
        params = spec.space.from_unit([generator.random() for _ in spec.space])
        values = objective(params)
        state = end(i)
        causes = {TrialState.COMPLETE: Cause.OK, TrialState.PRUNED: Cause.PRUNED}
        start = START + 50.0 * (i // 2)
        steps = 4 if state is TrialState.PRUNED else 8
        records.append(
            TrialRecord(
                number=i,
                state=state,
                params={**params, **spec.fixed},
                values=values if state is TrialState.COMPLETE else None,
                intermediate={s: values[0] + 1.0 / (s + 1) for s in range(steps)},
                cause=causes.get(state, cause) if state.is_finished else None,
                message=message if state is TrialState.FAILED else "",
                attempt=1,
                started_at=None if state is TrialState.WAITING else start,
                finished_at=start + 40.0 if state.is_finished else None,
            )
        )
    return StudyData(spec, tuple(records))


def _bowl(spec: StudySpec, params: dict[str, Any]) -> float:
    units = [spec.space[name].to_unit(value) for name, value in params.items()]
    return 0.04 + sum((u - 0.4) ** 2 / (i + 1) for i, u in enumerate(units))


def everything(state: TrialState) -> Callable[[int], TrialState]:
    return lambda i: state


EXTREME: dict[str, Any] = {
    "wide": {"type": "float", "low": -8e307, "high": 8e307},
    "decades": {"type": "float", "low": 1e-300, "high": 1e300, "log": True},
    "narrow": {"type": "float", "low": 0.0, "high": 5e-324},
    "next": {"type": "float", "low": 1.0, "high": 1.0000000000000002},
    "long": {"type": "int", "low": 0, "high": 2**53},
}


def _extremes(n: int) -> Callable[[dict[str, Any]], tuple[float, ...]]:
    values = itertools.cycle([0.5, 1e39, 5e-324, 1.7e308, 0.25, 1e172, -1.7e308, 0.75, 1e-320])
    return lambda params: tuple(next(values) for _ in range(n))


TWO = [
    {"metric": "val_loss", "direction": "minimize"},
    {"metric": "throughput", "direction": "maximize"},
]

STUDIES: dict[str, Callable[[], StudyData]] = {
    "usual": lambda: make_study(
        make_spec(CNN, fixed={"seed": 7}, stop={"target": 0.1}, enqueue=[{"dropout": 0.25}]), 30
    ),
    "no trial": lambda: make_study(make_spec(SMALL), 0),
    "one trial": lambda: make_study(make_spec(SMALL), 1),
    "two equal trials": lambda: make_study(make_spec(SMALL), 2, lambda p: (0.0,)),
    "all failed": lambda: make_study(make_spec(SMALL), 8, end=everything(TrialState.FAILED)),
    "all pruned": lambda: make_study(make_spec(SMALL), 8, end=everything(TrialState.PRUNED)),
    "all waiting": lambda: make_study(make_spec(SMALL), 3, end=everything(TrialState.WAITING)),
    "all running": lambda: make_study(make_spec(SMALL), 3, end=everything(TrialState.RUNNING)),
    "constant": lambda: make_study(make_spec(SMALL), 12, lambda p: (3.0,)),
    "conditional": lambda: make_study(make_spec(CONDITIONAL), 30),
    "hostile": lambda: make_study(
        make_spec(HOSTILE, name="<script>alert(1)</script>", description="</script>{{ 1 }}"),
        20,
        cause=Cause.USER_ERROR,
        message="<img src=x onerror=alert(2)>\x1b[31m | `$y$` \ud800",
    ),
    "two objectives": lambda: make_study(
        make_spec({"x": {"type": "float", "low": 0.0, "high": 1.0}}, objectives=TWO),
        20,
        lambda p: (p["x"] ** 2, 10 - (p["x"] - 1) ** 2),
    ),
    "three objectives": lambda: make_study(
        make_spec(SMALL, objectives=[*TWO, {"metric": "size", "direction": "minimize"}]), 12
    ),
    "one choice": lambda: make_study(
        make_spec({"only": {"type": "categorical", "choices": ["a"]}}), 10
    ),
    "one parameter": lambda: make_study(
        make_spec({"x": {"type": "float", "low": 2.0, "high": 4.0}}), 10
    ),
    "fixed range": lambda: make_study(
        make_spec(
            {
                "x": {"type": "float", "low": 2.0, "high": 2.0},
                "y": {"type": "int", "low": 0, "high": 10**9},
            }
        ),
        10,
    ),
    "thirty parameters": lambda: make_study(
        make_spec({f"parameter_{i}": {"type": "float", "low": 0, "high": 1} for i in range(30)}), 12
    ),
    "outliers": lambda: make_study(
        make_spec(SMALL), 20, lambda p: (1e300 if p["batch_size"] > 96 else -p["dropout"],)
    ),
    "extreme floats": lambda: make_study(make_spec(EXTREME), 14, _extremes(1)),
    "extreme floats, two objectives": lambda: make_study(
        make_spec(EXTREME, objectives=TWO), 14, _extremes(2)
    ),
    "decades": lambda: make_study(
        make_spec(SMALL), 12, lambda p: (math.exp(30 * p["dropout"] - 20),)
    ),
}


def with_suggestions(
    data: StudyData, off: Any = lambda i: 0.5, first: int = 6, **fields: Any
) -> StudyData:
    """Give each trial from `first` a prediction that is `off(i)` standard deviations too low."""
    records = []
    for record in data.records:
        if record.number < first:
            records.append(replace(record, suggestion={"rung": "startup", "objectives": []}))
            continue
        values = record.values or (1.0,) * len(data.metrics)
        objectives = [
            {
                "predicted_mean": value - 0.1 * off(record.number),
                "predicted_sd": 0.08,
                "noise_sd": 0.06,
                "lengthscales": {
                    name: 0.02 * 3.0 ** (i + record.number % 2) for i, name in enumerate(data.space)
                },
                "warp": "none",
                **fields,
            }
            for value in values
        ]
        records.append(replace(record, suggestion={"rung": "model", "objectives": objectives}))
    return StudyData(data.spec, tuple(records))


def whole(count: int, **fields: Any) -> StudyData:
    return make_study(make_spec(SMALL, **fields), count, end=everything(TrialState.COMPLETE))
