"""Real trainings in torch that take a fraction of a second, on a grid of configurations.

Each configuration is trained once, when a study first comes to it, and kept as a curve in a file
(`CURVES_CACHE`, by default `build/curves`), so the second study that tries it takes no time. The
validation loss after each of 27 epochs is the objective; how long a step takes is virtual and grows
with the width of the layers.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
from benchmarks.curves.tasks import STEP_SECONDS, STEPS, Half, Task

from studyflow.simulation import Params, Training

SPACE: Final[dict[str, dict[str, Any]]] = {
    "rate": {"type": "int", "low": 0, "high": 8},
    "width": {"type": "int", "low": 0, "high": 3},
    "dropout": {"type": "int", "low": 0, "high": 2},
    "decay": {"type": "int", "low": 0, "high": 2},
}
"""Positions on grids: learning rates from 1e-4 to 1, widths from 8 to 64, dropout 0 to 0.5, weight
decay 0, 1e-4 and 1e-2."""

MARGIN: Final = 0.01
"""Distance of the optimum below the least value of the grid, in units of the scale: else whoever
finds that one configuration would win by an endless ratio."""

LOST: Final = 100.0
"""Where a loss is cut off: what is above has diverged."""

TASKS: Final[dict[str, Half]] = {
    "mlp-wine": "tune",
    "mlp-diabetes": "tune",
    "mlp-digits": "report",
    "mlp-cancer": "report",
    "lstm-sequences": "report",
}

REFERENCE: Final[dict[str, tuple[float, float]]] = {
    "mlp-wine": (0.088079, 0.917342),
    "mlp-diabetes": (0.471433, 0.264162),
    "mlp-digits": (0.09693, 1.937024),
    "mlp-cancer": (0.056782, 0.172908),
    "lstm-sequences": (0.000657, 1.390764),
}
"""Least final loss of the whole grid, and the median above it."""


def real() -> Iterator[Task]:
    """Yield the tasks; nothing is trained before a trial or the reference is asked for."""
    for name, half in TASKS.items():
        if name in REFERENCE:
            least, scale = REFERENCE[name]
            yield _task(name, half, least - MARGIN * scale, scale)


def grid() -> Iterator[dict[str, int]]:
    """Yield every configuration."""
    ranges = [range(part["low"], part["high"] + 1) for part in SPACE.values()]
    for values in product(*ranges):
        yield dict(zip(SPACE, values, strict=True))


def reference(name: str) -> tuple[float, float]:
    """Return the least final loss of the whole grid and the median above it; trains all of it."""
    finals = [curve_of(name, params)[-1] for params in grid()]
    return min(finals), float(np.median(finals)) - min(finals)


def _task(name: str, half: Half, optimum: float, scale: float) -> Task:
    def train(params: Params, _seed: int) -> Training:
        return Training(curve_of(name, params), _step_seconds(params))

    mean_seconds = STEPS * float(np.mean([_step_seconds(params) for params in grid()]))
    return Task(
        name,
        "real",
        half,
        SPACE,
        train,
        lambda params: curve_of(name, params)[-1],
        optimum,
        scale,
        mean_seconds,
    )


def _step_seconds(params: Params) -> float:
    return STEP_SECONDS * (0.5 + 2.0 ** (int(params["width"]) - 3))


# ---- curves, kept --------------------------------------------------------------------------------


def curve_of(name: str, params: Params) -> list[float]:
    """Return the validation loss after each epoch, trained now if that was never done."""
    key = "-".join(str(int(params[n])) for n in SPACE)
    known = _known(name)
    if key not in known:
        known[key] = _trained(name, params)
        path = _path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps([key, known[key]]) + "\n")
    return known[key]


def _path(name: str) -> Path:
    return Path(os.environ.get("CURVES_CACHE", "build/curves")) / f"{name}.jsonl"


@cache
def _known(name: str) -> dict[str, list[float]]:
    path = _path(name)
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(json.loads(line) for line in lines)


# ---- trainings -----------------------------------------------------------------------------------


def _trained(name: str, params: Params) -> list[float]:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    rate = 10 ** (-4 + 0.5 * int(params["rate"]))
    width = 8 * 2 ** int(params["width"])
    dropout = 0.25 * int(params["dropout"])
    decay = (0.0, 1e-4, 1e-2)[int(params["decay"])]
    train_x, train_y, test_x, test_y, n_classes = _data(name)
    make = _lstm if name.startswith("lstm") else _mlp
    model = make(train_x.shape[-1], width, dropout, n_classes or 1)
    loss_of: Callable[..., Any] = (
        torch.nn.functional.cross_entropy if n_classes else torch.nn.functional.mse_loss
    )
    optimizer: Any
    if name.startswith("lstm"):
        optimizer = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    order, losses = torch.Generator().manual_seed(0), []
    for _ in range(STEPS):
        model.train()
        for rows in torch.split(torch.randperm(len(train_x), generator=order), 64):
            optimizer.zero_grad()
            loss = loss_of(model(train_x[rows]), train_y[rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        model.eval()
        with torch.no_grad():
            value = float(loss_of(model(test_x), test_y))
        losses.append(round(min(value, LOST), 6) if math.isfinite(value) else LOST)
    return losses


def _mlp(n_features: int, width: int, dropout: float, n_outputs: int) -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Linear(n_features, width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(width, n_outputs),
    )


def _lstm(n_features: int, width: int, dropout: float, n_outputs: int) -> Any:
    from torch import nn

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = nn.LSTM(n_features, width, batch_first=True)
            self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, n_outputs))

        def forward(self, x: Any) -> Any:
            return self.head(self.recurrent(x)[0][:, -1])

    return Last()


@lru_cache(maxsize=8)
def _data(name: str) -> tuple[Any, Any, Any, Any, int]:
    """Return what to train on and to test on, scaled, and the number of classes; 0 for numbers."""
    import torch

    kind = name.partition("-")[2]
    x, y, n_classes = _sequences() if kind == "sequences" else _table(kind)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[: int(0.6 * len(x))], order[int(0.6 * len(x)) :]
    center, spread = x[train].mean(axis=0), x[train].std(axis=0)
    x = (x - center) / np.maximum(spread, 0.1 * np.median(spread))
    dtype = torch.long if n_classes else torch.float32
    features, targets = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=dtype)
    if not n_classes:
        targets = targets[:, None]
    return features[train], targets[train], features[test], targets[test], n_classes


def _table(kind: str) -> tuple[Any, Any, int]:
    from sklearn import datasets

    loaders: Mapping[str, Any] = {"cancer": datasets.load_breast_cancer}
    x, y = loaders.get(kind, getattr(datasets, f"load_{kind}", None))(return_X_y=True)
    x = np.asarray(x, dtype=float)[:900]
    y = np.asarray(y)[:900]
    if kind == "diabetes":
        return x, (y - y.mean()) / y.std(), 0
    return x, y, int(y.max()) + 1


def _sequences() -> tuple[Any, Any, int]:
    """Return noisy waves of 24 steps: which of four frequencies leads, and it may change midway."""
    draw = np.random.default_rng(7)
    labels = draw.integers(4, size=600)
    time = np.arange(24) / 24
    phase = draw.random((600, 1)) * 2 * math.pi
    waves = np.sin(2 * math.pi * (1 + labels[:, None]) * time + phase)
    others = np.sin(2 * math.pi * (1 + draw.integers(4, size=(600, 1))) * time + 2 * phase)
    waves[:, :8] = others[:, :8]
    return (waves + 0.2 * draw.standard_normal(waves.shape))[:, :, None], labels, 4
