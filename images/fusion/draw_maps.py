"""Draw what the network sees: one map of each kind, three of its five channels, and its signal.

python images/fusion/draw_maps.py
"""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType

import click
import torch
from PIL import Image

from studyflow.reports import style

HERE = Path(__file__).parent
CHANNELS = 3
SHOWN = 512
"""Values of each signal that the left column has room for."""


def load_training() -> ModuleType:
    """Return `train.py` of this folder, whatever else is called so."""
    spec = importlib.util.spec_from_file_location("fusion_train", HERE / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up here
    spec.loader.exec_module(module)
    return module


def draw(train: ModuleType, seed: int) -> bytes:
    """Return the picture as a PNG file."""
    generator = torch.Generator().manual_seed(seed)
    signals = train.make_signals(torch.arange(len(train.KINDS)), generator)
    noisy = signals + train.NOISE * torch.randn(signals.shape, generator=generator)
    maps = train.to_maps(noisy)

    figure = style.new_figure(7.0, 6.2)
    style.set_title(
        figure,
        "Four kinds of signals, and the maps they become",
        "Left: the beginning of channel 1, without noise. Right: channels 1 to 3 with it",
    )
    grid = figure.subplots(len(train.KINDS), 1 + CHANNELS, width_ratios=(1.6, 1, 1, 1))
    for row, kind in zip(range(len(train.KINDS)), train.KINDS, strict=True):
        axes = grid[row]
        axes[0].plot(signals[row, 0, :SHOWN].numpy(), color=style.COMPLETE, lw=1.0)
        axes[0].set_ylabel(kind, size=style.LABEL_SIZE, color=style.INK)
        axes[0].set_ylim(-2.2, 2.2)
        style.dress(axes[0], grid="none")
        axes[0].set_yticks([])
        if row < len(train.KINDS) - 1:
            axes[0].set_xticks([])
        for channel in range(CHANNELS):
            place = axes[1 + channel]
            place.imshow(maps[row, channel].numpy(), cmap="cividis", vmin=-2, vmax=2)
            place.set_axis_off()
    grid[-1][0].set_xlabel("sample", size=style.LABEL_SIZE, color=style.INK)
    style.describe(figure, "A signal and three maps of each of the four kinds")
    return style.png(figure)


@click.command()
@click.option("--seed", default=2, help="Draws other signals.")
@click.option("--output", default=HERE / "maps.png", type=click.Path(path_type=Path))
def main(seed: int, output: Path) -> None:
    """Draw the maps."""
    picture = Image.open(io.BytesIO(draw(load_training(), seed)))
    # Noise is all that a PNG cannot compress; 32 colours are enough for it.
    picture.convert("RGB").quantize(32).save(output, optimize=True)
    print(output)


if __name__ == "__main__":
    main()
