"""The two panels of a replay's frame: what the model expects, and the acquisition."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from studyflow.reports import parameter_axis, style, wording
from studyflow.reports.data import StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.spec.parameters import CategoricalParameter, Parameter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from studyflow.samplers.arrays import FloatArray
    from studyflow.samplers.model_surface import ModelSurface

LEAST_SHARE: Final = 1e-6
"""Smallest acquisition that is told from nothing, as a share of the largest in the space."""

COLOURS: Final = 200
"""Colours of a frame: half the size of true colour, and no eye sees it."""

_SHARE_MAP: Final = "cividis"
_SHARE_TICKS: Final = (1.0, 1e-2, 1e-4, 1e-6)
_DOT: Final[dict[str, Any]] = {"s": 26, "c": style.INK, "edgecolors": "white", "linewidths": 0.6}
_LIGHT_DOT: Final[dict[str, Any]] = {
    "s": 22,
    "c": "white",
    "edgecolors": style.INK,
    "linewidths": 0.8,
}
_RING: Final[dict[str, Any]] = {"s": 34, "c": "none", "edgecolors": "white", "linewidths": 1.4}
_STAR: Final[dict[str, Any]] = {
    "s": 150,
    "c": style.BEST,
    "marker": "*",
    "edgecolors": "white",
    "linewidths": 1.0,
}
_PLUS: Final[dict[str, Any]] = {
    "s": 200,
    "c": "white",
    "marker": "P",
    "edgecolors": style.INK,
    "linewidths": 1.2,
}


@dataclass(frozen=True)
class Marks:
    """Where the trials of a moment stand: a position along each parameter, and perhaps a value."""

    done: Sequence[tuple[float, ...]]
    running: Sequence[tuple[float, ...]]
    best: Sequence[tuple[float, ...]]
    following: Sequence[tuple[float, ...]]
    """The trial that was suggested then, if any."""


class Panels(ABC):
    """Two panels side by side or one above the other, with the marks of trials."""

    def __init__(
        self,
        data: StudyData,
        parameters: Sequence[Parameter],
        names: Sequence[str],
        scale: ObjectiveScale,
    ) -> None:
        self.data, self.parameters, self.names, self.scale = data, parameters, names, scale
        self.model_title = f"expected {style.label(data.metrics[0])}"
        self.figure, self.model_axes, self.promise_axes = self._make()
        style.set_title(self.figure, " ", " ")
        self._title, self._note = self.figure.texts[-2:]
        self._marks: list[Any] = []
        self._has_layout = False

    @abstractmethod
    def _make(self) -> tuple[Figure, Axes, Axes]: ...

    @abstractmethod
    def show(self, units: Sequence[FloatArray], seen: ModelSurface, promise: FloatArray) -> None:
        """Draw the model and the acquisition function of a moment over those of the last one."""

    @abstractmethod
    def mark(self, marks: Marks) -> None:
        """Draw the trials of a moment instead of those of the last one."""

    def name_panels(self, seen: ModelSurface) -> None:
        """Write above each panel what it shows."""
        for axes, text in (
            (self.model_axes, self.model_title),
            (self.promise_axes, f"{_promised(seen)}, as a share of the largest"),
        ):
            axes.set_title(text, loc="left", size=style.LABEL_SIZE, color=style.INK)

    def keep(self, *artists: Any) -> None:
        """Remember marks that the next moment replaces."""
        self._marks += artists

    def clear(self) -> None:
        """Remove the last moment's marks."""
        while self._marks:
            self._marks.pop().remove()

    def png(self, title: str, note: str) -> bytes:
        """Return the figure with these words above it."""
        from PIL import Image

        self._title.set_text(title)
        self._note.set_text(note)
        if not self._has_layout:
            style.png(self.figure)  # places everything once, for all frames to agree
            self.figure.set_layout_engine("none")
            self._has_layout = True
        picture = Image.open(io.BytesIO(style.png(self.figure))).convert("RGB")
        out = io.BytesIO()
        picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            out, format="PNG", optimize=True
        )
        return out.getvalue()


