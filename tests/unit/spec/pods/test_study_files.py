"""Hostile study files are refused by rule and hint, by every door; honest ones are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from tests.unit.spec.pods.hostile import HONEST, HOSTILE, Kubernetes

from studyflow.cli import main
from studyflow.context import StudyContext
from studyflow.errors import ExecutorBlocked, SpecError
from studyflow.executors.kubernetes.manifest import build_job, with_pod_paths
from studyflow.reasons import Code
from studyflow.settings import Settings
from studyflow.spec import StudySpec
from studyflow.spec.pods import Platform, judge_data, judge_study
from studyflow.spec.problems import show_path
from studyflow.spec.reader import read_text
from studyflow.trial import Trial

CODES = {Code.POD_FORBIDDEN, Code.PLATFORM_FORBIDS}


def document(kubernetes: Kubernetes, **trial: Any) -> dict[str, Any]:
    return {
        "name": "demo",
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
        "budget": {"n_trials": 2},
        "trial": {
            "command": ["python", "train.py"],
            "image": "registry.example/demo:1",
            "timeout_seconds": 3600,
            "kubernetes": kubernetes,
            **trial,
        },
    }


def a_spec(kubernetes: Kubernetes, **trial: Any) -> StudySpec:
    return StudySpec.from_mapping(document(kubernetes, **trial))


def a_trial() -> Trial:
    return Trial("demo", number=7, params={"x": 0.5}, metrics=("loss",))


def a_job(kubernetes: Kubernetes, platform: Platform | None = None, **trial: Any) -> dict[str, Any]:
    spec = a_spec(kubernetes, **trial)
    placed = with_pod_paths(a_trial(), spec.trial.kubernetes)
    return build_job(spec, placed, platform=platform)


def test_there_are_many_hostile_files() -> None:
    assert len(HOSTILE) >= 120


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.fault("F87")
def test_a_hostile_file_is_refused_at_its_place_with_a_way_out(name: str) -> None:
    kubernetes, place = HOSTILE[name]

    broken = judge_study(a_spec(kubernetes).trial, Platform())

    assert f"trial.kubernetes.{place}" in [show_path(one.path) for one in broken]
    for one in broken:
        assert one.code in CODES
        assert one.message
        assert one.hint


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.fault("F87")
def test_no_job_is_made_of_a_hostile_file(name: str) -> None:
    kubernetes, _ = HOSTILE[name]

    with pytest.raises(ExecutorBlocked, match=r"^No trial may have this pod: trial") as caught:
        a_job(kubernetes)

    assert caught.value.code in CODES
    assert "`studyflow check` lists all" in (caught.value.hint or "")


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_file_makes_a_job(name: str) -> None:
    assert judge_study(a_spec(HONEST[name]).trial, Platform()) == ()

    a_job(HONEST[name])


def test_all_problems_are_told_at_once_by_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        """\
name: escape
objectives: [{metric: loss, direction: minimize}]
search_space: {x: {type: float, low: 1, high: 0}}
budget: {n_trials: 2}
trial:
  command: [python, train.py]
  image: registry.example/x:1
  kubernetes:
    service_account: studyflow-runner
    secret_env: {DB: {secret: studyflow, key: storage-url}}
    labels: {app.kubernetes.io/component: runner}
    pod_template:
      metadata: {labels: {app.kubernetes.io/component: runner}}
      spec: {automountServiceAccountToken: true}
"""
    )

    done = CliRunner().invoke(main, ["check", str(path)])

    assert done.exit_code == 2
    lines = done.output.splitlines()
    assert [line.split(": ")[:2] for line in lines[1:]] == [
        ["study.yaml:3:16", "search_space.x"],
        ["study.yaml:9:22", "trial.kubernetes.service_account"],
        ["study.yaml:10:31", "trial.kubernetes.secret_env.DB.secret"],
        ["study.yaml:11:14", "trial.kubernetes.labels.app.kubernetes.io/component"],
        [
            "study.yaml:13:27",
            "trial.kubernetes.pod_template.metadata.labels.app.kubernetes.io/component",
        ],
        ["study.yaml:14:44", "trial.kubernetes.pod_template.spec.automountServiceAccountToken"],
    ]
    assert all(" Hint: " in line for line in lines[1:])
    assert "ask whoever runs the cluster" in lines[2]


def test_a_patch_is_judged_although_the_rest_of_its_section_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    wrong = {"run_as_user": 0, "pod_template": {"spec": {"hostPID": True}}}
    path.write_text(yaml.safe_dump(document(wrong)))

    output = CliRunner().invoke(main, ["check", str(path)]).output

    assert "trial.kubernetes.run_as_user: must be at least 1" in output
    assert "trial.kubernetes.pod_template.spec.hostPID: must be false" in output


@pytest.mark.parametrize("command", ["check", "render"])
def test_a_command_prints_no_pod_of_a_hostile_file(command: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(document({"pod_template": {"spec": {"hostNetwork": True}}})))

    done = CliRunner().invoke(main, [command, str(path)])

    assert done.exit_code == 2
    assert "hostNetwork: must be false in every trial's pod, but it is true" in done.output
    assert "kind: Job" not in done.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # A key that stands twice, an alias and a tag are the reader's to find.
        ("{spec: {hostPID: false, hostPID: true}}", "must stand once"),
        ("{spec: !!python/object:os.system {}}", "must be plain YAML"),
        ("{spec: {<<: {hostPID: true}}}", "it holds '<<'"),
        ("{spec: {? [a] : b}}", "a key must be a text"),
        ("{spec: {1: b}}", "it holds '1'"),
        ("{spec: {hostPID: on}}", "must be false in every trial's pod, but it is 'on'"),
    ],
)
def test_yaml_is_no_way_around(text: str, said: str) -> None:
    section = f"kubernetes: {{pod_template: {text}}}"
    source = yaml.safe_dump(document({})).replace("kubernetes: {}", section)

    with pytest.raises(SpecError) as caught:
        read_text(source, rules=lambda data: judge_data(data, Platform()))

    assert said in str(caught.value)


def test_a_patch_may_not_contradict_a_secret_of_the_file() -> None:
    kubernetes = {
        "secret_env": {"TOKEN": {"secret": "hub", "key": "token"}},
        "pod_template": {
            "spec": {"containers": [{"name": "trial", "env": [{"name": "TOKEN", "value": "x"}]}]}
        },
    }

    (broken,) = judge_study(a_spec(kubernetes).trial, Platform())

    assert "'TOKEN' stands in secret_env too" in broken.message


def test_what_is_no_json_is_refused_in_a_mapping_made_by_a_program() -> None:
    for value in ({1, 2}, object(), b"x", float("nan")):
        broken = judge_study(
            a_spec({"pod_template": {"spec": {"dnsConfig": value}}}).trial, Platform()
        )
        places = [show_path(one.path) for one in broken]
        assert places == ["trial.kubernetes.pod_template.spec.dnsConfig"]


def test_a_local_study_is_not_asked_about_its_pods(tmp_path: Path) -> None:
    spec = a_spec({"service_account": "team"})

    StudyContext(spec, Settings.resolve(home=tmp_path, environment={})).check()
    pods = Settings.resolve(home=tmp_path, environment={}, executor="kubernetes")
    with pytest.raises(SpecError, match="service_account"):
        StudyContext(spec, pods).check()


def test_a_stored_study_of_before_the_rules_can_still_be_read() -> None:
    kubernetes, _ = HOSTILE["the node's network"]

    assert StudySpec.from_text(a_spec(kubernetes).to_yaml()) == a_spec(kubernetes)
