"""The study in a few sentences: for MLflow's description and Prefect's artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from studyflow.reports import wording
from studyflow.reports.data import StudyData
from studyflow.spec.parameters import CategoricalParameter
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

SUMMARY_LIMIT_CHARS: Final = 4500
"""Longest summary. MLflow refuses tags of over 5000 characters on its older servers; the rest is
room for what a tracker adds."""

_ADVICE: Final[Mapping[Cause, str]] = {
    Cause.CUDA_OOM: "lower the batch size or the model's size, or ask for a larger card",
    Cause.HOST_OOM: "raise trial.resources.memory, or narrow the parameters that cost memory",
    Cause.NAN: "narrow the learning rate's range, or clip gradients",
    Cause.TIMEOUT: "raise trial.timeout_seconds, or narrow the parameters that cost time",
    Cause.USER_ERROR: "read the message of the first one and fix the training script",
    Cause.BAD_METRIC: "make the script finish with every metric the study names, as finite numbers",
}
MIN_TRIALS: Final = 5
"""Complete trials below which the best one's place says nothing about the space."""
_EDGE: Final = 0.02
"""How near to its bound, in the unit cube, the best value counts as lying at it."""


def headline(data: StudyData) -> str:
    """Return the result in one plain sentence. Names in it are not escaped."""
    total = len(data.records)
    if not total:
        return "No trial has been started yet."
    if not data.best:
        if data.complete:
            if len(data.complete) == 1:
                return f"The only complete trial breaks {_bound(data) or 'a bound'}."
            kept = _bound(data) or "every bound"
            return f"None of {len(data.complete)} complete trials keeps {kept}."
        failed = data.states.get(TrialState.FAILED, 0)
        if failed == total:
            return "The only trial failed." if total == 1 else f"All {total} trials failed."
        counts = ", ".join(f"{count} {state.value}" for state, count in data.states.items())
        return f"No trial has returned a value yet ({counts})."
    names = [wording.one_line(name, 60) for name in data.metrics]
    if data.is_multi_objective:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        n = len(data.best)
        verb = "is" if n == 1 else "are"
        return f"{wording.plural(n, 'trial')} of {total} {verb} on the Pareto front of {listed}."
    best = data.best[0]
    reached = wording.number(data.value(best, 0))
    if is_constant(data):
        return f"All {len(data.complete)} complete trials returned the same {names[0]}: {reached}."
    when = f"at trial {best.number}" if total == 1 else f"at trial {best.number} of {total}"
    word = "Lowest" if data.spec.directions[0] == "minimize" else "Highest"
    return f"{word} {names[0]}: {reached}, {when}."


def _bound(data: StudyData) -> str | None:
    """Return a study's only bound, such as `the bound latency_ms <= 20`; `None` with several."""
    names = {name for record in data.complete for name in record.constraints}
    return f"the bound {wording.one_line(names.pop(), 60)}" if len(names) == 1 else None


def reference(data: StudyData) -> TrialRecord | None:
    """Return the trial that a study's gain is measured from: an enqueued one, or else the first.

    `None` with several objectives, and while no feasible trial is complete.
    """
    feasible = [record for record in data.complete if record.is_feasible]
    if data.is_multi_objective or not feasible:
        return None
    enqueued = [record for record in feasible if record.number in data.enqueued]
    return (enqueued or feasible)[0]


def gain(data: StudyData) -> str | None:
    """Return how much better the best value is than the first or enqueued one, in one clause.

    `None` where there is nothing to compare.
    """
    first = reference(data)
    if first is None or is_constant(data) or len(data.complete) < 2:
        return None
    name = wording.one_line(data.metrics[0], 60)
    kind = "enqueued" if first.number in data.enqueued else "first"
    best = data.best[0]
    if best.number == first.number:
        return f"No trial beat the {kind} configuration (trial {first.number})"
    before, after = data.value(first, 0), data.value(best, 0)
    change = _change(before, after)
    return (
        f"{name}: {wording.number(before, 3)} → {wording.number(after, 3)}{change} "
        f"against the {kind} configuration (trial {first.number})"
    )


