from __future__ import annotations

from dataclasses import replace

import pytest

from studyflow.reports import StudyData, headline, next_steps, summary_markdown
from studyflow.reports.summary import SUMMARY_LIMIT_CHARS, gain, is_safe_link
from studyflow.trial import Cause
from studyflow.trial.record import Resumption, TrialState

from .studies import CNN, SMALL, STUDIES, everything, make_spec, make_study
from .test_tables import small_study


def test_summary_literally() -> None:
    assert summary_markdown(small_study(), {"MLflow": "http://mlflow:5000/#/experiments/1"}) == (
        "## cnn-lstm\n\n**Lowest val\\_loss: 0.25, at trial 2 of 4.**\n"
        "\n"
        "[MLflow](http://mlflow:5000/#/experiments/1)\n"
        "\n"
        "### Best configuration (trial 2)\n\n"
        "| parameter | value |\n| --- | --- |\n| lr | 0.003 |\n| optimizer | sgd |\n"
        "| momentum | 0.75 |\n| seed | 7 |\n"
        "\n"
        "### Trials\n\n4 trials: 1 waiting, 2 complete, 1 failed.\n"
        "Causes: 1 nan.\n"
        "Took 3 min 1 s, at most 2 trials at once (3 min 2 s of trial time).\n"
        "\n"
        "### What to look at next\n\n"
        "- 1 trial of 3 failed with nan: narrow the learning rate's range, or clip gradients.\n"
        "- 1 attempt lost to the infrastructure and repeated: see the cluster's events if this "
        "grows.\n"
        "\n"
        "### Failures\n\n| cause | trials | message |\n| --- | --- | --- |\n"
        "| nan | 1 | \\=cmd\\|' /C calc'!A0 loss is NaN |\n"
    )


def test_an_attempt_that_took_up_a_paused_trial_repeats_none_that_was_lost() -> None:
    data = small_study()
    paused = replace(data.records[2], attempt=3, resumptions=(Resumption(2), Resumption(3)))
    records = (*data.records[:2], paused, *data.records[3:])

    def n_lost(study: StudyData) -> list[str]:
        return [step.split()[0] for step in next_steps(study) if "lost to the infra" in step]

    assert n_lost(replace(data, records=records)) == n_lost(data) == ["1"]


def test_headlines() -> None:
    assert headline(STUDIES["no trial"]()) == "No trial has been started yet."
    assert headline(STUDIES["all failed"]()) == "All 8 trials failed."
    assert headline(STUDIES["all running"]()) == "No trial has returned a value yet (3 running)."
    assert headline(STUDIES["one trial"]()).endswith(", at trial 0.")
    front = STUDIES["two objectives"]()
    assert headline(front) == (
        f"{len(front.best)} trials of 20 are on the Pareto front of val_loss and throughput."
    )


def test_a_study_of_one_value_names_no_best_trial_and_no_edge() -> None:
    data = STUDIES["constant"]()
    assert headline(data) == "All 10 complete trials returned the same val_loss: 3."
    assert next_steps(data)[-1] == (
        "Every complete trial returned the same val_loss: does the script use its parameters, and "
        "report what it measured?"
    )


def test_a_few_trials_say_nothing_about_the_edges_of_the_space() -> None:
    spec = make_spec({"x": {"type": "int", "low": 0, "high": 3}})
    data = make_study(spec, 4, lambda p: (-p["x"],), end=everything(TrialState.COMPLETE))
    assert not any("edge of the space" in step for step in next_steps(data))


def test_failed_trials_do_not_make_the_best_one_old() -> None:
    values = iter([3.0, 2.0, *[1.0] * 40])
    end = {True: TrialState.COMPLETE, False: TrialState.FAILED}
    data = make_study(
        make_spec(CNN), 30, lambda p: (next(values),), end=lambda i: end[i < 3], cause=Cause.NAN
    )
    assert not any("old" in step for step in next_steps(data))


def test_the_only_complete_trial_may_break_a_bound() -> None:
    data = make_study(make_spec(CNN), 1)
    broken = replace(data.records[0], constraints={"ms <= 20": 1.0})
    said = headline(StudyData(data.spec, (broken,)))
    assert said == "The only complete trial breaks the bound ms <= 20."
    broken = replace(broken, constraints={"ms <= 20": 1.0, "mb <= 9": 0.0})
    assert headline(StudyData(data.spec, (broken,))) == "The only complete trial breaks a bound."


def test_a_study_whose_script_is_broken_says_so() -> None:
    data = make_study(make_spec(CNN), 5, end=everything(TrialState.FAILED), cause=Cause.USER_ERROR)
    (step,) = next_steps(data)
    assert step == (
        "5 trials of 5 failed with user-error: read the message of the first one and fix the "
        "training script."
    )


def test_a_best_value_at_a_bound_is_pointed_out() -> None:
    spec = make_spec({"x": {"type": "int", "low": 0, "high": 3}})
    data = make_study(spec, 6, lambda p: (-p["x"],), end=everything(TrialState.COMPLETE))
    assert any("x = 3 (upper bound)" in step for step in next_steps(data))


def test_nothing_untrusted_is_markdown_or_html() -> None:
    text = summary_markdown(
        STUDIES["hostile"](), {"[bad](x": "javascript:alert(1)", "a]b": "http://h/(x) y"}
    )
    assert "<script" not in text
    assert "<img" not in text
    assert "javascript" not in text
    assert "\x1b" not in text
    assert "[a\\]b](http://h/%28x%29%20y)" in text
    assert "a\\|b\\`c\\`\\*d\\*" in text


def test_only_web_addresses_become_links() -> None:
    assert is_safe_link("https://mlflow/x")
    assert is_safe_link("runs/1/report.html")
    assert not is_safe_link("javascript:alert(1)")
    assert not is_safe_link("JavaScript:alert(1)")
    assert not is_safe_link("data:text/html,x")


def test_a_summary_is_bounded(study: StudyData) -> None:
    assert 0 < len(summary_markdown(study)) <= SUMMARY_LIMIT_CHARS


def test_a_long_summary_loses_its_end_and_keeps_its_beginning() -> None:
    space = {f"{i:02}{'x' * 240}": {"type": "float", "low": 0, "high": 1} for i in range(30)}
    text = summary_markdown(make_study(make_spec(space), 12))
    assert text.startswith("## cnn-lstm\n\n**Lowest")
    assert len(text) <= SUMMARY_LIMIT_CHARS


@pytest.mark.parametrize(
    ("values", "enqueued", "said"),
    [
        ([0.358, 0.077], (), "val_loss: 0.358 → 0.077, −78 % against the first configuration (tri"),
        ([0.5, 0.4, 0.3], (1,), "val_loss: 0.4 → 0.3, −25 % against the enqueued configuration (t"),
        ([0.1, 0.2], (), "No trial beat the first configuration (trial 0)"),
        ([0.0, -2.0], (), "val_loss: 0 → -2 against the first configuration (trial 0)"),
    ],
)
def test_the_gain_is_measured_from_the_enqueued_or_the_first_trial(
    values: list[float], enqueued: tuple[int, ...], said: str
) -> None:
    given = iter(values)
    data = make_study(
        make_spec(SMALL), len(values), lambda p: (next(given),), end=everything(TrialState.COMPLETE)
    )
    records = tuple(replace(r, is_enqueued=r.number in enqueued) for r in data.records)
    assert (gain(replace(data, records=records)) or "").startswith(said)
