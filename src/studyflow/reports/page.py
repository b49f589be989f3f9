"""The report as files: one self-contained page, its figures, tables and the best configuration."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import yaml

from studyflow.errors import MissingExtra
from studyflow.reports import parameter_axis, tables, wording
from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.objective_scale import ObjectiveScale
from studyflow.reports.spending import spending_table
from studyflow.reports.summary import headline, is_safe_link, next_steps
from studyflow.spec.parameters import CategoricalParameter
from studyflow.study import n_trials_to_finish
from studyflow.trial.record import TrialRecord, TrialState

if TYPE_CHECKING:
    import jinja2

    from studyflow.reports.replay import Replay

_LOG: Final = logging.getLogger(__name__)

_T = TypeVar("_T")

INTERACTIVE_LIMIT: Final = 30_000
"""Most marks that an interactive chart draws; beyond, the page shows the picture instead."""
_PACKAGES: Final = ("studyflow", "optuna", "botorch", "torch", "scikit-learn", "matplotlib")
_INTERACTIVE: Final = ("convergence", "parallel_coordinates", "slices")


@dataclass(frozen=True)
class Report:
    """What `build_report` wrote."""

    html: Path
    """The page."""
    figures: Mapping[str, Path]
    """PNG files by the figure's name, in the order of the page."""
    files: Mapping[str, Path]
    """`trials.csv`, `best_config.yaml` and `best_config.json` by name."""
    omitted: Mapping[str, str]
    """Figures that were not drawn, by name, with the reason."""
    animation: Path | None = None
    """GIF of how model and acquisition function moved, for studies of one or two parameters."""


@dataclass(frozen=True)
class _Drawn:
    """One figure ready for the page."""

    name: str
    title: str
    alt: str
    png: bytes

    @property
    def source(self) -> str:
        """The picture as a data URL."""
        return _data_url(self.png)

    @property
    def is_interactive(self) -> bool:
        """Whether the page's script draws this figure again, to be explored."""
        return self.name in _INTERACTIVE


