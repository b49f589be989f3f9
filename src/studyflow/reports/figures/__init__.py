"""Every figure of a report: one module each, one function from `StudyData` to a `Drawing`.

A function returns `Omitted` where there is nothing to draw, and the reason.

Optuna has figures for many of the same questions; each module says why its figure is ours. In
common: Optuna's are pictures of a fixed size and colours, or need a script of 3 MB, and have no
words for those who cannot see them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from studyflow.reports.chart import Drawing
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.figures.convergence import convergence
from studyflow.reports.figures.importances import importances
from studyflow.reports.figures.intermediate import intermediate_values
from studyflow.reports.figures.model import model_predictions
from studyflow.reports.figures.pairs import pairs
from studyflow.reports.figures.parallel_coordinates import parallel_coordinates
from studyflow.reports.figures.partial_dependence import partial_dependence
from studyflow.reports.figures.progress import progress
from studyflow.reports.figures.slices import slices
from studyflow.reports.figures.timeline import timeline

__all__ = ["FIGURES", "FigureKind", "Part"]


class Part(enum.StrEnum):
    """A part of the page."""

    CURVES = "curves"
    """How the search went."""
    PARAMETERS = "parameters"
    """What the parameters do."""
    DIAGNOSTICS = "diagnostics"
    """How far the sampler's model can be believed; folded away."""


@dataclass(frozen=True)
class FigureKind:
    """One figure's place in a report."""

    title: str
    """The question that the figure answers."""
    draw: Callable[[StudyData], Drawing | Omitted]
    part: Part = Part.CURVES


FIGURES: Final[Mapping[str, FigureKind]] = {
    "convergence": FigureKind("How the search went", convergence),
    "progress": FigureKind("How soon it was found", progress),
    "intermediate_values": FigureKind("Learning curves", intermediate_values),
    "timeline": FigureKind("When the trials ran", timeline),
    "importances": FigureKind("Which parameters matter", importances, Part.PARAMETERS),
    "partial_dependence": FigureKind("What the model expects", partial_dependence, Part.PARAMETERS),
    "slices": FigureKind("The objective along each parameter", slices, Part.PARAMETERS),
    "pairs": FigureKind("Two parameters at a time", pairs, Part.PARAMETERS),
    "parallel_coordinates": FigureKind(
        "Trials across all parameters", parallel_coordinates, Part.PARAMETERS
    ),
    "model": FigureKind("How well predictions came true", model_predictions, Part.DIAGNOSTICS),
}
"""All figures by name, in the order of the page."""
