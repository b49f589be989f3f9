"""What a script inherits of its runner, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path

from studyflow.executors.local.command import Surroundings
from studyflow.trial import Trial

TRIAL = Trial("demo", 7, {"x": 1.0})


def environment(
    runner: dict[str, str], gpus: tuple[str, ...] = (), **given: dict[str, str] | list[str]
) -> dict[str, str]:
    surroundings = Surroundings(Path("/study"), **given)  # type: ignore[arg-type]
    return surroundings.environment(TRIAL, gpus, runner)


def test_the_trial_comes_as_one_variable() -> None:
    found = environment({"STUDYFLOW_TRIAL": "the runner's own", "MLFLOW_RUN_ID": "the runner's"})

    assert json.loads(found["STUDYFLOW_TRIAL"])["number"] == 7
    assert "MLFLOW_RUN_ID" not in found


def test_what_the_study_withholds_or_a_launcher_set_is_left_out() -> None:
    runner = {"HOOK": "secret", "RANK": "3", "WORLD_SIZE": "4", "HOME": "/root"}

    found = environment(runner, withheld_env=["HOOK"], env={"RANK": "0"})

    assert found.keys().isdisjoint({"HOOK", "WORLD_SIZE"})
    assert (found["RANK"], found["HOME"]) == ("0", "/root")


def test_the_study_s_folder_comes_first_among_modules() -> None:
    assert environment({})["PYTHONPATH"] == "/study"
    assert environment({"PYTHONPATH": "/elsewhere"})["PYTHONPATH"] == "/study:/elsewhere"


def test_gpus_are_named_in_the_order_that_nvidia_smi_counts_in() -> None:
    found = environment({"CUDA_VISIBLE_DEVICES": "5"}, ("2", "3"))

    assert (found["CUDA_VISIBLE_DEVICES"], found["CUDA_DEVICE_ORDER"]) == ("2,3", "PCI_BUS_ID")
    assert environment({"CUDA_VISIBLE_DEVICES": "5"})["CUDA_VISIBLE_DEVICES"] == "5"


def test_programs_are_looked_for_where_the_script_would_look() -> None:
    assert Surroundings(Path("/study"), {"PATH": "/tools"}).search_path == "/tools"