def _change(before: float, after: float) -> str:
    """Return a relative change such as `, −78 %`; nothing where it would mislead."""
    if before == 0.0 or (before < 0.0) != (after < 0.0):
        return ""
    share = (after - before) / abs(before)
    if abs(share) >= 10.0:
        times = after / before if after / before >= 1.0 else before / after
        return f", {wording.number(times, 2)} times"
    sign = "−" if share < 0.0 else "+"
    return f", {sign}{100 * abs(share):.{0 if abs(share) >= 0.1 else 1}f} %"


def is_constant(data: StudyData) -> bool:
    """Whether there are several complete trials, and all of them returned the same values."""
    return len(data.complete) > 1 and len({record.values for record in data.complete}) == 1


def next_steps(data: StudyData) -> tuple[str, ...]:
    """Return what to look at next, the most pressing first, in plain sentences; may be empty."""
    steps: list[str] = []
    finished = len(data.finished)
    for group in data.failures:
        share = group.count / finished if finished else 0.0
        advice = _ADVICE.get(Cause(group.cause)) if group.cause != "unknown" else None
        if advice and (share >= 0.1 or not data.complete):
            steps.append(
                f"{wording.plural(group.count, 'trial')} of {finished} failed with "
                f"{group.cause}: {advice}."
            )
    if data.complete and not data.best:
        steps.append("No trial is feasible: loosen a bound, or enqueue a point known to keep them.")
    repeated = (record.attempt - 1 - len(record.resumptions) for record in data.records)
    lost = sum(max(n, 0) for n in repeated)
    if lost:
        steps.append(
            f"{wording.plural(lost, 'attempt')} lost to the infrastructure and repeated: see the "
            "cluster's events if this grows."
        )
    if data.is_multi_objective or not data.best:
        return tuple(steps)
    if is_constant(data):
        steps.append(
            f"Every complete trial returned the same {wording.one_line(data.metrics[0], 60)}: does "
            "the script use its parameters, and report what it measured?"
        )
        return tuple(steps)
    best = data.best[0]
    edges = [
        f"{wording.one_line(name, 60)} = {wording.value(best.params[name])} "
        f"({'upper' if unit > 0.5 else 'lower'} bound)"
        for name, parameter in data.space.items()
        if name in data.searched(best)
        and not isinstance(parameter, CategoricalParameter)
        and parameter.low < parameter.high
        and not _EDGE < (unit := parameter.to_unit(best.params[name])) < 1 - _EDGE
    ]
    if edges and len(data.complete) >= MIN_TRIALS:
        steps.append(f"The best trial lies at the edge of the space: {', '.join(edges)}; widen it?")
    if best.number in data.enqueued and len(data.complete) > len(data.enqueued) + 5:
        steps.append("No suggestion beat the enqueued point: it may be as good as this space gets.")
        return tuple(steps)
    judged = [r for r in data.finished if r.state is not TrialState.FAILED]
    if len(judged) >= 15:
        since = sum(record.number > best.number for record in judged)
        if since >= len(judged) / 2:
            steps.append(
                f"The best is {wording.plural(since, 'trial')} old, failed ones aside: change the "
                "space or the model rather than add trials."
            )
        elif since <= len(judged) / 10:
            steps.append("The best is recent: more trials may still improve it.")
    return tuple(steps)


