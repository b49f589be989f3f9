"""Maximise 1 - x² - (y - 1)², whose best value is known: 1, at x = 0 and y = 1.

The smallest script a study can run. It needs nothing but studyflow, and it also runs alone.
"""

from __future__ import annotations

from typing import Any

from studyflow import sdk


def objective(x: float, y: float) -> float:
    return 1 - x**2 - (y - 1) ** 2


def main() -> None:
    # The defaults are for running alone; inside a study, the study says what to evaluate.
    trial = sdk.current_trial(defaults={"x": 1.0, "y": 0.0})
    params: dict[str, Any] = trial.params
    sdk.finish(value=objective(**params))


if __name__ == "__main__":
    main()
