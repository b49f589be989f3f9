"""The search once more, suggestion by suggestion: what the model expected, and why it chose.

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

from studyflow.reports import parameter_axis, style, wording
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.predictions import level_of, predicted
from studyflow.reports.replay_panels import LEAST_SHARE, Curves, Maps, Marks, Panels
from studyflow.samplers.levels import MODEL_LEVELS
from studyflow.spec.parameters import CategoricalParameter, Parameter
from studyflow.study import seed_of
from studyflow.trial.record import TrialRecord, TrialState, best_records

if TYPE_CHECKING:
    import optuna

    from studyflow.samplers.arrays import FloatArray
    from studyflow.samplers.botorch import BoTorchSampler
    from studyflow.samplers.model_surface import ModelSurface

MAX_FRAMES: Final = 40
"""Of more suggestions, evenly spaced ones are shown: a page must stay small."""
CELLS: Final = {1: 201, 2: 56}
"""Points along a continuous parameter, by the number of parameters."""
FRAME_MS: Final = 900
LAST_FRAME_MS: Final = 4000

_VALUE_ROOM: Final = 12.0
"""Colours must show the valley and its surroundings; only values far beyond are cut."""


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
        "promised, the trials so far as dots, the best as a star, and the next as a plus.",
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
        self._axes_units = [_units(p, CELLS[len(names)]) for p in self._parameters]
        self._points = list(self._grid())
        self._complete = frozenset(record.number for record in data.complete)
        values = [data.value(r, 0) for r in data.complete]
        self._scale = ObjectiveScale(values, data.spec.directions[0], _VALUE_ROOM)
        self._panels: Panels | None = None

    def surface(self, record: TrialRecord | None) -> ModelSurface | None:
        """Return what the model said before a trial, or at the end; `None` if it was not asked."""
        before = None if record is None else record.number
        return self._sampler.model_surface(self._study, self._points, before=before)

    def frame(self, record: TrialRecord | None, seen: ModelSurface) -> Frame:
        """Return the picture of one moment."""
        if self._panels is None:
            make = Curves if len(self._names) == 1 else Maps
            self._panels = make(self._data, self._parameters, self._names, self._scale)
        done, running = self._then(record)
        best = best_records(done, self._data.spec.directions)
        self._panels.show(self._axes_units, seen, _promise(seen))
        self._panels.mark(
            Marks(
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
        positions = [
            parameter_axis.position(parameter, record.params[name])
            for name, parameter in zip(self._names, self._parameters, strict=True)
        ]
        if len(positions) == 1 and record.number in self._complete:
            positions.append(self._scale.clip(self._data.value(record, 0)))
        return tuple(positions)

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


def _sampler(data: StudyData, study: optuna.Study) -> BoTorchSampler:
    from studyflow.samplers import make_sampler
    from studyflow.samplers.botorch import BoTorchSampler

    found = make_sampler(data.spec, seed_of(data.spec, study), 0)
    assert isinstance(found, BoTorchSampler), "the study file names it"
    return found


def _units(parameter: Parameter, cells: int) -> FloatArray:
    """Return the middles of a parameter's cells in [0, 1]: categories, or evenly spaced ones."""
    count = len(parameter.choices) if isinstance(parameter, CategoricalParameter) else cells
    return (np.arange(count) + 0.5) / count


def _promise(seen: ModelSurface) -> FloatArray:
    """Return the acquisition as a share of the largest in the space, `m`."""
    share = np.exp(seen.acquisition - seen.acquisition.max())
    return np.asarray(np.clip(share, LEAST_SHARE, 1.0))