def summary_markdown(data: StudyData, links: Mapping[str, str] | None = None) -> str:
    """Return the study as Markdown: result, best configuration, counts, what to look at next.

    Whatever a study file or script may have written is escaped. At most `SUMMARY_LIMIT_CHARS`
    long: what does not fit is left out from the end.

    Args:
        data: The study.
        links: Titles and addresses of further pages; only `http` and `https` ones and relative
            paths become links.
    """
    sections = [
        f"## {wording.markdown(data.spec.name, 200)}\n\n**{wording.markdown(headline(data))}**\n"
    ]
    shown = [
        f"[{wording.markdown(title, 80)}]({quote(address, safe=':/?#@!$&=+,;%~._-')})"
        for title, address in (links or {}).items()
        if is_safe_link(address)
    ]
    if shown:
        sections.append(" · ".join(shown) + "\n")
    sections.append(_best_table(data))
    sections.append(_counts(data))
    sections.append(_spending(data))
    steps = next_steps(data)
    if steps:
        bullets = "".join(f"- {wording.markdown(step)}\n" for step in steps)
        sections.append(f"### What to look at next\n\n{bullets}")
    sections.append(_failures(data))
    text = ""
    for section in sections:
        if section and len(text) + len(section) + 1 <= SUMMARY_LIMIT_CHARS:
            text += ("\n" if text else "") + section
    return text


def is_safe_link(address: str) -> bool:
    """Whether an address is a web address or a relative path, and runs nothing."""
    scheme, colon, _ = address.partition(":")
    return not colon or scheme.lower() in ("http", "https") or "/" in scheme


def _best_table(data: StudyData) -> str:
    if not data.best:
        return ""
    if data.is_multi_objective:
        heads = ["trial", *data.metrics, "parameters"]
        lines = [_line(heads), "|" + " --- |" * len(heads)]
        for record in data.best[:10]:
            values = [wording.number(v) for v in record.values or ()]
            params = ", ".join(f"{k}={wording.value(v)}" for k, v in data.params(record).items())
            lines.append(_line([str(record.number), *values, wording.one_line(params, 160)]))
        if len(data.best) > 10:
            lines += ["", f"… and {len(data.best) - 10} more in `best_config.yaml`."]
        return "### Pareto front\n\n" + "\n".join(lines) + "\n"
    record = data.best[0]
    pairs = list(data.params(record).items())
    lines = [f"### Best configuration (trial {record.number})", "", "| parameter | value |"]
    lines.append("| --- | --- |")
    lines += [_line([name, wording.value(v, 6)]) for name, v in pairs[:20]]
    if len(pairs) > 20:
        lines += ["", f"… and {len(pairs) - 20} more in `best_config.yaml`."]
    return "\n".join(lines) + "\n"


def _counts(data: StudyData) -> str:
    if not data.records:
        return ""
    states = ", ".join(f"{count} {state.value}" for state, count in data.states.items())
    lines = [f"### Trials\n\n{wording.plural(len(data.records), 'trial')}: {states}."]
    odd = {cause: n for cause, n in data.causes.items() if cause is not Cause.OK}
    if odd:
        lines.append("Causes: " + ", ".join(f"{n} {cause.value}" for cause, n in odd.items()) + ".")
    if data.duration_seconds is not None:
        lines.append(
            f"Took {wording.seconds(data.duration_seconds)}, at most "
            f"{wording.plural(data.peak_parallel_trials, 'trial')} at once "
            f"({wording.seconds(data.busy_seconds)} of trial time)."
        )
    return "\n".join(lines) + "\n"


def _spending(data: StudyData) -> str:
    rows = data.statement.rows()
    if not rows or not (data.statement.balances or data.statement.total.gpu_seconds):
        return ""
    lines = ["### GPU-hours", "", "| | |", "| --- | --- |", *(_line(list(row)) for row in rows)]
    return "\n".join(lines) + "\n"


def _failures(data: StudyData) -> str:
    if not data.failures:
        return ""
    lines = ["### Failures", "", "| cause | trials | message |", "| --- | --- | --- |"]
    for group in data.failures:
        for message, numbers in group.messages[:3]:
            listed = ", ".join(map(str, numbers[:8])) + (" …" if len(numbers) > 8 else "")
            lines.append(_line([group.cause, listed, wording.one_line(message, 120)]))
    return "\n".join(lines[:16]) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(wording.markdown(cell, 200) for cell in cells) + " |"
