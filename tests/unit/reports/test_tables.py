from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import yaml

from studyflow.reports import (
    StudyData,
    best_config,
    best_config_yaml,
    improvements,
    markdown_table,
    trial_rows,
    trials_csv,
)
from studyflow.trial import Cause
from studyflow.trial.record import TrialRecord, TrialState

from .studies import START, STUDIES, TWO, make_spec

SPACE = {
    "lr": {"type": "float", "low": 0.0001, "high": 0.1, "log": True},
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd"]},
    "momentum": {"type": "float", "low": 0.5, "high": 0.99, "when": {"optimizer": "sgd"}},
}


def small_study() -> StudyData:
    return StudyData(
        make_spec(SPACE, fixed={"seed": 7}),
        (
            TrialRecord(
                number=0,
                state=TrialState.COMPLETE,
                params={"lr": 0.01, "optimizer": "adam", "seed": 7},
                values=(0.5,),
                cause=Cause.OK,
                attempt=1,
                started_at=START,
                finished_at=START + 90.5,
            ),
            TrialRecord(
                number=1,
                state=TrialState.FAILED,
                params={"lr": 0.1, "optimizer": "sgd", "momentum": 0.9, "seed": 7},
                cause=Cause.NAN,
                message="=cmd|' /C calc'!A0\nloss is NaN",
                attempt=2,
                started_at=START + 1,
                finished_at=START + 3,
            ),
            TrialRecord(
                number=2,
                state=TrialState.COMPLETE,
                params={"lr": 0.003, "optimizer": "sgd", "momentum": 0.75, "seed": 7},
                values=(0.25,),
                cause=Cause.OK,
                attempt=1,
                started_at=START + 91,
                finished_at=START + 181,
            ),
            TrialRecord(number=3, state=TrialState.WAITING, params={"seed": 7}),
        ),
    )


def test_csv_literally() -> None:
    assert trials_csv(small_study()) == (
        "number,state,cause,metrics.val_loss,params.lr,params.optimizer,params.momentum,params.seed,"
        "attempt,duration_seconds,started_at,finished_at,message\n"
        "0,complete,ok,0.5,0.01,adam,,7,1,90.5,2026-09-21T14:13:20.000+00:00,"
        "2026-09-21T14:14:50.500+00:00,\n"
        "1,failed,nan,,0.1,sgd,0.9,7,2,2.0,2026-09-21T14:13:21.000+00:00,"
        "2026-09-21T14:13:23.000+00:00,'=cmd|' /C calc'!A0 loss is NaN\n"
        "2,complete,ok,0.25,0.003,sgd,0.75,7,1,90.0,2026-09-21T14:14:51.000+00:00,"
        "2026-09-21T14:16:21.000+00:00,\n"
        "3,waiting,,,,,,7,0,,,,\n"
    )


def test_improvements_are_the_trials_that_were_best_when_they_came() -> None:
    assert improvements(small_study()) == {0, 2}


def test_the_markdown_table_has_the_best_first() -> None:
    assert markdown_table(small_study(), limit=2) == (
        "| trial | state | val\\_loss | parameters | duration |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| 2 ★ | complete | 0.25 | lr=0.003, optimizer=sgd, momentum=0.75 | 1 min 30 s |\n"
        "| 0 | complete | 0.5 | lr=0.01, optimizer=adam | 1 min 30 s |\n"
        "\n"
        "… and 2 more trials; `trials.csv` has them all.\n"
    )


def test_the_best_configuration_holds_the_fixed_parameters() -> None:
    data = small_study()
    config = {
        "study": "cnn-lstm",
        "trial": 2,
        "objectives": {"val_loss": 0.25},
        "params": {"lr": 0.003, "optimizer": "sgd", "momentum": 0.75, "seed": 7},
    }
    assert best_config(data) == config
    assert yaml.safe_load(best_config_yaml(data)) == config
    assert json.loads(json.dumps(best_config(data))) == config


def test_without_a_value_there_is_no_best_configuration() -> None:
    assert best_config(STUDIES["all failed"]()) == {
        "study": "cnn-lstm",
        "trial": None,
        "objectives": {},
        "params": {},
    }


def test_several_objectives_give_a_front() -> None:
    spec = make_spec({"x": {"type": "float", "low": 0.0, "high": 9.0}}, objectives=TWO)
    records = tuple(
        TrialRecord(number=i, state=TrialState.COMPLETE, params={"x": float(i)}, values=values)
        for i, values in enumerate([(1.0, 5.0), (2.0, 4.0), (0.5, 1.0)])
    )
    front = best_config(StudyData(spec, records))["front"]
    assert [entry["trial"] for entry in front] == [0, 2]
    assert front[0]["objectives"] == {"val_loss": 1.0, "throughput": 5.0}


def test_rows_say_what_is_best_and_what_a_person_gave() -> None:
    rows = trial_rows(small_study())
    assert [row.number for row in rows if row.is_best] == [2]
    assert rows[1].cause is Cause.NAN
    assert rows[1].duration_seconds == 2.0
    enqueued = StudyData(make_spec(SPACE, enqueue=[{"lr": 0.01}]), small_study().records)
    assert enqueued.enqueued == {0}
    by_hand = tuple(replace(r, is_enqueued=r.number == 2) for r in small_study().records)
    assert StudyData(make_spec(SPACE), by_hand).enqueued == {2}


def test_every_study_has_tables(study: StudyData) -> None:
    rows = list(csv.reader(io.StringIO(trials_csv(study))))
    assert len(rows) == len(study.records) + 1
    assert len({len(row) for row in rows}) == 1
    assert improvements(study) is not None
    assert markdown_table(study)
    assert yaml.safe_load(best_config_yaml(study)) == best_config(study)
