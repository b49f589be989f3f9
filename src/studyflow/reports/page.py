"""The report as files: one self-contained page, its figures, tables and the best configuration."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import yaml

from studyflow.errors import MissingExtra
from studyflow.ledger.rows import rows_of
from studyflow.reports import tables, wording
from studyflow.reports.advice import model_advice
from studyflow.reports.chart import Drawing, as_file, style_sheet
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.ranking import best_first
from studyflow.reports.spending import spending_table
from studyflow.reports.summary import gain, headline, is_safe_link, next_steps
from studyflow.reports.templating import environment_of, text_of
from studyflow.study import n_trials_to_finish
from studyflow.trial.record import TrialState

if TYPE_CHECKING:
    import jinja2

    from studyflow.reports.replay import Replay

_LOG: Final = logging.getLogger(__name__)

_T = TypeVar("_T")

PACKAGE: Final = "studyflow.reports"
"""Whose templates make the page."""

_PACKAGES: Final = ("studyflow", "optuna", "botorch", "torch", "scikit-learn")

TrialLinks = Mapping[int, Mapping[str, str]]
"""Titles and addresses of pages about a trial, such as its log, by its number."""


@dataclass(frozen=True)
class Report:
    """What `build_report` wrote."""

    html: Path
    """The page."""
    figures: Mapping[str, Path]
    """SVG files by the figure's name, in the order of the page."""
    files: Mapping[str, Path]
    """`trials.csv`, `best_config.yaml` and `best_config.json` by name."""
    omitted: Mapping[str, str]
    """Figures that were not drawn, by name, with the reason."""
    animation: Path | None = None
    """SVG of how model and acquisition function moved, for studies of one or two parameters."""


@dataclass(frozen=True)
class _Drawn:
    """One figure ready for the page."""

    name: str
    question: str
    part: str
    drawing: Drawing


def build_report(
    data: StudyData,
    folder: Path,
    *,
    links: Mapping[str, str] | None = None,
    trial_links: TrialLinks | None = None,
    generated_at: float | None = None,
) -> Report:
    """Write the report of a study in any condition and return where its parts are.

    A figure that cannot be drawn is left out and named in `Report.omitted`. An earlier report in
    the folder is replaced. The same arguments give the same bytes.

    Args:
        data: The study.
        folder: Where to write; made if missing. Figures go to `figures/` in it.
        links: Titles and addresses shown in the page's head, such as MLflow's.
        trial_links: The same of single trials, shown in their rows.
        generated_at: Time of the report in seconds since the epoch; `None` for now.

    Raises:
        MissingExtra: The extra `reports` is not installed.
        OSError: The folder cannot be written.
    """
    environment = _environment()
    generated_at = time.time() if generated_at is None else generated_at
    drawn, omitted = _draw(data)
    replay = _replay(data)
    pictures = folder / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    animation = pictures / "replay.svg"
    paths = {figure.name: pictures / f"{figure.name}.svg" for figure in drawn}
    for old in pictures.iterdir():
        if old.suffix in (".svg", ".png", ".gif") and old not in paths.values():
            old.unlink()
    if replay is not None:
        text = replay.animation()
        animation.write_text(text, encoding="utf-8", errors="replace", newline="")
    for figure in drawn:
        text = as_file(figure.drawing)
        paths[figure.name].write_text(text, encoding="utf-8", errors="replace", newline="")
    texts = {
        "trials.csv": tables.trials_csv(data),
        "best_config.yaml": tables.best_config_yaml(data),
        "best_config.json": json.dumps(tables.best_config(data), indent=2, ensure_ascii=False)
        + "\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", errors="replace", newline="")
    page = folder / "report.html"
    context = _context(data, drawn, omitted, replay, links or {}, trial_links or {}, generated_at)
    rendered = environment.get_template("report.html.j2").render(context)
    # `replace`: a message of a script may hold half a surrogate pair.
    page.write_text(rendered, encoding="utf-8", errors="replace")
    return Report(
        page,
        paths,
        {name: folder / name for name in texts},
        omitted,
        animation=None if replay is None else animation,
    )


def _environment() -> jinja2.Environment:
    try:
        import contourpy  # noqa: F401
    except ImportError as error:
        raise MissingExtra("A report", "reports") from error
    if find_spec("sklearn") is None:  # only importances import it, which takes half a second
        raise MissingExtra("A report", "reports")
    return environment_of(PACKAGE, "A report")


def _draw(data: StudyData) -> tuple[list[_Drawn], dict[str, str]]:
    """Return every figure that could be drawn, and why the others could not."""
    from studyflow.reports.figures import FIGURES, FigureKind

    drawn: list[_Drawn] = []
    omitted: dict[str, str] = {}
    for name, kind in FIGURES.items():

        def draw(name: str = name, kind: FigureKind = kind) -> _Drawn | Omitted:
            found = kind.draw(data)
            if isinstance(found, Omitted):
                return found
            return _Drawn(name, kind.title, kind.part.value, found)

        found = _or_omitted(f"figure {name} of study {data.spec.name!r}", draw)
        if isinstance(found, Omitted):
            omitted[name] = found.reason
        else:
            drawn.append(found)
    return drawn, omitted


def _replay(data: StudyData) -> Replay | None:
    """Return the search as pictures; nothing for studies that have none, which are most."""
    from studyflow.reports.replay import replay

    found = _or_omitted(f"the replay of study {data.spec.name!r}", lambda: replay(data))
    return None if isinstance(found, Omitted) else found


