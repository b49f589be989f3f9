"""Answer how `scipy.optimize.minimize` gets derivatives: one fit, five gradients, one table.

    python images/epidemic/gradients.py

The fit is L-BFGS-B from the start that `train.py` names, within its bounds. With `jac=None`,
`"2-point"`, `"3-point"` and `"cs"` SciPy calls the loss at more points; `autograd` is torch's,
which walks back through every step of the Runge-Kutta integrator. The gradients are compared with
central differences in arithmetic of 60 digits.
"""

from __future__ import annotations

import cmath
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import torch
from make_data import load_model
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

Array = NDArray[np.float64]

model = load_model()
NAMES = list(model.BOUNDS)
BOUNDS = list(model.BOUNDS.values())
START = np.array(list(asdict(model.Parameters()).values()))
METHODS = ("None", "2-point", "3-point", "cs", "autograd")
OPTIONS = {"maxiter": 1000, "maxfun": 100_000, "ftol": 1e-13, "gtol": 1e-9}
"""Tighter than SciPy's own, so that a fit ends because of its gradient and not of its patience."""

COMPLEX = SimpleNamespace(log=cmath.log, exp=cmath.exp, log1p=lambda z: cmath.log(1 + z))
TENSORS = SimpleNamespace(log=torch.log, exp=torch.exp, log1p=torch.log1p)
DIGITS = SimpleNamespace(log=mpmath.log, exp=mpmath.exp, log1p=mpmath.log1p)


class CountedLoss:
    """The loss of a data set as SciPy calls it, real or complex; counts its evaluations."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.evaluations = 0

    def __call__(self, x: NDArray[Any]) -> Any:
        """Return the loss."""
        self.evaluations += 1
        of = COMPLEX if np.iscomplexobj(x) else model.FLOATS
        return model.loss(x.tolist(), self.data, of)

    def with_gradient(self, x: Array) -> tuple[float, Array]:
        """Return the loss and its gradient by automatic differentiation: one evaluation."""
        self.evaluations += 1
        parameters = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        value = model.loss(list(parameters), self.data, TENSORS)
        (gradient,) = torch.autograd.grad(value, parameters)
        return value.item(), gradient.numpy()


def fit(
    loss: CountedLoss, start: Array, method: str, options: dict[str, Any] | None = None
) -> OptimizeResult:
    """Return SciPy's result of L-BFGS-B with a gradient by one of `METHODS`."""
    chosen = {**OPTIONS, **(options or {})}
    if method == "autograd":
        fun: Any = loss.with_gradient
        jac: Any = True
    else:
        fun = loss
        jac = None if method == "None" else method
    return minimize(fun, start, method="L-BFGS-B", jac=jac, bounds=BOUNDS, options=chosen)


def gradient(data: Any, x: Array, method: str) -> Array:
    """Return the gradient that L-BFGS-B would be given at a point."""
    if method == "autograd":
        return CountedLoss(data).with_gradient(x)[1]
    # Any gradient is small enough for it: the fit ends where it begins, and tells the gradient.
    found: Array = fit(CountedLoss(data), x, method, {"gtol": 1e12}).jac
    return found


def exact_gradient(data: Any, x: Sequence[float]) -> Array:
    """Return the gradient to all digits of a double: differences of 1e-20 with 60 digits."""
    with mpmath.workdps(60):
        h = mpmath.mpf(10) ** -20
        found = []
        for i in range(len(x)):
            sides = []
            for sign in (1, -1):
                point = [mpmath.mpf(float(v)) for v in x]
                point[i] += sign * h
                sides.append(model.loss(point, data, DIGITS))
            found.append(float((sides[0] - sides[1]) / (2 * h)))
    return np.array(found)


def relative_error(found: Array, exact: Array) -> float:
    """Return the length of the difference over the length of the exact gradient."""
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


@dataclass(frozen=True)
class Row:
    """What one way to a gradient costs and gives."""

    method: str
    error_at_start: float
    error_near_end: float
    iterations: int
    evaluations: int
    seconds: float
    final_loss: float


def compare(data: Any, near_end: Array) -> list[Row]:
    """Return one row for each method; gradients are judged at the start and at `near_end`."""
    exact = [exact_gradient(data, point) for point in (START, near_end)]
    rows = []
    for method in METHODS:
        errors = [
            relative_error(gradient(data, point, method), true)
            for point, true in zip((START, near_end), exact, strict=True)
        ]
        loss = CountedLoss(data)
        began = time.perf_counter()
        result = fit(loss, START, method)
        seconds = time.perf_counter() - began
        rows.append(
            Row(method, *errors, int(result.nit), loss.evaluations, seconds, float(result.fun))
        )
    return rows


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    data = model.load_data()
    near_end = fit(CountedLoss(data), START, "cs", {"maxiter": 15}).x
    print("jac        error at start  after 15 iterations  iterations  evaluations  seconds  loss")
    for row in compare(data, near_end):
        print(
            f"{row.method:9}  {row.error_at_start:<14.1e}  {row.error_near_end:<19.1e}  "
            f"{row.iterations:<10}  {row.evaluations:<11}  {row.seconds:<7.2f}  "
            f"{row.final_loss:.4g}"
        )


if __name__ == "__main__":
    main()
