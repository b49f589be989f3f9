"""A stand-in for a training: the loss falls from epoch to epoch, faster with good parameters.

Replace `train` by your own. The script also runs alone: python train.py
"""

from __future__ import annotations

import math
from typing import Any

from studyflow import sdk


def train(learning_rate: float = 0.001, dropout: float = 0.2, epochs: int = 20) -> float:
    """Return the validation loss after the last epoch."""
    speed = math.exp(-((math.log10(learning_rate) + 2.5) ** 2))
    loss = 1.0
    for epoch in range(epochs):
        loss = (0.1 + dropout**2 / 4) + 0.9 * math.exp(-0.2 * speed * epoch) + (0.3 - dropout) ** 2
        sdk.report(epoch, loss=loss)  # after each epoch: curves in MLflow, used for pruning
    return loss


if __name__ == "__main__":
    params: dict[str, Any] = (
        sdk.current_trial().params
    )  # what to try, by name; empty if the script runs alone
    sdk.finish(loss=train(**params))  # the result, by the name that study.yaml gives it