def _or_omitted(what: str, draw: Callable[[], _T | Omitted]) -> _T | Omitted:
    """Return a picture, or why there is none."""
    try:
        return draw()
    except Exception as error:  # noqa: BLE001 - a picture is never worth a study's report
        _LOG.warning("%s failed", what, exc_info=True)
        return Omitted(f"drawing it failed ({type(error).__name__}); the log has the details")


def _context(
    data: StudyData,
    drawn: list[_Drawn],
    omitted: Mapping[str, str],
    replay: Replay | None,
    links: Mapping[str, str],
    trial_links: TrialLinks,
    generated_at: float,
) -> dict[str, Any]:
    from studyflow.reports.figures import FIGURES, Part

    script = text_of(PACKAGE, "report.js")
    return {
        "data": data,
        "w": wording,
        "headline": headline(data),
        "gain": gain(data),
        "steps": next_steps(data),
        "links": {title: address for title, address in links.items() if is_safe_link(address)},
        "key_figures": _key_figures(data),
        "best_yaml": tables.best_config_yaml(data),
        "figures": drawn,
        "diagnostics": [figure for figure in drawn if figure.part == Part.DIAGNOSTICS],
        "advice": model_advice(data),
        "parts": _parts(data, drawn),
        "ranked": best_first(data),
        "secondary": _secondary_metrics(data),
        "hours": _hours(data),
        "unit": data.statement.unit,
        "trial_links": {
            number: {title: at for title, at in found.items() if is_safe_link(at)}
            for number, found in trial_links.items()
        },
        "replay": replay,
        "omitted": [(FIGURES[name].title, reason) for name, reason in omitted.items()],
        "names": tables.parameter_names(data),
        "describe_state": tables.describe_state,
        "failures": data.failures,
        "spending": spending_table(data),
        "versions": {"python": platform.python_version(), **_versions()},
        "seed": data.spec.sampler.seed,
        "spec_yaml": yaml.safe_dump(
            data.spec.model_dump(mode="json", exclude_defaults=True),
            sort_keys=False,
            allow_unicode=True,
        ),
        "generated_at": wording.utc(generated_at),
        "style": style_sheet() + text_of(PACKAGE, "report.css"),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "trusted": _trusted,
    }


def _trusted(text: str) -> Any:
    """Return our own CSS, JavaScript or picture as it is."""
    import markupsafe

    return markupsafe.Markup(text)  # noqa: S704 - our own; `svg.element` escapes a study's words


def _parts(data: StudyData, drawn: Sequence[_Drawn]) -> list[tuple[str, str]]:
    """Return the anchors of the page's parts with their titles."""
    parts = [("best", "Best")] if data.best else []
    for part, title in (("curves", "Curves"), ("parameters", "Parameters")):
        parts += [(figure.name, title) for figure in drawn if figure.part == part][:1]
    parts += [("spending", "Spending")] if spending_table(data) else []
    if any(figure.part == "diagnostics" for figure in drawn):
        parts.append(("diagnostics", "Model"))
    parts += [("failures", "Failures")] if data.failures else []
    return [*parts, ("trials", "Trials"), ("origin", "Origin")]


def _secondary_metrics(data: StudyData) -> tuple[str, ...]:
    """Return the metrics that trials finished with beside the objectives, by name."""
    found = {name for record in data.records for name in record.metrics}
    return tuple(sorted(found - set(data.metrics)))


def _hours(data: StudyData) -> dict[int, float]:
    """Return the hours that each trial has spent, by number; empty if none has."""
    gpus = data.spec.trial.resources.gpu
    found = {}
    for record in data.records:
        seconds = sum(row.unit_seconds for row in rows_of(record, gpus))
        if seconds > 0.0:
            found[record.number] = seconds / 3600.0
    return found


def _key_figures(data: StudyData) -> list[tuple[str, str, str]]:
    """Return the key numbers: name, value, remark."""
    budget = data.spec.budget
    figures = []
    if data.best and not data.is_multi_objective:
        best = data.best[0]
        figures.append(
            (
                f"best {wording.one_line(data.metrics[0], 40)}",
                wording.number((best.values or (0.0,))[0]),
                f"trial {best.number}",
            )
        )
    elif data.best:
        figures.append(("Pareto front", str(len(data.best)), "trials"))
    wanted = n_trials_to_finish(data.spec)
    of = "trials" if wanted is None else f"of {wanted} trials"
    figures.append(("finished", str(len(data.counted)), of))
    if n_taken_over := sum(record.is_taken_over for record in data.records):
        figures.append(("taken over", str(n_taken_over), "they cost no budget"))
    figures += [
        (state.value, str(count), "")
        for state, count in data.states.items()
        if state is not TrialState.COMPLETE
    ]
    if data.duration_seconds is not None:
        figures.append(
            (
                "duration",
                wording.seconds(data.duration_seconds),
                f"{wording.seconds(data.busy_seconds)} of trials",
            )
        )
    if data.statement.total.unit_seconds:
        statement = data.statement
        figures.append((statement.unit, wording.number(statement.total.unit_hours, 3), "spent"))
    if data.peak_parallel_trials:
        figures.append(
            ("at once", str(data.peak_parallel_trials), f"allowed {budget.max_parallel_trials}")
        )
    return figures


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
