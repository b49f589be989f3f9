"""Earlier results: what fits, what does not and why, and that nothing is taken over twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from tests.unit.cli.test_cli import invoke

from studyflow.errors import SpecError, StudyMismatch, TableError
from studyflow.reasons import Code, Reason
from studyflow.reports import StudyData
from studyflow.reports.tables import trials_csv
from studyflow.spec import StudySpec
from studyflow.study import find_study, is_counted, load_records
from studyflow.study.earlier import (
    Misfit,
    find_columns,
    from_rows,
    from_study,
    read_value,
    take_over,
    without_known,
)
from studyflow.study.table import Flaw

DOCUMENT: dict[str, Any] = {
    "name": "warm",
    "objectives": [{"metric": "loss", "direction": "minimize"}],
    "search_space": {
        "lr": {"type": "float", "low": 0.001, "high": 0.1, "log": True},
        "depth": {"type": "int", "low": 1, "high": 8},
        "opt": {"type": "categorical", "choices": ["adam", "sgd", True, None, 2]},
        "momentum": {"type": "float", "low": 0.5, "high": 0.99, "when": {"opt": "sgd"}},
    },
    "fixed": {"data": "cifar"},
    "budget": {"n_trials": 3},
    "trial": {"command": ["python", "train.py"]},
}


def spec_with(**changes: Any) -> StudySpec:
    return StudySpec.from_mapping({**DOCUMENT, **changes})


SPEC = spec_with()
SPACE: dict[str, Any] = DOCUMENT["search_space"]
HEADER = ("lr", "params.depth", "opt", "momentum", "metrics.loss", "state", "data")
EMPTY = dict.fromkeys((*HEADER, "wd", "size"), "")
GOOD = {"lr": "0.01", "params.depth": "3.0", "opt": "adam", "metrics.loss": "0.5"}


def read(*rows: dict[str, str], spec: StudySpec = SPEC) -> Any:
    columns = find_columns(spec, HEADER, {})
    whole = [(i, {**EMPTY, **row}) for i, row in enumerate(rows, start=2)]
    return from_rows(spec, whole, "t.csv", columns)


def misfit(label: str, code: Code, message: str) -> Misfit:
    return Misfit(label, (Reason(code, message),))


def test_a_row_becomes_a_trial_with_typed_parameters() -> None:
    (trial,) = read({**GOOD, "opt": "sgd", "momentum": "0.9"}).fitting

    assert trial.params == {"lr": 0.01, "depth": 3, "opt": "sgd", "momentum": 0.9}
    assert isinstance(trial.params["depth"], int)
    assert trial.values == [0.5]
    assert trial.user_attrs["taken_over_from"] == "t.csv"


@pytest.mark.parametrize(
    ("text", "value"), [("True", True), ("null", None), ("2.0", 2), ("sgd", "sgd")]
)
def test_a_cell_means_the_choice_that_it_stands_for(text: str, value: Any) -> None:
    found = read_value(SPEC.search_space["opt"], text)

    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"lr": "0.5"}, Code.OUTSIDE_SPACE, "lr=0.5 is not in [0.001, 0.1] log"),
        ({"lr": ""}, Code.OUTSIDE_SPACE, "lr is missing"),
        ({"params.depth": "3.5"}, Code.OUTSIDE_SPACE, "depth=3.5 is not in [1, 8]"),
        ({"params.depth": "inf"}, Code.OUTSIDE_SPACE, "depth=inf is not in [1, 8]"),
        ({"opt": "ADAM"}, Code.OUTSIDE_SPACE, "opt=ADAM is not in"),
        (
            {"momentum": "0.9"},
            Code.OUTSIDE_SPACE,
            "momentum does not exist under these values of opt",
        ),
        ({"metrics.loss": "nan"}, Code.RESULT_INCOMPLETE, "loss is not finite"),
        ({"metrics.loss": ""}, Code.RESULT_INCOMPLETE, "loss is no number: empty"),
        ({"state": "failed"}, Code.RESULT_UNFINISHED, "its state is failed"),
        ({"data": "mnist"}, Code.FIXED_OTHERWISE, "data is fixed to 'cifar' now, and it was mnist"),
    ],
)
def test_a_row_that_does_not_fit_is_named_with_its_reason(
    change: dict[str, str], code: Code, message: str
) -> None:
    earlier = read(GOOD, {**GOOD, **change})

    assert len(earlier.fitting) == 1
    (misfit,) = earlier.misfits
    assert misfit.label == "row 3"
    assert [reason.code for reason in misfit.reasons] == [code]
    assert str(misfit).startswith(message)


def test_all_that_is_wrong_with_a_row_is_told() -> None:
    (misfit,) = read({**GOOD, "lr": "0.5", "data": "mnist", "metrics.loss": "inf"}).misfits

    assert [reason.code for reason in misfit.reasons] == [
        Code.OUTSIDE_SPACE,
        Code.FIXED_OTHERWISE,
        Code.RESULT_INCOMPLETE,
    ]
    assert str(misfit).count("; ") == 2


def test_a_bound_is_judged_anew() -> None:
    bounded = spec_with(constraints=[{"metric": "size", "max": 10}])
    columns = find_columns(bounded, (*HEADER, "size"), {})
    cells = {**EMPTY, **GOOD, "size": "12"}
    (trial,) = from_rows(bounded, [(2, cells)], "t.csv", columns).fitting

    assert trial.constraints == {"size <= 10": 2.0}


def test_a_missing_column_is_told_before_any_row_is_read() -> None:
    with pytest.raises(SpecError) as missing:
        find_columns(SPEC, ("lr", "optimizer", "loss"), {})
    with pytest.raises(SpecError, match="rate is no parameter and no metric"):
        find_columns(SPEC, HEADER, {"rate": "lr"})

    assert "No column for depth, opt; the columns are: lr, optimizer, loss." in str(missing.value)
    found = find_columns(SPEC, ("lr", "depth", "optimizer", "loss"), {"opt": "optimizer"})
    assert found.params == {"lr": "lr", "depth": "depth", "opt": "optimizer"}
    assert found.metrics == {"loss": "loss"}


@pytest.mark.fault("F72")
def test_every_cell_that_can_be_read_in_more_than_one_way_is_named_and_nothing_is_taken() -> None:
    choices = ["adam", "sgd", None, "", 0.5]
    alike = spec_with(
        search_space={**SPACE, "opt": {"type": "categorical", "choices": choices}},
        fixed={"wd": 0.5},
    )
    columns = find_columns(alike, (*HEADER, "wd"), {})
    rows = [
        {**EMPTY, **GOOD},
        {**EMPTY, **GOOD, "lr": "0,01", "metrics.loss": "1.234,5"},
        {**EMPTY, **GOOD, "opt": "", "params.depth": "1,0"},
        {**EMPTY, **GOOD, "opt": "0,5", "wd": "0,5"},
        {**EMPTY, **GOOD, "lr": "0,01", "state": "failed"},  # no result: never read
    ]

    with pytest.raises(TableError) as refused:
        from_rows(alike, list(enumerate(rows, start=2)), "t.csv", columns, [Flaw(9, "", "short")])

    assert [line.partition(" (")[0] for line in refused.value.flaws] == [
        "row 3, column lr: a number must not hold commas, but it is '0,01'",
        "row 3, column metrics.loss: a number must not hold commas, but it is '1.234,5'",
        "row 4, column params.depth: a number must not hold commas, but it is '1,0'",
        "row 4, column opt: an empty cell may mean null or ''",
        "row 5, column opt: a number must not hold commas, but it is '0,5'",
        "row 5, column wd: a number must not hold commas, but it is '0,5'",
        "row 9: short",
    ]
    assert '(in the file, write null for null, """""" for \'\')' in str(refused.value)


@pytest.mark.fault("F72")
@pytest.mark.parametrize(
    ("header", "flaw"),
    [
        (("n", "loss", "loss"), "column loss: there are several of this name, at positions 2, 3"),
        (("n", "params.n", "loss"), "column n: the column params.n may be that of n too"),
        (("n", "loss", "metric.loss"), "column loss: the column metric.loss may be that of loss"),
    ],
)
def test_two_columns_that_may_be_that_of_one_name_are_doubtful(
    header: tuple[str, ...], flaw: str
) -> None:
    spec = spec_with(search_space={"n": {"type": "int", "low": 1, "high": 9}}, fixed={})

    with pytest.raises(TableError) as refused:
        from_rows(spec, [], "t.csv", find_columns(spec, header, {}))

    assert refused.value.flaws[0].startswith(f"row 1, {flaw}")


@pytest.mark.fault("F72")
def test_columns_that_a_person_names_or_that_are_never_read_are_not_doubtful() -> None:
    spec = spec_with(search_space={"state": {"type": "int", "low": 1, "high": 9}}, fixed={})

    own = find_columns(
        spec, ("number", "state", "metrics.loss", "params.state", "note", "note"), {}
    )
    named = find_columns(spec, ("state", "loss", "metrics.loss"), {"loss": "metrics.loss"})

    assert (own.params, own.metrics, own.flaws) == (
        {"state": "params.state"},
        {"loss": "metrics.loss"},
        (),
    )
    assert (named.metrics, named.flaws) == ({"loss": "metrics.loss"}, ())


@pytest.mark.fault("F72")
def test_a_parameter_and_a_metric_of_one_name_have_a_column_each() -> None:
    spec = spec_with(search_space={"loss": {"type": "int", "low": 1, "high": 9}}, fixed={})

    columns = find_columns(spec, ("params.loss", "metrics.loss"), {})
    (trial,) = from_rows(
        spec, [(2, {"params.loss": "3", "metrics.loss": "0.5"})], "t.csv", columns
    ).fitting

    assert (trial.params, trial.values) == ({"loss": 3}, [0.5])
    with pytest.raises(SpecError, match=r"name params.loss or metrics.loss"):
        find_columns(spec, ("a", "b"), {"loss": "a"})
    shared = find_columns(spec, ("loss",), {})
    assert {flaw.column for flaw in shared.flaws} == {"loss"}
    doubtful = find_columns(spec, ("loss", "params.loss"), {}).flaws
    assert "--column params.loss=params.loss" in doubtful[0].text, "not what is refused above"


@pytest.mark.fault("F72")
def test_a_run_of_mlflow_that_did_not_finish_is_no_result() -> None:
    statuses = ("FINISHED", "KILLED", "RUNNING", "my own word")
    rows = [(i, {**EMPTY, **GOOD, "status": s}) for i, s in enumerate(statuses, start=2)]

    earlier = from_rows(SPEC, rows, "t.csv", find_columns(SPEC, (*HEADER, "status"), {}))

    assert earlier.misfits == (
        misfit("row 3", Code.RESULT_UNFINISHED, "its status is killed"),
        misfit("row 4", Code.RESULT_UNFINISHED, "its status is running"),
    )


@pytest.mark.fault("F73")
def test_a_value_on_a_grid_up_to_rounding_is_taken_over_as_the_point() -> None:
    grids = spec_with(
        search_space={
            "x": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.09090909090909091},
            "y": {"type": "float", "low": 0.0, "high": 0.3, "step": 0.1},
        },
        fixed={},
    )
    columns = find_columns(grids, ("x", "y", "loss"), {})
    cells = [("1.0", repr(3 * 0.1)), ("0.9090909090909091", "0.2"), ("0.9091", "0.1")]
    rows = [(i, {"x": x, "y": y, "loss": "1"}) for i, (x, y) in enumerate(cells, start=2)]

    earlier = from_rows(grids, rows, "t.csv", columns)
    source = optuna.create_study(study_name="old")
    source.add_trial(
        optuna.trial.create_trial(
            params={"x": 10 * (1 / 11), "y": 3 * 0.1},
            distributions=dict.fromkeys("xy", optuna.distributions.FloatDistribution(0.0, 1.0)),
            value=1.0,
        )
    )
    copied = from_study(grids, source, "old")

    assert [trial.params for trial in earlier.fitting] == [
        {"x": 1.0, "y": 0.3},
        {"x": 0.9090909090909091, "y": 0.2},
    ]
    assert earlier.misfits == (
        misfit("row 4", Code.OUTSIDE_SPACE, "x=0.9091 is not in [0, 1] step 0.09090909090909091"),
    )
    assert [trial.params for trial in copied.fitting] == [{"x": 0.9090909090909091, "y": 0.3}]


@pytest.fixture
def storage() -> optuna.storages.BaseStorage:
    return optuna.storages.InMemoryStorage()


def test_what_is_taken_over_costs_no_budget_and_is_taken_over_once(
    storage: optuna.storages.BaseStorage,
) -> None:
    first = read(GOOD, GOOD)  # the same point twice: it was evaluated twice
    more = read(GOOD, GOOD, {**GOOD, "lr": "0.02"})

    assert len(take_over(SPEC, storage, first)) == 2
    assert [trial.params["lr"] for trial in take_over(SPEC, storage, more)] == [0.02]
    assert take_over(SPEC, storage, more) == ()

    spec, records = load_records(find_study("warm", storage))
    assert spec == SPEC
    assert [record.values for record in records] == [(0.5,)] * 3
    assert [is_counted(record) for record in records] == [False] * 3


def test_a_point_to_try_first_that_is_among_the_results_is_not_tried_again(
    storage: optuna.storages.BaseStorage,
) -> None:
    known, other = ({"lr": lr, "depth": 3, "opt": "adam"} for lr in (0.01, 0.03))
    spec = spec_with(enqueue=[known, other])

    take_over(spec, storage, read(GOOD, spec=spec))

    study = find_study("warm", storage)
    waiting = [t for t in study.get_trials() if t.state is optuna.trial.TrialState.WAITING]
    assert [t.system_attrs["fixed_params"] for t in waiting] == [other]


def test_a_study_of_another_space_is_refused(storage: optuna.storages.BaseStorage) -> None:
    take_over(SPEC, storage, read(GOOD))
    wider = {**DOCUMENT["search_space"], "depth": {"type": "int", "low": 1, "high": 9}}
    changed = spec_with(search_space=wider)

    with pytest.raises(StudyMismatch, match=r"search_space.depth.high: 8 → 9"):
        take_over(changed, storage, read(GOOD, spec=changed))


def a_trial(**changes: Any) -> optuna.trial.FrozenTrial:
    params = {"lr": 0.01, "depth": 3, "opt": "adam", "dropout": 0.1}
    given = {"state": optuna.trial.TrialState.COMPLETE, "params": params, "value": 0.5, **changes}
    distributions: dict[str, Any] = {
        "lr": optuna.distributions.FloatDistribution(1e-5, 1.0),
        "depth": optuna.distributions.IntDistribution(1, 100),
        "opt": optuna.distributions.CategoricalDistribution(["adam", "sgd"]),
        "dropout": optuna.distributions.FloatDistribution(0.0, 1.0),
        "data": optuna.distributions.CategoricalDistribution(["cifar", "mnist"]),
    }
    named = {name: distributions[name] for name in given["params"]}
    return optuna.trial.create_trial(distributions=named, **given)


@pytest.mark.parametrize("identity", [3, "loss", {}, {"objectives": 1}, {"objectives": [{}]}])
def test_an_identity_that_is_none_of_ours_names_no_objectives(identity: Any) -> None:
    source = optuna.create_study(study_name="old")
    source.set_user_attr("studyflow:identity", identity)
    source.add_trials([a_trial()])

    assert len(from_study(SPEC, source, "old").fitting) == 1


def test_trials_of_a_plain_optuna_study_fit_or_are_named_with_the_reason() -> None:
    states = optuna.trial.TrialState
    source = optuna.create_study(study_name="old")
    whole = {"lr": 0.01, "depth": 3, "opt": "adam"}
    source.add_trials(
        [
            a_trial(),
            a_trial(params={**whole, "depth": 50}),
            a_trial(state=states.FAIL, value=None),
            a_trial(state=states.PRUNED, value=0.7, intermediate_values={1: 0.7}),
            a_trial(value=float("inf")),
            a_trial(params={**whole, "data": "mnist"}),
        ]
    )
    source.ask()

    earlier = from_study(SPEC, source, "old")

    assert [trial.state for trial in earlier.fitting] == [states.COMPLETE, states.PRUNED]
    assert earlier.fitting[0].params == whole
    assert earlier.fitting[1].intermediate_values == {1: 0.7}
    assert earlier.ignored == ("dropout",)
    assert earlier.misfits == (
        misfit("trial 1", Code.OUTSIDE_SPACE, "depth=50 is not in [1, 8]"),
        misfit("trial 2", Code.RESULT_UNFINISHED, "it failed, and nothing says why"),
        misfit("trial 4", Code.RESULT_INCOMPLETE, "a value is not finite"),
        misfit("trial 5", Code.FIXED_OTHERWISE, "data is fixed to 'cifar' now, and it was 'mnist'"),
        misfit("trial 6", Code.RESULT_UNFINISHED, "it is running, not finished"),
    )


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_study_with_another_objective_or_direction_is_refused_as_a_whole() -> None:
    upwards = optuna.create_study(direction="maximize")
    other = optuna.create_study()
    other.set_metric_names(["accuracy"])

    with pytest.raises(StudyMismatch, match="has the directions maximize"):
        from_study(SPEC, upwards, "up")
    with pytest.raises(StudyMismatch, match="optimises accuracy, and 'warm' optimises loss"):
        from_study(SPEC, other, "other")


def test_a_bound_without_its_value_does_not_fit() -> None:
    bounded = spec_with(constraints=[{"metric": "size", "max": 10}])
    source = optuna.create_study()
    source.add_trial(a_trial())

    (misfit,) = from_study(bounded, source, "old").misfits

    assert misfit.reasons == (
        Reason(Code.RESULT_INCOMPLETE, "it has no value for the constraint size <= 10"),
    )


def test_the_table_that_a_report_writes_can_be_read_again(
    storage: optuna.storages.BaseStorage,
) -> None:
    earlier = read(GOOD, {**GOOD, "opt": "sgd", "momentum": "0.9", "lr": "0.012345678901234567"})
    take_over(SPEC, storage, earlier)
    spec, records = load_records(find_study("warm", storage))
    assert spec is not None
    lines = trials_csv(StudyData(spec, records)).splitlines()
    rows = [
        (i, dict(zip(lines[0].split(","), line.split(","), strict=True)))
        for i, line in enumerate(lines[1:], start=2)
    ]

    again = from_rows(SPEC, rows, "t.csv", find_columns(SPEC, lines[0].split(","), {}))

    assert again.misfits == ()
    assert without_known(again, find_study("warm", storage).get_trials()) == ()


def test_the_command_reads_a_table_of_semicolons_and_changes_nothing_in_a_dry_run(
    tmp_path: Path,
) -> None:
    (tmp_path / "study.yaml").write_text(SPEC.to_yaml())
    table = tmp_path / "old.csv"
    table.write_text("lr;depth;o;loss\n0.01;3;adam;0.5\n0.5;3;adam;0.5\n", encoding="utf-8-sig")
    home = tmp_path / "home"
    command = ("import", "csv", tmp_path / "study.yaml", table, "--home", home)

    no_column = invoke(*command)
    dry = invoke(*command, "--column", "opt=o", "--dry-run")
    assert not home.exists()
    wet = invoke(*command, "--column", "opt=o")

    assert (no_column.exit_code, dry.exit_code, wet.exit_code) == (2, 0, 0)
    assert dry.stdout.startswith("warm: would take over 1 of 2 results of old.csv\n")
    assert "  row 3 does not fit: lr=0.5 is not in [0.001, 0.1] log\n" in wet.stdout
    assert (
        '"values": {\n      "loss": 0.5'
        in invoke("trials", "warm", "--json", "--home", home).stdout
    )


@pytest.mark.fault("F72")
def test_the_command_refuses_a_doubtful_table_before_anything_is_written(tmp_path: Path) -> None:
    space = {"a=b": {"type": "int", "low": 1, "high": 9}}
    (tmp_path / "study.yaml").write_text(spec_with(search_space=space, fixed={}).to_yaml())
    table = tmp_path / "old.csv"
    table.write_text("n,loss\n1,1\n2,0,5\n3,2\n")
    home = tmp_path / "home"
    command = ("import", "csv", tmp_path / "study.yaml", table, "--column", "a=b=n", "--home", home)

    doubtful = invoke(*command)
    twice = invoke(*command, "--column", "a=b=loss")
    nothing = not home.exists()
    table.write_text("n,loss\n1,1\n2,0.5\n3,2\n")
    clear = invoke(*command)

    assert (doubtful.exit_code, twice.exit_code, nothing, clear.exit_code) == (2, 2, True, 0)
    assert "row 3: it has 3 cells for 2 columns" in doubtful.stderr
    assert "--column names two columns for a=b" in twice.stderr
    assert clear.stdout == "warm: took over 3 of 3 results of old.csv\n"


def test_the_command_takes_an_optuna_storage_and_says_which_studies_it_holds(
    tmp_path: Path,
) -> None:
    (tmp_path / "study.yaml").write_text(SPEC.to_yaml())
    url = f"sqlite:///{tmp_path}/old.db"
    for name in ("one", "two"):
        optuna.create_study(study_name=name, storage=url).add_trial(a_trial())
    command = ("import", "optuna", tmp_path / "study.yaml", "--from", url, "--home", tmp_path)

    unclear = invoke(*command)
    taken = invoke(*command, "--name", "two")

    assert (unclear.exit_code, taken.exit_code) == (2, 0)
    assert "holds 2 studies: one, two. Hint: name one by --name." in unclear.stderr
    assert taken.stdout.splitlines() == [
        "warm: took over 1 of 1 results of two",
        "  left out, not in the study file: dropout",
    ]
