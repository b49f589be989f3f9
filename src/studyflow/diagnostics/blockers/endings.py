"""Why nothing more is to come: the budget is spent, a stop rule holds, or no trial can start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from studyflow.diagnostics.blockers.thresholds import shown
from studyflow.diagnostics.snapshot import Snapshot
from studyflow.reasons import Code, Finding, Level, Reason
from studyflow.reports.wording import plural
from studyflow.spec import StudySpec
from studyflow.study import describe_finished, stop_reason, why_fruitless
from studyflow.study.first_failures import decisive, first_failures, why_stopped
from studyflow.trial.record import TrialRecord, best_records


def end(snapshot: Snapshot, spec: StudySpec) -> Iterator[Finding]:
    """Yield why nothing more is to come."""
    if (spent := snapshot.why_spent) is not None:
        level = Level.FINISHED if best_records(snapshot.counted, spec.directions) else Level.PROBLEM
        yield Finding.because(level, "budget", _short(spent))
        return
    if snapshot.n_left == 0:
        if not best_records(snapshot.counted, spec.directions):
            yield Finding.because(
                Level.FINISHED, "budget", _short(why_fruitless(spec, snapshot.records))
            )
            return
        n = len(snapshot.counted)
        goes_on = f"{snapshot.run_command} --n-trials {n + (spec.budget.n_trials or n)} goes on."
        finished = describe_finished(spec, snapshot.records)
        if finished.hint is not None:
            hint = f"{finished.hint} {goes_on}"
            yield Finding(finished.code, Level.FINISHED, "budget", finished.message, hint)
            return
        yield Finding(
            Code.BUDGET_SPENT,
            Level.FINISHED,
            "budget",
            f"Its budget is spent: all {plural(n, 'trial')} are finished."
            if n > 1
            else "Its budget is spent: its one trial is finished.",
            goes_on,
        )
        return
    first = () if snapshot.is_driven else decisive(first_failures(snapshot.records), spec)
    if first:
        yield Finding.because(Level.PROBLEM, "stop rule", _short(why_stopped(first)))
        return
    # A runner that is at work was started after these failures, and has yet to see for itself.
    stop = None if snapshot.is_driven else stop_reason(spec, snapshot.records)
    if stop is not None:
        level = Level.PROBLEM if stop.is_failure else Level.FINISHED
        yield Finding.because(level, "stop rule", _short(stop.reason))


def could_not_start(snapshot: Snapshot, _: StudySpec) -> Iterator[Finding]:
    """Yield why the last runner gave up: no trial can start, whatever its parameters."""
    last = withdrawn_trial(snapshot)
    if last is not None:
        hint = f"fix that, and {snapshot.run_command} goes on."
        yield Finding.because(Level.PROBLEM, "start", _short(last.reason), hint=hint)


def withdrawn_trial(snapshot: Snapshot) -> TrialRecord | None:
    """Return the trial by which the last runner found that none can start; `None` without one."""
    finished = [record for record in snapshot.records if record.state.is_finished]
    last = max(finished, key=lambda r: (r.finished_at or 0.0, r.number), default=None)
    if last is None or snapshot.is_driven or last.code is not Code.COULD_NOT_START:
        return None
    return last


def _short(reason: Reason) -> Reason:
    return replace(reason, message=shown(reason.message))
