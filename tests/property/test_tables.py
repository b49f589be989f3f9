"""What a report writes about its trials is read again as the same trials, whatever the choices."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from studyflow.errors import SpecError
from studyflow.reports import StudyData
from studyflow.reports.tables import trials_csv
from studyflow.spec import StudySpec
from studyflow.study.earlier import column_names, find_columns, from_rows
from studyflow.study.table import read_table
from studyflow.trial.record import TrialRecord, TrialState

quick = settings(derandomize=True, deadline=None, max_examples=150)

alike = st.sampled_from(
    [
        *(None, True, False, 0, 1, 2.5, -1, 10**16 + 1),
        *("", " ", "null", "None", "NULL", "true", "True", "1", "1.0", "1e0", "0", "nan", "inf"),
        *("x", " x", "x ", '"x"', "[null]", "[1]", '"', "'", "=1", "+1", "-", "@a", "a,b", "a;b"),
        *("1,5", "a\nb", "a\r\nb", "a\u2028b", "a\x1cb", "\t", "é", "\N{GRINNING FACE}", "NA"),
    ]
)
scalars = alike | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.fault("F72")
@quick
@given(st.lists(scalars | numbers, min_size=1, max_size=8), st.floats(-1e9, 1e9), scalars)
def test_the_table_of_a_report_is_read_as_the_same_trials(
    choices: list[Any], x: float, fixed: Any
) -> None:
    document: dict[str, Any] = {
        "name": "own",
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "constraints": [{"metric": "size", "max": 20}],
        "search_space": {
            "state": {"type": "categorical", "choices": choices},
            "child": {
                "type": "categorical",
                "choices": [None, "", "null"],
                "when": {"state": choices[0]},
            },
            "x": {"type": "float", "low": -1e9, "high": 1e9},
        },
        "fixed": {"seed": fixed},
        "budget": {"n_trials": 8},
        "trial": {"command": ["python", "train.py"]},
    }
    try:
        spec = StudySpec.from_mapping(document)
    except SpecError:  # two choices are equal
        assume(False)
        raise
    records = tuple(
        TrialRecord(
            number=i,
            state=TrialState.COMPLETE,
            params={
                "state": choice,
                **({"child": [None, "", "null"][len(choices) % 3]} if i == 0 else {}),
                "x": x,
                "seed": fixed,
            },
            values=(x / 3,),
            metrics={"loss": x / 3, "size": 7.0},
        )
        for i, choice in enumerate(choices)
    )

    text = trials_csv(StudyData(spec, records))
    table = read_table(text.encode(), "trials.csv", column_names(spec))
    earlier = from_rows(
        spec, table.rows, "trials.csv", find_columns(spec, table.header, {}), table.flaws
    )

    assert earlier.misfits == ()
    for record, trial in zip(records, earlier.fitting, strict=True):
        searched = {name: record.params[name] for name in trial.params}
        assert {n: (v, type(v)) for n, v in trial.params.items()} == {
            n: (v, type(v)) for n, v in searched.items()
        }
        assert trial.values == list(record.values or ())
