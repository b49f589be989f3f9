"""What of a study is still to be run, as a study of its own. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from studyflow.errors import SimulationError
from studyflow.ledger import NO_PRICES, Prices
from studyflow.ledger.limits import LimitKind
from studyflow.ledger.statement import statement
from studyflow.spec import StudySpec
from studyflow.study import is_counted, n_trials_left, n_trials_to_finish
from studyflow.trial.record import TrialRecord, TrialState


def remaining(
    spec: StudySpec,
    records: Sequence[TrialRecord],
    *,
    gpu_hours: float | None = None,
    prices: Prices = NO_PRICES,
) -> StudySpec:
    """Return the study file with what is left of its limits.

    Trials that run count as not begun.

    Args:
        spec: The study file.
        records: Its trials so far.
        gpu_hours: Limit of the GPU-hours, or slot-hours, in all; the file's by default.
        prices: What an hour costs today.

    Raises:
        SimulationError: Nothing is left.
    """
    n_left = n_trials_left(n_trials_to_finish(spec), sum(map(is_counted, records)))
    if n_left == 0:
        raise SimulationError(
            f"All {n_trials_to_finish(spec)} trials of {spec.name!r} are finished: nothing is left "
            "to simulate.",
            hint="raise budget.n_trials, or --replay the study.",
        )
    document = spec.model_dump(mode="json", exclude_unset=True)
    budget = {**document["budget"], "n_trials": n_left}
    if gpu_hours is not None:
        budget["gpu_hours"] = gpu_hours
    ended = [record for record in records if record.state is not TrialState.RUNNING]
    limited = StudySpec.from_mapping({**document, "budget": budget})
    spent = statement(limited, ended, n_left=n_left, prices=prices)
    for balance in spent.balances:
        if balance.is_reached:
            raise SimulationError(
                f"budget.{balance.kind} of {spec.name!r} is spent: {balance.spent:.4g} of "
                f"{balance.limit:g}.",
                hint=f"raise budget.{balance.kind}.",
            )
        name = "gpu_hours" if balance.kind is LimitKind.GPU_HOURS else "cost"
        budget[name] = balance.limit - balance.spent
    if records:
        document.pop("enqueue", None)
    return StudySpec.from_mapping({**document, "budget": budget})