def build_report(
    data: StudyData,
    folder: Path,
    *,
    links: Mapping[str, str] | None = None,
    generated_at: float | None = None,
) -> Report:
    """Write the report of a study in any condition and return where its parts are.

    A figure that cannot be drawn is left out and named in `Report.omitted`. An earlier report in
    the folder is replaced. The same arguments give the same bytes.

    Args:
        data: The study.
        folder: Where to write; made if missing. Figures go to `figures/` in it.
        links: Titles and addresses shown in the page's head, such as MLflow's.
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
    animation = pictures / "replay.gif"
    if replay is None:
        animation.unlink(missing_ok=True)
    else:
        animation.write_bytes(replay.gif())
    for name in omitted:
        (pictures / f"{name}.png").unlink(missing_ok=True)
    paths = {figure.name: pictures / f"{figure.name}.png" for figure in drawn}
    for figure in drawn:
        paths[figure.name].write_bytes(figure.png)
    texts = {
        "trials.csv": tables.trials_csv(data),
        "best_config.yaml": tables.best_config_yaml(data),
        "best_config.json": json.dumps(tables.best_config(data), indent=2, ensure_ascii=False)
        + "\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", errors="replace", newline="")
    page = folder / "report.html"
    context = _context(data, drawn, omitted, replay, links or {}, generated_at)
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
        import jinja2
        import matplotlib as mpl  # noqa: F401
    except ImportError as error:
        raise MissingExtra("A report", "reports") from error
    return jinja2.Environment(
        loader=jinja2.DictLoader({"report.html.j2": _asset("report.html.j2")}),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _asset(name: str) -> str:
    return (resources.files("studyflow.reports") / "templates" / name).read_text(encoding="utf-8")


def _draw(data: StudyData) -> tuple[list[_Drawn], dict[str, str]]:
    """Return every figure that could be drawn, and why the others could not."""
    from studyflow.reports import style
    from studyflow.reports.figures import FIGURES, FigureKind

    drawn: list[_Drawn] = []
    omitted: dict[str, str] = {}
    for name, kind in FIGURES.items():

        def draw(name: str = name, kind: FigureKind = kind) -> _Drawn | Omitted:
            figure = kind.draw(data)
            if isinstance(figure, Omitted):
                return figure
            return _Drawn(name, kind.title, str(figure.get_label()), style.png(figure))

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


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _context(
    data: StudyData,
    drawn: list[_Drawn],
    omitted: Mapping[str, str],
    replay: Replay | None,
    links: Mapping[str, str],
    generated_at: float,
) -> dict[str, Any]:
    from studyflow.reports.figures import FIGURES

    script = _asset("report.js")
    return {
        "data": data,
        "w": wording,
        "headline": headline(data),
        "steps": next_steps(data),
        "links": {title: address for title, address in links.items() if is_safe_link(address)},
        "key_figures": _key_figures(data),
        "best_yaml": tables.best_config_yaml(data),
        "figures": drawn,
        "replay": replay,
        "data_url": _data_url,
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
        "charts": _charts(data),
        "style": _asset("report.css"),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "trusted": _trusted,
    }


def _trusted(text: str) -> Any:
    """Return our own CSS or JavaScript as it is."""
    import markupsafe

    return markupsafe.Markup(text)  # noqa: S704 - read from this package, holds nothing of the study


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
    figures.append(("finished", str(len(data.counted)), f"of {wanted} trials"))
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


def _charts(data: StudyData) -> dict[str, Any] | None:
    """Return what the page's script draws from, or `None` when that would be too much."""
    if not data.complete or len(data.trials) * (len(data.space) + 1) > INTERACTIVE_LIMIT:
        return None
    parameters = []
    for name, parameter in data.space.items():
        entry: dict[str, Any] = {"name": wording.one_line(name, 60)}
        if isinstance(parameter, CategoricalParameter):
            entry["choices"] = [wording.one_line(wording.value(c), 40) for c in parameter.choices]
        else:
            entry |= {"low": parameter.low, "high": parameter.high, "log": parameter.log}
            entry["whole"] = parameter.type == "int"
            entry["ticks"] = parameter_axis.tick_values(parameter)
        parameters.append(entry)
    complete = {record.number for record in data.complete}
    trials = []
    for record in data.trials:
        params = data.searched(record)
        trials.append(
            {
                "n": record.number,
                "s": tables.describe_state(record),
                "v": list(record.values or ()) if record.number in complete else None,
                "f": record.is_feasible,
                "b": record.number in data.best_numbers,
                "e": record.number in data.enqueued,
                "l": _last_value(record),
                "p": [_mark(data, name, params) for name in data.space],
            }
        )
    return {
        "objectives": [
            {
                "name": wording.one_line(o.metric, 60),
                "minimize": o.direction == "minimize",
                "axis": _axis([data.value(r, i) for r in data.complete], o.direction),
                "wide_axis": _axis(_values_by_trial(data, i), o.direction),
            }
            for i, o in enumerate(data.spec.objectives)
        ],
        "target": data.spec.stop.target,
        "parameters": parameters,
        "trials": trials,
    }


def _values_by_trial(data: StudyData, objective: int) -> list[float]:
    """Return all that the chart of values by trial shows on its upright axis."""
    values = [data.value(record, objective) for record in data.complete]
    if objective == 0:
        values += [last for r in data.trials if (last := _last_value(r)) is not None]
        values += [] if data.spec.stop.target is None else [data.spec.stop.target]
    return values


def _axis(values: Sequence[float], direction: str) -> dict[str, Any]:
    """Return an objective's axis, as the figures have it, for the page's script."""
    scale = ObjectiveScale(values, direction)
    return {"low": scale.low, "high": scale.high, "log": scale.is_log, "ticks": scale.ticks()}


def _last_value(record: TrialRecord) -> float | None:
    """Return the last value that a pruned trial reported."""
    if record.state is not TrialState.PRUNED or not record.intermediate:
        return None
    last = record.intermediate[max(record.intermediate)]
    return last if math.isfinite(last) else None


def _mark(data: StudyData, name: str, params: Mapping[str, Any]) -> float | int | None:
    """Return a parameter's number for the charts: a category's position; `None` where inactive."""
    if name not in params:
        return None
    parameter = data.space[name]
    if isinstance(parameter, CategoricalParameter):
        return parameter.index(params[name])
    value: float | int = params[name]
    return value
