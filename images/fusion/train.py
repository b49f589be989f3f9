"""Train a CNN and an LSTM on the same maps, joined in fully connected layers, to tell four signals.

Alone, `python train.py` trains with the defaults of `Hyperparameters`. Inside a study the same
script takes its parameters from the trial, reports the losses and the error of every epoch, ends
early when the study asks for it, and keeps the weights of its best epoch.
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

N_CHANNELS, SIZE = 5, 64
KINDS = ("tone", "chirp", "bursts", "two tones")
N_TRAIN, N_VALIDATION = 512, 256
NOISE = 0.35
"""Standard deviation of the noise; that of a signal is 0.7."""

DATA_SEED = 0


@dataclass(frozen=True)
class Hyperparameters:
    """What the study searches, and the epochs. One that is not listed fails the trial at once."""

    conv1_channels: int = 32
    conv2_channels: int = 64
    kernel_size: int = 3
    use_leaky_relu: bool = False
    dropout_rate: float = 0.5
    lstm_hidden: int = 128
    lstm_layers: int = 1
    fc1_units: int = 256
    learning_rate: float = 1e-3
    batch_size: int = 32
    optimizer: str = "adam"
    weight_decay: float = 1e-4
    epochs: int = 12
    seed: int = 0
    """The same for every trial of a study: two trials then differ by their parameters and not by
    their luck, and one that is attempted again, because its node was lost, returns the same value.
    `studyflow retrain` gives others."""


class Split(NamedTuple):
    x: Tensor
    """Maps, `n x N_CHANNELS x SIZE x SIZE`."""
    y: Tensor
    """Kind, `n`, from 0."""


def make_signals(kinds: Tensor, generator: torch.Generator) -> Tensor:
    """Return one signal of each kind for each channel, without noise, `n x N_CHANNELS x SIZE²`.

    The channels of a sample share frequency and kind; each has its own phase, delay and strength.
    """
    n = len(kinds)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    t = torch.linspace(0.0, 1.0, SIZE**2)
    frequency = uniform(60.0, 200.0, n, 1, 1)
    phase = uniform(0.0, 2 * math.pi, n, N_CHANNELS, 1)
    shift = uniform(0.0, 1.0, n, N_CHANNELS, 1)
    strength = uniform(0.6, 1.4, n, N_CHANNELS, 1)

    signals = torch.empty(n, N_CHANNELS, SIZE**2)
    for kind, name in enumerate(KINDS):
        of_kind = kinds == kind
        f, p = frequency[of_kind], phase[of_kind]
        moved = (t + shift[of_kind]) % 1.0  # along the signal, and around
        match name:
            case "tone":
                shape = torch.sin(2 * math.pi * f * t + p)
            case "chirp":  # five times as fast at its end as at its beginning
                shape = torch.sin(2 * math.pi * f * (0.5 * moved + moved.square()) + p)
            case "bursts":
                bursts = torch.sin(2 * math.pi * 4 * moved) > 0.1
                shape = 1.5 * torch.sin(2 * math.pi * f * t + p) * bursts
            case _:
                shape = 0.7 * (
                    torch.sin(2 * math.pi * 0.7 * f * t + p)
                    + torch.sin(2 * math.pi * 2.5 * f * t + p)
                )
        signals[of_kind] = shape
    return strength * signals


def to_maps(signals: Tensor) -> Tensor:
    """Return signals as images: 64 pieces of 64 values, one below the other."""
    return signals.reshape(*signals.shape[:-1], SIZE, SIZE)


def load_data() -> tuple[Split, Split]:
    """Return the training and the validation part, the same for every trial."""
    generator = torch.Generator().manual_seed(DATA_SEED)
    n = N_TRAIN + N_VALIDATION
    kinds = torch.arange(n) % len(KINDS)  # as many of each kind in both parts
    signals = make_signals(kinds, generator)
    x = to_maps(signals + NOISE * torch.randn(signals.shape, generator=generator))
    x = (x - x[:N_TRAIN].mean()) / x[:N_TRAIN].std()
    return Split(x[:N_TRAIN], kinds[:N_TRAIN]), Split(x[N_TRAIN:], kinds[N_TRAIN:])


class Fusion(nn.Module):
    """A convolutional and a recurrent view of the same map, joined in fully connected layers."""

    def __init__(self, hp: Hyperparameters) -> None:
        super().__init__()

        def activation() -> nn.Module:
            return nn.LeakyReLU(0.1) if hp.use_leaky_relu else nn.ReLU()

        padding = hp.kernel_size // 2
        self.cnn = nn.Sequential(
            nn.Conv2d(N_CHANNELS, hp.conv1_channels, hp.kernel_size, stride=2, padding=padding),
            nn.BatchNorm2d(hp.conv1_channels),
            activation(),
            nn.MaxPool2d(2),
            nn.Conv2d(hp.conv1_channels, hp.conv2_channels, hp.kernel_size, padding=padding),
            nn.BatchNorm2d(hp.conv2_channels),
            activation(),
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
        )
        # The LSTM reads the map from top to bottom, at each step two rows of all channels at half
        # their resolution. That costs half of what a step for each row does.
        self.lstm = nn.LSTM(
            N_CHANNELS * SIZE,
            hp.lstm_hidden,
            num_layers=hp.lstm_layers,
            batch_first=True,
            # torch warns of a dropout that has no layer to stand behind.
            dropout=hp.dropout_rate if hp.lstm_layers > 1 else 0.0,
        )
        self.head = nn.Sequential(
            nn.Linear(16 * hp.conv2_channels + hp.lstm_hidden, hp.fc1_units),
            activation(),
            nn.Dropout(hp.dropout_rate),
            nn.Linear(hp.fc1_units, len(KINDS)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return one score for each kind, `n x 4`."""
        rows = nn.functional.avg_pool2d(x, (1, 2)).transpose(1, 2)
        hidden, _ = self.lstm(rows.reshape(len(x), SIZE // 2, N_CHANNELS * SIZE))
        joined = torch.cat([self.cnn(x), hidden.mean(dim=1)], dim=1)
        scores: Tensor = self.head(joined)
        return scores


def make_optimizer(model: nn.Module, hp: Hyperparameters) -> torch.optim.Optimizer:
    """Return the optimiser by name."""
    if hp.optimizer == "adam":
        return torch.optim.Adam(
            model.parameters(), lr=hp.learning_rate, weight_decay=hp.weight_decay
        )
    if hp.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=hp.learning_rate, momentum=0.9, weight_decay=hp.weight_decay
        )
    raise ValueError(f"optimizer must be adam or sgd, not {hp.optimizer!r}")


def train_epoch(
    model: Fusion, optimizer: torch.optim.Optimizer, data: Split, batch_size: int
) -> float:
    """Train on every sample once, in random order; return the mean cross entropy on the way."""
    model.train()
    total = torch.zeros((), device=data.x.device)
    for rows in torch.split(torch.randperm(len(data.x)).to(data.x.device), batch_size):
        loss = nn.functional.cross_entropy(model(data.x[rows]), data.y[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.detach() * len(rows)  # no .item(): it would make a GPU wait at every batch
    return total.item() / len(data.x)


@torch.no_grad()
def evaluate(model: Fusion, data: Split) -> tuple[float, float]:
    """Return mean cross entropy and accuracy, without dropout."""
    model.eval()
    scores = torch.cat([model(part) for part in torch.split(data.x, 120)])
    loss = nn.functional.cross_entropy(scores, data.y).item()
    return loss, (scores.argmax(dim=1) == data.y).double().mean().item()


def main() -> None:
    # Trials share the machine's cores, and a pod sees all cores of its node rather than its own
    # share: one thread each.
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    trial = sdk.current_trial()
    params: dict[str, Any] = trial.params  # empty outside a study: the defaults stand
    hp = Hyperparameters(**params)
    torch.manual_seed(hp.seed)
    epochs = hp.epochs if trial.budget is None else min(hp.epochs, trial.budget)

    train_data, val_data = (Split(x.to(device), y.to(device)) for x, y in load_data())
    model = Fusion(hp).to(device)
    optimizer = make_optimizer(model, hp)

    best_error, best_loss = math.inf, math.inf
    best_state: dict[str, Tensor] = {}
    for epoch in range(epochs):
        train_loss = train_epoch(model, optimizer, train_data, hp.batch_size)
        val_loss, accuracy = evaluate(model, val_data)
        # What the study prunes by and MLflow draws; outside a study it is printed.
        sdk.report(epoch, val_error=1 - accuracy, val_loss=val_loss, train_loss=train_loss)
        if (1 - accuracy, val_loss) < (best_error, best_loss):
            best_error, best_loss = 1 - accuracy, val_loss
            # Copies: the tensors of state_dict() are the model's own and go on changing.
            best_state = {name: value.clone() for name, value in model.state_dict().items()}
        if sdk.should_stop():
            break

    # A folder of its own: in a pod only /tmp may be writable.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt")
        torch.save(best_state, path)
        sdk.artifact(path)
    # Those of the best epoch, because that is the model that was kept.
    sdk.finish(val_error=best_error, val_accuracy=1 - best_error, val_loss=best_loss)


if __name__ == "__main__":
    main()
