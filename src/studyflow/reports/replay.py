"""The search once more, suggestion by suggestion: what the model expected, and what it hoped for.

For studies with one or two parameters, which can be drawn whole. Each frame shows what the sampler
knew when it suggested a trial: the model's expectation and the acquisition function over the space,
the trials there were, and the point that was chosen. Nothing is fitted for the picture: the sampler
finds its own model again (`BoTorchSampler.model_surface`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from studyflow.reports import style, wording
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.figures.model import level_of, predicted
from studyflow.samplers.levels import MODEL_LEVELS
from studyflow.spec.space import CategoricalParameter, Parameter
from studyflow.study import seed_of
from studyflow.trial.record import TrialRecord, TrialState, best_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from studyflow.samplers.arrays import FloatArray
    from studyflow.samplers.botorch import BoTorchSampler
    from studyflow.samplers.model_surface import ModelSurface

MAX_FRAMES: Final = 40
"""Of more suggestions, evenly spaced ones are shown: a page must stay small."""
CELLS: Final = {1: 201, 2: 56}
"""Points along a continuous parameter, by the number of parameters."""
LEAST_SHARE: Final = 1e-6
"""Smallest acquisition that is told from nothing, as a share of the largest in the space."""
COLOURS: Final = 200
"""Colours of a frame: half the size of true colour, and no eye sees it."""
FRAME_MS: Final = 900
LAST_FRAME_MS: Final = 4000

_SHARE_MAP: Final = "cividis"
_SHARE_TICKS: Final = (1.0, 1e-2, 1e-4, 1e-6)
_VALUE_ROOM: Final = 12.0
"""Colours must show the valley and its surroundings; only values far beyond are cut."""


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
class Frame:
    """One picture and the sentence under it."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Replay:
    """All pictures, in order, and what they show in words."""

    frames: tuple[Frame, ...]
    alt: str

    def gif(self) -> bytes:
        """Return the pictures as an animation that repeats and rests at its end."""
        from PIL import Image

        pictures = [Image.open(io.BytesIO(frame.png)) for frame in self.frames]
        out = io.BytesIO()
        pictures[0].save(
            out,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=[FRAME_MS] * (len(pictures) - 1) + [LAST_FRAME_MS],
            loop=0,
            optimize=True,
        )
        return out.getvalue()


def replay(data: StudyData) -> Replay | Omitted:
    """Return the pictures of a study's search, the last one of what the model says at its end."""
    names = [name for name, parameter in data.space.items() if parameter.cardinality != 1]
    suggested = [r for r in data.trials if level_of(r) in MODEL_LEVELS]
    if data.is_multi_objective:
        return Omitted("it shows one objective")
    if not 1 <= len(names) <= 2:
        return Omitted(f"it shows one or two parameters; the study has {len(names)}")
    if data.spec.sampler.type != "botorch":
        return Omitted(f"the sampler {data.spec.sampler.type} has no such model")
    if data.optuna_study is None or not suggested:
        return Omitted("no trial was suggested by a model yet")
    drawing = _Drawing(data, names)
    frames = []
    for record in [*_chosen(suggested), None]:
        seen = drawing.look(record)
        if seen is not None:
            frames.append(drawing.frame(record, seen))
    if not frames:
        return Omitted("the trials' times do not tell what the model knew")
    metric = data.metrics[0]
    return Replay(
        tuple(frames),
        alt=f"{wording.plural(len(frames), 'picture')}, one before each suggestion of the model: "
        f"the {metric} that it expected over {' and '.join(names)}, what a trial there "
        "promised, the trials so far as dots, the best as a star, and the next as a plus.",
    )


def _chosen(suggested: Sequence[TrialRecord]) -> list[TrialRecord]:
    if len(suggested) < MAX_FRAMES:
        return list(suggested)
    places = np.linspace(0, len(suggested) - 1, MAX_FRAMES - 1).round().astype(int)
    return [suggested[i] for i in places]


