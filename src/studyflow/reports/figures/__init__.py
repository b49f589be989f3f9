"""Every figure of a report: one module each, one function from `StudyData` to a Matplotlib figure.

A function returns `Omitted` where there is nothing to draw, and the reason. The figure's label
(`Figure.get_label()`) says in words what it shows.

Optuna has figures for many of the same questions; each module says why its figure is ours. In
common: Optuna's change Matplotlib's global state, fail on names that hold a `$`, draw boxes for
characters that the default font lacks, and have no words for those who cannot see them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.figures.convergence import convergence
from studyflow.reports.figures.evaluations import evaluations
from studyflow.reports.figures.importances import importances
from studyflow.reports.figures.intermediate import intermediate_values
from studyflow.reports.figures.model import model_predictions
from studyflow.reports.figures.parallel_coordinates import parallel_coordinates
from studyflow.reports.figures.partial_dependence import partial_dependence
from studyflow.reports.figures.slices import slices
from studyflow.reports.figures.timeline import timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "FigureKind"]


@dataclass(frozen=True)
class FigureKind:
    """One figure's place in a report."""

    title: str
    """The question that the figure answers."""
    draw: Callable[[StudyData], Figure | Omitted]


FIGURES: Final[Mapping[str, FigureKind]] = {
    "convergence": FigureKind("How the search went", convergence),
    "importances": FigureKind("Which parameters matter", importances),
    "partial_dependence": FigureKind("What the model expects", partial_dependence),
    "model": FigureKind("How well predictions came true", model_predictions),
    "slices": FigureKind("The objective along each parameter", slices),
    "parallel_coordinates": FigureKind("Trials across all parameters", parallel_coordinates),
    "evaluations": FigureKind("Where the search looked", evaluations),
    "intermediate_values": FigureKind("Learning curves", intermediate_values),
    "timeline": FigureKind("When the trials ran", timeline),
}
"""All figures by name, in the order of the page."""
