"""What Optuna takes for a parameter, asked by what it offers in public."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import create_trial


def is_accepted(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether Optuna takes a trial whose only parameter has this value."""
    try:
        create_trial(value=0.0, params={"p": value}, distributions={"p": distribution})
    except ValueError:
        return False
    return True