class _Drawing:
    """A figure that is drawn once and then changed from frame to frame."""

    def __init__(self, data: StudyData, names: Sequence[str]) -> None:
        assert data.optuna_study is not None
        self._data, self._names = data, list(names)
        self._parameters: list[Parameter] = [data.space[name] for name in names]
        self._study = data.optuna_study
        self._sampler = _sampler(data)
        self._axes_units = [_units(p, CELLS[len(names)]) for p in self._parameters]
        self._points = list(self._grid())
        self._complete = frozenset(record.number for record in data.complete)
        values = [data.value(r, 0) for r in data.complete]
        self._scale = style.ObjectiveScale(values, data.spec.directions[0], _VALUE_ROOM)
        self._panels: _Panels | None = None

    def look(self, record: TrialRecord | None) -> ModelSurface | None:
        """Return what the model said before a trial, or at the end; `None` if it was not asked."""
        before = None if record is None else record.number
        return self._sampler.model_surface(self._study, self._points, before=before)

    def frame(self, record: TrialRecord | None, seen: ModelSurface) -> Frame:
        """Return the picture of one moment."""
        if self._panels is None:
            make = _Curves if len(self._names) == 1 else _Maps
            self._panels = make(self._data, self._parameters, self._names, self._scale)
        done, running = self._then(record)
        best = best_records(done, self._data.spec.directions)
        self._panels.show(self._axes_units, seen, _promise(seen))
        self._panels.mark(
            _Marks(
                done=[self._place(r) for r in done],
                running=[self._place(r) for r in running],
                best=[self._place(r) for r in best],
                following=[] if record is None else [self._place(record)],
            )
        )
        title, note = self._words(record, best, done)
        return Frame(self._panels.png(title, note), f"{title}. {note}.")

    def _then(self, record: TrialRecord | None) -> tuple[list[TrialRecord], list[TrialRecord]]:
        """Return the complete and the running trials of that moment."""
        searched = [r for r in self._data.trials if self._is_whole(r)]
        if record is None or record.started_at is None:
            return (
                [r for r in self._data.complete if self._is_whole(r)],
                [r for r in searched if r.state is TrialState.RUNNING],
            )
        earlier = [r for r in searched if r.number < record.number]
        began = record.started_at
        ended = [r for r in earlier if r.finished_at is not None and r.finished_at <= began]
        return (
            [r for r in ended if r.number in self._complete],
            [r for r in earlier if r not in ended and (r.started_at or began) <= began],
        )

    def _is_whole(self, record: TrialRecord) -> bool:
        return all(name in self._data.searched(record) for name in self._names)

    def _place(self, record: TrialRecord) -> tuple[float, ...]:
        places = [
            style.place(parameter, record.params[name])
            for name, parameter in zip(self._names, self._parameters, strict=True)
        ]
        if len(places) == 1 and record.number in self._complete:
            places.append(self._scale.clip(self._data.value(record, 0)))
        return tuple(places)

    def _grid(self) -> Iterator[dict[str, Any]]:
        fixed = {
            name: parameter.from_unit(0.5)
            for name, parameter in self._data.space.items()
            if name not in self._names
        }
        first, *others = self._names
        for u in self._axes_units[0]:
            point = {**fixed, first: self._parameters[0].from_unit(float(u))}
            for v in self._axes_units[1] if others else [0.5]:
                if others:
                    point = {**point, others[0]: self._parameters[1].from_unit(float(v))}
                yield point

    def _words(
        self, record: TrialRecord | None, best: Sequence[TrialRecord], done: Sequence[TrialRecord]
    ) -> tuple[str, str]:
        metric = style.label(self._data.metrics[0])
        so_far = "no feasible trial yet"
        if best:
            so_far = f"best {metric} {self._number(best[0])} (trial {best[0].number})"
        if record is None:
            return f"At the end: {so_far}", f"{wording.plural(len(done), 'complete trial')}"
        note = f"chosen: {self._params(record)}"
        if (expected := predicted(record, 0)) is not None:
            mean, sd = (wording.number(x, 4) for x in expected)
            note += f" · expected there: {mean} ± {sd}"
        if (record.suggestion or {}).get("is_time_up") is True:
            note += " · the search was cut short (ask_seconds)"
        if record.number in self._complete:
            note += f" · it gave {self._number(record)}"
        elif record.state.is_finished:
            note += f" · it ended as {record.state.value}"
        return f"Before trial {record.number}: {so_far}", note

    def _number(self, record: TrialRecord) -> str:
        return wording.number(self._data.value(record, 0))

    def _params(self, record: TrialRecord) -> str:
        known = [name for name in self._names if name in record.params]
        return ", ".join(
            f"{style.label(name)} {style.label(wording.value(record.params[name]))}"
            for name in known
        )


def _sampler(data: StudyData) -> BoTorchSampler:
    from studyflow.samplers import make_sampler
    from studyflow.samplers.botorch import BoTorchSampler

    assert data.optuna_study is not None
    found = make_sampler(data.spec, seed_of(data.spec, data.optuna_study), 0)
    assert isinstance(found, BoTorchSampler)
    return found


def _units(parameter: Parameter, cells: int) -> FloatArray:
    """Return the middles of a parameter's cells in [0, 1]: categories, or evenly spaced ones."""
    count = len(parameter.choices) if isinstance(parameter, CategoricalParameter) else cells
    return (np.arange(count) + 0.5) / count


def _promise(seen: ModelSurface) -> FloatArray:
    """Return the acquisition as a share of the largest in the space, `m`."""
    share = np.exp(seen.acquisition - seen.acquisition.max())
    return np.asarray(np.clip(share, LEAST_SHARE, 1.0))


def _promised(seen: ModelSurface) -> str:
    """Return what the acquisition function measures, in words."""
    if "feasibility" in seen.acquisition_name:
        return "probability of being feasible"
    return "expected improvement"


@dataclass(frozen=True)
class _Marks:
    """Where the trials of a moment stand: a place along each parameter, and perhaps a value."""

    done: Sequence[tuple[float, ...]]
    running: Sequence[tuple[float, ...]]
    best: Sequence[tuple[float, ...]]
    following: Sequence[tuple[float, ...]]
    """The trial that was suggested then, if any."""


