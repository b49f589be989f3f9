"""`studyflow submit` and `attach`, over a real Prefect server and a process that serves runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flows.loading import ROOT, loaded
from tests.unit.cli.test_cli import invoke

from studyflow.deployments.deployment import Deployment
from studyflow.deployments.remote import RemoteServer
from studyflow.servers.prefect import ask

# Prefect and its server warn about their own dependencies; ours stay errors everywhere else.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.filterwarnings("default")]

STUDY = """
name: sent
objectives: [{metric: loss, direction: minimize}]
search_space: {x: {type: float, low: 0, high: 1}}
sampler: {type: random, seed: 0}
budget: {n_trials: 9}
trial: {command: [PYTHON, -S, TRAIN]}
"""

TRAIN = """
import sys
sys.path.insert(0, SOURCE)
from studyflow import sdk
sdk.finish(loss=sdk.current_trial().params["x"])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("submit")
    (made / "train.py").write_text(TRAIN.replace("SOURCE", repr(str(ROOT / "src"))))
    text = STUDY.replace("PYTHON", sys.executable).replace("TRAIN", str(made / "train.py"))
    (made / "study.yaml").write_text(text)
    return made


@pytest.fixture(scope="module")
def api(folder: Path) -> Iterator[str]:
    """The API of a server with a deployment whose runs a process of this machine starts."""
    with loaded("deploy"):
        from prefect.settings import get_current_settings

        address = str(get_current_settings().api.url)
        environment = {
            **os.environ,
            "PREFECT_API_URL": address,
            "STUDYFLOW_HOME": str(folder / "home"),
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        }
        study = str(folder / "study.yaml")
        given = Deployment(study, name="any", serve=True, on_collision="join")
        with (folder / "served.log").open("w") as log:
            serving = subprocess.Popen(
                [sys.executable, str(ROOT / "flows" / "deploy.py"), given.to_json()],
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=log,
            )
            try:
                yield address
            finally:
                serving.terminate()
                serving.wait(30)


def wait_for_deployment(api: str) -> None:
    for _ in range(120):
        try:
            ask(api, "deployments/name/run-study/any")
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail("the deployment was not made")


def test_a_study_is_sent_followed_to_its_end_and_found_again(
    api: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", api)
    monkeypatch.chdir(folder)
    wait_for_deployment(api)
    done = invoke("submit", "study.yaml", "--deployment", "any", "--n-trials", "2")
    shown = done.stdout + done.stderr
    assert done.exit_code == 0, shown
    assert f"submitted sent: {api.removesuffix('/api')}/runs/flow-run/" in done.stdout
    assert "trial 0 started: x=0.5488" in done.stderr
    assert "trial 1 loss=" in done.stderr
    assert "1 of 2 trials, " in done.stderr
    assert done.stdout.rstrip().splitlines()[-1].startswith("sent completed")

    again = invoke("attach", "sent")
    assert again.exit_code == 0
    assert again.stderr.count("trial 0 started") == 1

    detached = invoke("submit", "study.yaml", "--deployment", "any", "--n-trials", "3", "--detach")
    assert detached.exit_code == 0
    run_id = detached.stdout.split("/flow-run/")[1].split()[0]
    assert RemoteServer(api).read(run_id).id == run_id
    followed = invoke("attach", run_id)
    assert followed.exit_code == 0
    assert "trial 2 loss=" in followed.stderr
    assert "trial 0 started" not in followed.stderr


def test_what_the_server_does_not_know_is_refused_with_the_fix(
    api: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", api)
    monkeypatch.chdir(folder)
    done = invoke("submit", "study.yaml", "--deployment", "none-such")
    assert done.exit_code == 1
    assert "has no deployment 'run-study/none-such'" in done.stderr
    unknown = invoke("attach", "nobody")
    assert unknown.exit_code == 2
    assert "knows no run of 'nobody'" in unknown.stderr
