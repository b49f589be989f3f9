"""Train a small CNN + LSTM on generated sequences, under a study or alone.

Alone, `python train.py` trains with the defaults of `Hyperparameters`. Inside a study the same
script takes its parameters from the trial, reports the losses of every epoch, ends early when the
study asks for it, and keeps the weights of its best epoch.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from studyflow import sdk

N_SAMPLES, N_STEPS, N_FEATURES = 2000, 20, 10
TRAIN_FRACTION = 0.8

DATA_SEED = 0


@dataclass(frozen=True)
class Hyperparameters:
    """What the study searches. A parameter that is not listed here fails the trial at once."""

    learning_rate: float = 1e-3
    batch_size: int = 32
    cnn_filters: int = 32
    kernel_size: int = 3
    lstm_units: int = 64
    dropout: float = 0.2
    epochs: int = 30
    seed: int = 0
    """The same for every trial of a study: two trials then differ by their parameters and not by
    their luck, and one that is attempted again, because its node was lost, returns the same value.
    `studyflow retrain` gives others."""


class Split(NamedTuple):
    x: Tensor
    """Sequences, `n x N_STEPS x N_FEATURES`."""
    y: Tensor
    """Targets, `n`."""


def target(x: Tensor) -> Tensor:
    """Return what to predict: the energy of feature 0 over the last three steps, and a wave."""
    return x[:, -3:, 0].square().sum(dim=1) + x[:, -1, 1].sin()


def to_unit_range(values: Tensor) -> Tensor:
    """Return the values scaled to [0, 1]; the last dimension is scaled feature by feature."""
    flat = values.reshape(-1, values.shape[-1])
    low, high = flat.min(dim=0).values, flat.max(dim=0).values
    return (values - low) / (high - low)


def load_data() -> tuple[Split, Split]:
    """Return the training and the validation part, the same for every trial."""
    generator = torch.Generator().manual_seed(DATA_SEED)
    raw = torch.randn(N_SAMPLES, N_STEPS, N_FEATURES, generator=generator)
    # With measured data, take the bounds from the training part alone, so that nothing about the
    # validation part leaks. Both parts of this data set are one draw from a known distribution.
    x = to_unit_range(raw)
    y = to_unit_range(target(raw).unsqueeze(1)).squeeze(1)
    n_train = int(TRAIN_FRACTION * N_SAMPLES)  # samples are independent: no shuffle is needed
    return Split(x[:n_train], y[:n_train]), Split(x[n_train:], y[n_train:])


class CnnLstm(nn.Module):
    """Convolution, ReLU, max-pooling, dropout, LSTM, and a linear layer on the LSTM's last step."""

    def __init__(self, hp: Hyperparameters) -> None:
        super().__init__()
        self.features = nn.Sequential(
            # Padding on the left only keeps all steps whatever the kernel size. Without it, an even
            # kernel leaves an odd number of steps, and the pooling drops the last one.
            nn.ConstantPad1d((hp.kernel_size - 1, 0), 0.0),
            nn.Conv1d(N_FEATURES, hp.cnn_filters, hp.kernel_size),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Dropout(hp.dropout),
        )
        self.lstm = nn.LSTM(hp.cnn_filters, hp.lstm_units, batch_first=True)
        self.head = nn.Linear(hp.lstm_units, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return one prediction for each sequence of `n x N_STEPS x N_FEATURES`, shape `n`."""
        steps = self.features(x.transpose(1, 2)).transpose(1, 2)  # convolutions want channels first
        hidden, _ = self.lstm(steps)
        prediction: Tensor = self.head(hidden[:, -1]).squeeze(1)
        return prediction


def train_epoch(
    model: CnnLstm, optimizer: torch.optim.Optimizer, data: Split, batch_size: int
) -> float:
    """Train on every sample once, in random order; return the mean squared error on the way."""
    model.train()
    total = torch.zeros((), device=data.x.device)
    for rows in torch.split(torch.randperm(len(data.x)).to(data.x.device), batch_size):
        loss = nn.functional.mse_loss(model(data.x[rows]), data.y[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.detach() * len(rows)  # no .item(): it would make a GPU wait at every batch
    return total.item() / len(data.x)


@torch.no_grad()
def evaluate(model: CnnLstm, data: Split) -> float:
    """Return the mean squared error without dropout."""
    model.eval()
    return nn.functional.mse_loss(model(data.x), data.y).item()


def main() -> None:
    # Trials share the machine's cores, and a pod sees all cores of its node rather than its own
    # share. For a model this small a second thread costs more than it brings.
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    trial = sdk.current_trial()
    params: dict[str, Any] = trial.params  # empty outside a study: the defaults stand
    hp = Hyperparameters(**params)
    torch.manual_seed(hp.seed)
    epochs = hp.epochs if trial.budget is None else min(hp.epochs, trial.budget)

    # The whole data set is 1.6 MB: it moves to the device once, and no loader process is needed.
    train_data, val_data = (Split(x.to(device), y.to(device)) for x, y in load_data())
    model = CnnLstm(hp).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=hp.learning_rate)

    best_loss = math.inf
    best_state: dict[str, Tensor] = {}
    for epoch in range(epochs):
        train_loss = train_epoch(model, optimizer, train_data, hp.batch_size)
        val_loss = evaluate(model, val_data)
        # What the study prunes by and MLflow draws; outside a study it is printed.
        sdk.report(epoch, train_loss=train_loss, val_loss=val_loss)
        if val_loss < best_loss:
            best_loss = val_loss
            # Copies: the tensors of state_dict() are the model's own and go on changing.
            best_state = {name: value.clone() for name, value in model.state_dict().items()}
        if sdk.should_stop():
            break

    # A folder of its own: trials that run side by side may share the working directory, and in a
    # pod only /tmp may be writable.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt")
        torch.save(best_state, path)
        sdk.artifact(path)
    # The loss of the best epoch, because that is the model that was kept.
    sdk.finish(val_loss=best_loss)


if __name__ == "__main__":
    main()
