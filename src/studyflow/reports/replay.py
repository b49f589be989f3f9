"""The search once more, suggestion by suggestion: what the model expected, and why it chose.

For studies with one or two parameters, which can be drawn whole. Each frame shows what the sampler
knew when it suggested a trial: the model's expectation and the acquisition function over the space,
the trials there were, and the point that was chosen. Nothing is fitted for the picture: the sampler
finds its own model again (`BoTorchSampler.model_surface`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from studyflow.reports import svg, wording
from studyflow.reports.axis import ParameterAxis
from studyflow.reports.chart import Key, Panel, style_sheet
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.maps import map_units
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.predictions import level_of, predicted
from studyflow.reports.replay_panels import Marks, Place, draw_panels
from studyflow.samplers.levels import MODEL_LEVELS
from studyflow.spec.parameters import CategoricalParameter, Parameter
from studyflow.study import seed_of
from studyflow.trial import ParamValue
from studyflow.trial.record import TrialRecord, TrialState, best_records

if TYPE_CHECKING:
    import optuna

    from studyflow.samplers.botorch import BoTorchSampler
    from studyflow.samplers.model_surface import ModelSurface

MAX_FRAMES: Final = 24
"""Of more suggestions, evenly spaced ones are shown: a page must stay small."""
CELLS: Final = {1: 101, 2: 27}
"""Points along a continuous parameter, by the number of parameters."""
FRAME_SECONDS: Final = 0.9
LAST_FRAME_SECONDS: Final = 4.0

_VALUE_ROOM: Final = 12.0
"""Colours must show the valley and its surroundings; only values far beyond are cut."""


@dataclass(frozen=True)
class Frame:
    """The pictures of one moment, and the sentence under them."""

    panels: tuple[Panel, Panel]
    caption: str


@dataclass(frozen=True)
class Replay:
    """All moments, in order, and what they show in words."""

    frames: tuple[Frame, ...]
    alt: str
    keys: tuple[Key, ...]

    def animation(self) -> str:
        """Return the moments as an SVG file that repeats and rests at its end.

        Who wants no motion sees the last one.
        """
        width = sum(panel.canvas.width for panel in self.frames[0].panels)
        height = max(panel.canvas.height for panel in self.frames[0].panels) + 34
        seconds = FRAME_SECONDS * (len(self.frames) - 1) + LAST_FRAME_SECONDS
        shown, rests = (100 * s / seconds for s in (FRAME_SECONDS, LAST_FRAME_SECONDS))
        style = (
            f"{_keyframes('one', shown)}{_keyframes('last', rests)}"
            f".f {{ visibility: hidden; animation: one {seconds:g}s step-end infinite }}"
            ".f.last { animation-name: last }"
            "@media (prefers-reduced-motion: reduce) "
            "{ .f { animation: none } .f.last { visibility: visible } }"
        )
        groups = []
        for i, frame in enumerate(self.frames):
            cls = "f last" if i == len(self.frames) - 1 else "f"
            body, left = svg.element("text", frame.caption[:150], cls="quiet", x=8, y=20), 0.0
            for panel in frame.panels:
                body += (
                    f'<svg x="{left:g}" y="30" width="{panel.canvas.width:g}" '
                    f'height="{panel.canvas.height:g}">{panel.canvas.body}</svg>'
                )
                left += panel.canvas.width
            delay = f"animation-delay: {FRAME_SECONDS * i:.1f}s"
            groups.append(f'<g class="{cls}" style="{delay}">{body}</g>')
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" role="img" aria-label="{svg.clean(self.alt)}">'
            f'<style>{style_sheet()}{style}</style><rect class="card" width="100%" height="100%"/>'
            f"{''.join(groups)}</svg>\n"
        )


_KEYS: Final = (
    Key("trial", "dot", "on-map"),
    Key("best", "star", "best"),
    Key("the next", "diamond", "chosen"),
    Key("running", "ring", "running"),
)


def _keyframes(name: str, percent: float) -> str:
    """Return an animation that shows something for the first part of its time."""
    steps = f"0% {{ visibility: visible }} {percent:.3f}% {{ visibility: hidden }}"
    return f"@keyframes {name} {{ {steps} }}"


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
    drawing = _Drawing(data, names, data.optuna_study)
    frames = []
    for record in [*_chosen(suggested), None]:
        seen = drawing.surface(record)
        if seen is not None:
            frames.append(drawing.frame(record, seen))
    if not frames:
        return Omitted("the trials' times do not tell what the model knew")
    metric = data.metrics[0]
    return Replay(
        tuple(frames),
        alt=f"{wording.plural(len(frames), 'picture')}, one before each suggestion of the model: "
        f"the {metric} that it expected over {' and '.join(names)}, what a trial there "
        "promised, the trials so far as dots, the best as a star, and the next as a diamond.",
        keys=_KEYS,
    )


def _chosen(suggested: Sequence[TrialRecord]) -> list[TrialRecord]:
    if len(suggested) < MAX_FRAMES:
        return list(suggested)
    positions = np.linspace(0, len(suggested) - 1, MAX_FRAMES - 1).round().astype(int)
    return [suggested[i] for i in positions]


class _Drawing:
    """A figure that is drawn once and then changed from frame to frame."""

    def __init__(self, data: StudyData, names: Sequence[str], study: optuna.Study) -> None:
        self._data, self._names = data, list(names)
        self._parameters: list[Parameter] = [data.space[name] for name in names]
        self._study = study
        self._sampler = _sampler(data, study)
        self._axes = [
            ParameterAxis(name, parameter, 5)
            for name, parameter in zip(names, self._parameters, strict=True)
        ]
        self._axes_units = [map_units(p, CELLS[len(names)]) for p in self._parameters]
        self._points = list(self._grid())
        self._complete = frozenset(record.number for record in data.complete)
        values = [data.value(r, 0) for r in data.complete]
        self._scale = ObjectiveScale(values, data.spec.directions[0], _VALUE_ROOM)

    def surface(self, record: TrialRecord | None) -> ModelSurface | None:
        """Return what the model said before a trial, or at the end; `None` if it was not asked."""
        before = None if record is None else record.number
        return self._sampler.model_surface(self._study, self._points, before=before)

    def frame(self, record: TrialRecord | None, seen: ModelSurface) -> Frame:
        """Return the picture of one moment."""
        done, running = self._then(record)
        best = best_records(done, self._data.spec.directions)
        marks = Marks(
            done=[self._place(r) for r in done],
            running=[self._place(r) for r in running],
            best=[self._place(r) for r in best],
            following=[] if record is None else [self._place(record)],
        )
        metric = wording.one_line(self._data.metrics[0], 40)
        panels = draw_panels(self._axes, metric, self._scale, self._axes_units, seen, marks)
        title, note = self._words(record, best, done)
        return Frame(panels, f"{title}. {note}.")

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

    def _place(self, record: TrialRecord) -> Place:
        places = [
            axis.share(record.params[name])
            for name, axis in zip(self._names, self._axes, strict=True)
        ]
        if len(places) == 1 and record.number in self._complete:
            places.append(self._data.value(record, 0))
        return tuple(places)

    def _grid(self) -> Iterator[dict[str, Any]]:
        fixed = {
            name: parameter.from_unit(0.5)
            for name, parameter in self._data.space.items()
            if name not in self._names
        }
        first, *others = self._names
        for u in self._axes_units[0]:
            point = {**fixed, first: _value(self._parameters[0], float(u))}
            for v in self._axes_units[1] if others else [0.5]:
                if others:
                    point = {**point, others[0]: _value(self._parameters[1], float(v))}
                yield point

    def _words(
        self, record: TrialRecord | None, best: Sequence[TrialRecord], done: Sequence[TrialRecord]
    ) -> tuple[str, str]:
        metric = wording.one_line(self._data.metrics[0], 40)
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
            f"{wording.one_line(name, 40)} {wording.value(record.params[name])}" for name in known
        )


def _sampler(data: StudyData, study: optuna.Study) -> BoTorchSampler:
    from studyflow.samplers import make_sampler
    from studyflow.samplers.botorch import BoTorchSampler

    found = make_sampler(data.spec, seed_of(data.spec, study), 0)
    assert isinstance(found, BoTorchSampler), "the study file names it"
    return found


def _value(parameter: Parameter, unit: float) -> ParamValue:
    """Return the value at a place of `map_units`."""
    if isinstance(parameter, CategoricalParameter):
        return parameter.choices[round(unit)]
    return parameter.from_unit(unit)