class _Panels:
    """Two panels side by side or one above the other, with the marks of trials."""

    def __init__(
        self,
        data: StudyData,
        parameters: Sequence[Parameter],
        names: Sequence[str],
        scale: style.ObjectiveScale,
    ) -> None:
        self.data, self.parameters, self.names, self.scale = data, parameters, names, scale
        self.model_title = f"expected {style.label(data.metrics[0])}"
        self.figure, self.model_axes, self.promise_axes = self._make()
        style.set_title(self.figure, " ", " ")
        self._title, self._note = self.figure.texts[-2:]
        self._marks: list[Any] = []
        self._has_layout = False

    def _make(self) -> tuple[Figure, Axes, Axes]:
        raise NotImplementedError

    def show(self, units: Sequence[FloatArray], seen: ModelSurface, promise: FloatArray) -> None:
        """Draw the model and the acquisition function of a moment over those of the last one."""
        raise NotImplementedError

    def mark(self, marks: _Marks) -> None:
        """Draw the trials of a moment instead of those of the last one."""
        raise NotImplementedError

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


class _Maps(_Panels):
    """Two parameters: colours for the expected value and for the promise."""

    def _make(self) -> tuple[Figure, Axes, Axes]:
        figure = style.new_figure(10.0, 4.6)
        left, right = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes in (left, right):
            style.dress(axes, grid="none")
            style.set_parameter(axes, "x", self.parameters[0], most=4)
            style.set_parameter(axes, "y", self.parameters[1], most=5)
            axes.set_xlabel(style.axis_name(self.names[0], 3.4), size=style.LABEL_SIZE)
        left.set_ylabel(style.axis_name(self.names[1], 3.0), size=style.LABEL_SIZE)
        self._meshes: list[Any] = []
        return figure, left, right

    def show(self, units: Sequence[FloatArray], seen: ModelSurface, promise: FloatArray) -> None:
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
            np.array([style.at_unit(p, i / len(u)) for i in range(len(u) + 1)])
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

    def mark(self, marks: _Marks) -> None:
        self.clear()
        for axes in (self.model_axes, self.promise_axes):
            for points, look in (
                (marks.done, _LIGHT_DOT),
                (marks.running, _RING),
                (marks.best, _STAR),
                (marks.following, _PLUS),
            ):
                if points:
                    self.keep(axes.scatter(*zip(*points, strict=True), zorder=3, **look))


class _Curves(_Panels):
    """One parameter: the expected value with its doubt above, the promise below."""

    def _make(self) -> tuple[Figure, Axes, Axes]:
        self.model_title += ", with twice its standard deviation"
        figure = style.new_figure(8.6, 5.2)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1.0])
        for axes in (top, bottom):
            style.dress(axes)
            style.set_parameter(axes, "x", self.parameters[0])
        self.scale.apply(top)
        bottom.set_yscale("log")
        bottom.set_ylim(LEAST_SHARE, 3.0)
        bottom.yaxis.set_ticks(list(_SHARE_TICKS), [wording.number(t) for t in _SHARE_TICKS])
        bottom.yaxis.set_ticks([], minor=True)
        bottom.set_xlabel(style.axis_name(self.names[0], 6.0), size=style.LABEL_SIZE)
        return figure, top, bottom

    def show(self, units: Sequence[FloatArray], seen: ModelSurface, promise: FloatArray) -> None:
        self.clear()
        self.name_panels(seen)
        parameter = self.parameters[0]
        places = np.array([style.at_unit(parameter, float(u)) for u in units[0]])
        low, high = seen.mean - 2 * seen.sd, seen.mean + 2 * seen.sd
        if self.scale.is_log:
            low, high = np.maximum(low, self.scale.low), np.maximum(high, self.scale.low)
        top, bottom = self.model_axes, self.promise_axes
        if isinstance(parameter, CategoricalParameter):
            bars = top.errorbar(
                places, seen.mean, yerr=2 * seen.sd, fmt="s", color=style.COMPLETE, capsize=4
            )
            self.keep(bars, bottom.bar(places, promise, width=0.5, color=style.TARGET))
            return
        self.keep(
            top.fill_between(places, low, high, color=style.COMPLETE, alpha=0.15, linewidth=0),
            *top.plot(places, seen.mean, color=style.COMPLETE, linewidth=1.8),
            *bottom.plot(places, promise, color=style.TARGET, linewidth=1.8),
        )

    def mark(self, marks: _Marks) -> None:
        top, bottom = self.model_axes, self.promise_axes
        if marks.done:
            self.keep(top.scatter(*zip(*marks.done, strict=True), zorder=3, **_DOT))
        if marks.best:
            self.keep(top.scatter(*zip(*marks.best, strict=True), zorder=4, **_STAR))
        for points, colour, dashes in (
            (marks.running, style.RUNNING, ":"),
            (marks.following, style.BEST, "--"),
        ):
            for place, *_ in points:
                for axes in (top, bottom):
                    self.keep(axes.axvline(place, linewidth=1.3, color=colour, linestyle=dashes))
