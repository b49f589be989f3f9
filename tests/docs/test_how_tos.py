"""The how-to pages do what they say: their scripts run, their Jobs hold what they promise."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.docs.pages import ROOT, blocks
from tests.prepared import Command, put_mlflow_database
from tests.unit.cli.test_cli import invoke

LOCAL = ("constraints", "several-objectives", "pruning", "two-machines")
IN_A_CLUSTER = ("private-images-and-data", "kueue")


def write(page: str, folder: Path) -> Path:
    path = ROOT / "docs" / f"{page}.md"
    for script in blocks(path, "python"):
        (folder / "train.py").write_text(script)
    study = folder / "study.yaml"
    study.write_text(blocks(path, "yaml")[0])
    return study


def job(page: str, folder: Path) -> dict[str, Any]:
    rendered = invoke("render", write(page, folder), "--home", folder / "home")
    assert rendered.exit_code == 0, rendered.output
    document: dict[str, Any] = yaml.safe_load(rendered.stdout)
    return document


def test_every_how_to_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [
        page for page in (*LOCAL, "warm-start", *IN_A_CLUSTER) if f"(docs/{page}.md)" not in readme
    ] == []


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", LOCAL)
def test_the_study_of_a_how_to_runs_as_it_stands(page: str, tmp_path: Path) -> None:
    study = write(page, tmp_path)
    put_mlflow_database(tmp_path / ".studyflow")
    log = tmp_path / "log"
    command = ["run", str(study), "--n-trials", "4"]
    run = Command("studyflow", command, cwd=tmp_path, env=os.environ, log=log)

    assert run.wait(170) == 0, log.read_text()
    assert "All 4 trials are finished." in log.read_text()


@pytest.mark.parametrize("page", IN_A_CLUSTER)
def test_the_study_of_a_how_to_can_be_planned(page: str, tmp_path: Path) -> None:
    place = ("--executor", "kubernetes", "--home", tmp_path / "home", "--json")
    planned = invoke("plan", write(page, tmp_path), *place)

    assert planned.exit_code == 0, planned.output
    assert json.loads(planned.stdout)["per_trial"]["nvidia.com/gpu"] == "1"


def test_the_job_has_pull_secret_data_and_token(tmp_path: Path) -> None:
    pod = job("private-images-and-data", tmp_path)["spec"]["template"]["spec"]
    mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    token = next(v for v in pod["containers"][0]["env"] if v["name"] == "HF_TOKEN")

    assert pod["imagePullSecrets"] == [{"name": "regcred"}]
    assert mounts["/data"]["readOnly"] is True
    assert "/cache" in mounts
    assert token["valueFrom"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert {"claimName": "imagenet", "readOnly": True} in [
        volume.get("persistentVolumeClaim") for volume in pod["volumes"]
    ]


def test_the_job_waits_for_its_queue(tmp_path: Path) -> None:
    queued = job("kueue", tmp_path)

    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert queued["spec"]["suspend"] is True


def test_a_table_is_taken_in_as_the_page_says(tmp_path: Path) -> None:
    study = write("warm-start", tmp_path)
    table = tmp_path / "results.csv"
    table.write_text("learning_rate,loss\n0.01,0.0001\n0.05,0.0009\n5,1\n")

    taken = invoke(
        "import", "csv", study, table, "--column", "lr=learning_rate", "--home", tmp_path / "home"
    )

    assert taken.exit_code == 0, taken.output
    assert taken.stdout.startswith("again: took over 2 of 3 results of ")


def test_objectives_and_pruning_are_refused_together(tmp_path: Path) -> None:
    study = write("several-objectives", tmp_path)
    study.write_text(study.read_text() + "pruner: {type: median}\n")

    assert invoke("check", study).exit_code == 2
