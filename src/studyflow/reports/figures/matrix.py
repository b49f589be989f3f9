"""The frame of a triangular matrix: one row and one column for each parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from studyflow.reports import parameter_axis, style
from studyflow.reports.data import StudyData
from studyflow.reports.figures.importances import ranked_parameters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PARAMETERS = 8
"""Most rows of a matrix: with more, no panel can be read."""


def shown_parameters(data: StudyData, objective: int = 0) -> tuple[str, ...]:
    """Return the parameters of a matrix, in the space's order: the most important that vary."""
    varied = [n for n in ranked_parameters(data, objective) if data.space[n].cardinality != 1]
    chosen = set(varied[:MAX_PARAMETERS])
    return tuple(name for name in data.space if name in chosen)


def cut_note(data: StudyData, names: tuple[str, ...]) -> str:
    """Return a remark on the parameters that are not shown, or nothing."""
    varied = sum(parameter.cardinality != 1 for parameter in data.space.values())
    return f"{len(names)} of {varied} parameters" if len(names) < varied else ""


def lower_triangle(
    data: StudyData, names: tuple[str, ...]
) -> tuple[Figure, dict[tuple[int, int], Axes]]:
    """Return a figure and its panels by (row, column), the diagonal included.

    Panels below the diagonal have both axes set up; those on the diagonal the horizontal one.
    """
    count = len(names)
    cell = 4.2 if count == 1 else 3.0 if count == 2 else 2.0 if count <= 4 else 1.55
    left, bottom, right, head = 0.95, 0.85, 0.85, 0.72
    width = max(left + count * cell + right, 6.4)
    height = head + count * cell + bottom
    figure = style.new_figure(width, height, constrained=False)
    grid = figure.add_gridspec(
        count,
        count,
        left=left / width,
        right=(left + count * cell) / width,
        bottom=bottom / height,
        top=1 - head / height,
        wspace=0.09,
        hspace=0.09,
    )
    most = 4 if count <= 3 else 3
    panels: dict[tuple[int, int], Axes] = {}
    for row in range(count):
        for column in range(row + 1):
            axes: Any = figure.add_subplot(grid[row, column])
            panels[row, column] = axes
            style.dress(axes, grid="none")
            parameter_axis.set_parameter(axes, "x", data.space[names[column]], most=most)
            if row < count - 1:
                axes.tick_params(axis="x", labelbottom=False)
            else:
                axes.set_xlabel(style.axis_name(names[column], cell), size=style.LABEL_SIZE)
                for text in axes.get_xticklabels() if count > 4 else ():
                    text.set(rotation=40, ha="right", rotation_mode="anchor")
            if row != column:
                parameter_axis.set_parameter(axes, "y", data.space[names[row]], most=most)
                if column:
                    axes.tick_params(axis="y", labelleft=False)
                else:
                    axes.set_ylabel(style.axis_name(names[row], cell), size=style.LABEL_SIZE)
    figure.align_labels()
    return figure, panels


def corner(
    figure: Figure, panels: dict[tuple[int, int], Axes]
) -> tuple[float, float, float, float]:
    """Return where a colour bar finds room: left, bottom, width, height in figure coordinates."""
    width = figure.get_figwidth()
    count = max(row for row, _ in panels) + 1
    box = panels[0, 0].get_position()
    if count <= 2:
        last = panels[count - 1, count - 1].get_position()
        return last.x0 + 0.1 * last.width, box.y0, 0.14 / width, box.height
    last = panels[1, 1].get_position()
    left = panels[2, 2].get_position().x1 - 0.35 / width
    return left, last.y0 + 0.1 * last.height, 0.14 / width, box.y1 - last.y0 - 0.12 * last.height
