"""Which failed trials use no budget any more, because a person has fixed why they failed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from studyflow.study import storage_form as form
from studyflow.trial.record import TrialRecord


def given_back_in(attrs: Mapping[str, Any]) -> frozenset[int]:
    """Return the numbers of the trials that have their budget back, by a study's attributes."""
    return frozenset(attrs.get(form.GIVEN_BACK, ()))


def as_given_back(record: TrialRecord, given_back: Collection[int]) -> TrialRecord:
    """Return a record that says whether its trial has its budget back."""
    return replace(record, is_given_back=True) if record.number in given_back else record