class Maps(Panels):
    """Two parameters: colours for the expected value and for the promise."""

    def _make(self) -> tuple[Figure, Axes, Axes]:
        figure = style.new_figure(10.0, 4.6)
        left, right = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes in (left, right):
            style.dress(axes, grid="none")
            parameter_axis.set_parameter(axes, "x", self.parameters[0], most=4)
            parameter_axis.set_parameter(axes, "y", self.parameters[1], most=5)
            axes.set_xlabel(style.axis_name(self.names[0], 3.4), size=style.LABEL_SIZE)
        left.set_ylabel(style.axis_name(self.names[1], 3.0), size=style.LABEL_SIZE)
        self._meshes: list[Any] = []
        return figure, left, right

    def show(self, units: Sequence[FloatArray], seen: ModelSurface, promise: FloatArray) -> None:
        """Draw the model and the acquisition function of a moment over those of the last one."""
        self.name_panels(seen)
        shape = (len(units[0]), len(units[1]))
        pictures = [seen.mean.reshape(shape).T, promise.reshape(shape).T]
        if not self._meshes:
            self._first(units, pictures)
        for mesh, picture in zip(self._meshes, pictures, strict=True):
            mesh.set_array(picture)

    def _first(self, units: Sequence[FloatArray], pictures: Sequence[FloatArray]) -> None:
        from matplotlib.colors import LogNorm, Normalize

        edges = [
            np.array([parameter_axis.at_unit(p, i / len(u)) for i in range(len(u) + 1)])
            for p, u in zip(self.parameters, units, strict=True)
        ]
        scale = self.scale
        norms = [
            (LogNorm if scale.is_log else Normalize)(scale.low, scale.high),
            LogNorm(LEAST_SHARE, 1.0),
        ]
        maps = [style.value_map(self.data.spec.directions[0]), _SHARE_MAP]
        for axes, picture, norm, colours in zip(
            (self.model_axes, self.promise_axes), pictures, norms, maps, strict=True
        ):
            mesh = axes.pcolormesh(*edges, picture, norm=norm, cmap=colours, rasterized=True)
            self._meshes.append(mesh)
        for axes, mesh in zip((self.model_axes, self.promise_axes), self._meshes, strict=True):
            style.colour_bar(self.figure, mesh, "", ax=axes, pad=0.02)
        bars = self.figure.axes[-2:]
        ticks = scale.ticks(6)
        bars[0].yaxis.set_ticks(ticks, [wording.number(t, 4) for t in ticks])
        bars[1].yaxis.set_ticks(list(_SHARE_TICKS), [wording.number(t) for t in _SHARE_TICKS])
        for bar in bars:
            bar.yaxis.set_ticks([], minor=True)
        self.promise_axes.tick_params(labelleft=False)

    def mark(self, marks: Marks) -> None:
        """Draw the trials of a moment instead of those of the last one."""
        self.clear()
        for axes in (self.model_axes, self.promise_axes):
            for points, mark in (
                (marks.done, _LIGHT_DOT),
                (marks.running, _RING),
                (marks.best, _STAR),
                (marks.following, _PLUS),
            ):
                if points:
                    self.keep(axes.scatter(*zip(*points, strict=True), zorder=3, **mark))


class Curves(Panels):
    """One parameter: expected value and standard deviation above, acquisition below."""

    def _make(self) -> tuple[Figure, Axes, Axes]:
        self.model_title += ", with twice its standard deviation"
        figure = style.new_figure(8.6, 5.2)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1.0])
        for axes in (top, bottom):
            style.dress(axes)
            parameter_axis.set_parameter(axes, "x", self.parameters[0])
        self.scale.apply(top)
        bottom.set_yscale("log")
        bottom.set_ylim(LEAST_SHARE, 3.0)
        bottom.yaxis.set_ticks(list(_SHARE_TICKS), [wording.number(t) for t in _SHARE_TICKS])
        bottom.yaxis.set_ticks([], minor=True)
        bottom.set_xlabel(style.axis_name(self.names[0], 6.0), size=style.LABEL_SIZE)
        return figure, top, bottom

    def show(self, units: Sequence[FloatArray], seen: ModelSurface, promise: FloatArray) -> None:
        """Draw the model and the acquisition function of a moment over those of the last one."""
        self.clear()
        self.name_panels(seen)
        parameter = self.parameters[0]
        positions = np.array([parameter_axis.at_unit(parameter, float(u)) for u in units[0]])
        low, high = seen.mean - 2 * seen.sd, seen.mean + 2 * seen.sd
        if self.scale.is_log:
            low, high = np.maximum(low, self.scale.low), np.maximum(high, self.scale.low)
        top, bottom = self.model_axes, self.promise_axes
        if isinstance(parameter, CategoricalParameter):
            bars = top.errorbar(
                positions, seen.mean, yerr=2 * seen.sd, fmt="s", color=style.COMPLETE, capsize=4
            )
            self.keep(bars, bottom.bar(positions, promise, width=0.5, color=style.TARGET))
            return
        self.keep(
            top.fill_between(positions, low, high, color=style.COMPLETE, alpha=0.15, linewidth=0),
            *top.plot(positions, seen.mean, color=style.COMPLETE, linewidth=1.8),
            *bottom.plot(positions, promise, color=style.TARGET, linewidth=1.8),
        )

    def mark(self, marks: Marks) -> None:
        """Draw the trials of a moment instead of those of the last one."""
        top, bottom = self.model_axes, self.promise_axes
        if marks.done:
            self.keep(top.scatter(*zip(*marks.done, strict=True), zorder=3, **_DOT))
        if marks.best:
            self.keep(top.scatter(*zip(*marks.best, strict=True), zorder=4, **_STAR))
        for points, colour, dashes in (
            (marks.running, style.RUNNING, ":"),
            (marks.following, style.BEST, "--"),
        ):
            for position, *_ in points:
                for axes in (top, bottom):
                    self.keep(axes.axvline(position, linewidth=1.3, color=colour, linestyle=dashes))


def _promised(seen: ModelSurface) -> str:
    """Return what the acquisition function measures, in words."""
    if "feasibility" in seen.acquisition_name:
        return "probability of being feasible"
    return "expected improvement"
