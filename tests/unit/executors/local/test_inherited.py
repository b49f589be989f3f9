"""Which of the runner's variables a script inherits."""

from __future__ import annotations

import json
import os

import pytest
from tests.unit.executors.local.bench import FIRST, Bench, a_trial, as_it_was_claimed

from studyflow.executors.local.inherited import inherited
from studyflow.executors.local.preflight import check_environment
from studyflow.reasons import Code, Level
from studyflow.spec import TrialSpec
from studyflow.testing.executor_contract import Watch
from studyflow.trial import Cause

NEEDED = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/home/ann",
    "LANG": "C.UTF-8",
    "LD_LIBRARY_PATH": "/usr/local/cuda/lib64",
    "CUDA_VISIBLE_DEVICES": "0,1",
    "NVIDIA_VISIBLE_DEVICES": "all",
    "PYTHONHASHSEED": "0",
    "VIRTUAL_ENV": "/home/ann/.venv",
    "CONDA_PREFIX": "/opt/conda",
    "OMP_NUM_THREADS": "4",
    "TMPDIR": "/scratch",
    "HF_HOME": "/data/hf",
    "HTTPS_PROXY": "http://proxy.example:3128",
    "SSL_CERT_FILE": "/etc/ssl/cert.pem",
    "TOKENIZERS_PARALLELISM": "false",
    "MAX_TOKEN": "4096",
    "STUDYFLOW_HOME": "/home/ann/.studyflow",
    "AWS_REGION": "eu-west-1",
    "AWS_CA_BUNDLE": "/etc/ssl/cert.pem",
    "AWS_ENDPOINT_URL_S3": "https://s3.example",
    "DATA_DIR": "/data/imagenet",
    "MONKEY": "capuchin",
    "SORT_KEY": "val_loss",
    "OLDPWD": "/home",
    "MLFLOW_TRACKING_URI": "http://mlflow.example:5000",
}

SECRET = {
    "STUDYFLOW_STORAGE": "sqlite:////data/studies.db",
    "MLFLOW_TRACKING_USERNAME": "ann",
    "MLFLOW_TRACKING_PASSWORD": "f00lish",
    "MLFLOW_TRACKING_TOKEN": "t0ken-of-mlflow",
    "PREFECT_API_AUTH_STRING": "admin:f00lish",
    "PREFECT_API_KEY": "pnu_0123456789",
    "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://p/d",
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "/wJalrXUtnFEMI/K7MDENG",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzE",
    "AWS_PROFILE": "production",
    "GOOGLE_APPLICATION_CREDENTIALS": "/home/ann/key.json",
    "AZURE_CLIENT_SECRET": "a2ure",
    "GITHUB_TOKEN": "short",
    "GITLAB_ANYTHING": "x",
    "GH_PAT": "classic",
    "HF_TOKEN": "hf_x",
    "WANDB_API_KEY": "0123456789abcdef",
    "DB_PASSWORD": "hunter2",
    "PGPASSWORD": "hunter2",
    "MYSQL_PWD": "hunter2",
    "SECRET_KEY_BASE": "base",
    "SENTRY_DSN": "https://key@sentry.example/1",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.example/T0/B0/x",
    "DATABASE": "postgresql://ann:f00lish@db.example/studies",
    "ACCESS": "ghp_012345678901234567890123456789abcdef",
    "COPY": "t0ken-of-mlflow",
    "STUDYFLOW_MLFLOW_TOKEN_KEY": "key0f",
    "KUBECONFIG": "/home/ann/.kube/config",
    "SSH_AUTH_SOCK": "/tmp/ssh-x/agent.1",
}


@pytest.mark.parametrize("name", NEEDED)
def test_what_scripts_need_is_inherited(name: str) -> None:
    found = inherited({**NEEDED, **SECRET})

    assert found.variables.get(name) == NEEDED[name]


@pytest.mark.parametrize("name", SECRET)
def test_what_gives_access_to_something_stays_with_the_runner(name: str) -> None:
    found = inherited({**NEEDED, **SECRET})

    assert name not in found.variables
    assert name in found.left_out


def test_a_study_file_names_what_is_inherited_all_the_same() -> None:
    found = inherited(SECRET | {"HOOK": "x"}, ["HF_TOKEN", "AWS_*", "HOOK"], withheld=["HOOK"])

    kept = {name for name in SECRET if name.startswith("AWS_")} | {"HF_TOKEN", "HOOK"}
    assert set(found.variables) == kept
    assert set(found.left_out) == set(SECRET) - kept


def test_a_proxy_loses_its_login_and_stays_a_proxy() -> None:
    runner = {"https_proxy": "http://ann:f00lish@proxy.example:3128"}

    found = inherited(runner)

    assert found.variables == {"https_proxy": "http://proxy.example:3128"}
    assert found.left_out == ("https_proxy",)
    assert inherited(runner, ["*_proxy"]).variables == runner


def test_a_user_who_is_called_like_a_password_is_inherited() -> None:
    found = inherited({"USER": "annabel", "DB_PASSWORD": "annabel", "TEAM": "annabel"})

    assert found.variables == {"USER": "annabel"}


SHOW = """
import json, os, pathlib, subprocess, sys
from studyflow import sdk
code = "import json, os; print(json.dumps(dict(os.environ)))"
child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
supervisor = pathlib.Path(f"/proc/{os.getppid()}/environ")
seen = [*os.environ.items(), *json.loads(child.stdout).items()]
if supervisor.exists():
    seen += [v.partition("=")[::2] for v in supervisor.read_text().split(chr(0)) if v]
print(json.dumps([[k, v] for k, v in seen if k in ("TEAM_TOKEN", "OTHER_TOKEN", "PLAIN")]))
sdk.finish(loss=1.0)
"""


@pytest.mark.fault("F83")
def test_neither_the_script_nor_its_children_nor_its_supervisor_have_the_runner_s_secrets(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_TOKEN", "tok-5e5ame")
    monkeypatch.setenv("OTHER_TOKEN", "tok-0ther")
    monkeypatch.setenv("PLAIN", "yes")

    status = bench.run(SHOW, inherit_env=["OTHER_*"])

    assert status.outcome is not None
    assert status.outcome.cause is Cause.OK
    seen = json.loads(bench.log())
    assert {name for name, _ in seen} == {"OTHER_TOKEN", "PLAIN"}
    assert len(seen) == (6 if os.path.exists("/proc/self/environ") else 4)  # noqa: PTH110


@pytest.mark.fault("F83")
def test_an_attempt_that_another_runner_starts_has_no_secret_of_that_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(SHOW)
    attempt = as_it_was_claimed(bench, monkeypatch)
    monkeypatch.setenv("TEAM_TOKEN", "tok-5e5ame")

    executor = bench.executor()
    executor.submit(a_trial())
    Watch(executor, 10.0).until_ended(attempt)

    assert json.loads(bench.log()) == []


@pytest.mark.parametrize(
    ("source", "missed"),
    [
        ("import os; os.environ['TEAM_TOKEN']", "TEAM_TOKEN"),
        ("from studyflow import sdk; sdk.current_trial(); raise OSError('no TEAM_TOKEN')",
         "TEAM_TOKEN"),
        ("raise RuntimeError('api_key not configured (no-tty). call wandb.login')",
         "WANDB_API_KEY"),
    ],
)  # fmt: skip
def test_a_script_that_fails_for_want_of_a_variable_is_told_how_to_get_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, source: str, missed: str
) -> None:
    monkeypatch.setenv("TEAM_TOKEN", "tok-5e5ame")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    notes: list[str] = []
    bench.write(source)
    executor = bench.executor(on_note=notes.append)
    watch = Watch(executor, 10.0)

    for number in range(2):
        outcome = watch.until_ended(executor.submit(a_trial(number))).outcome
        assert outcome is not None
        assert (outcome.cause, outcome.code) == (Cause.USER_ERROR, Code.VARIABLE_LEFT_OUT)
        assert f"The runner has {missed}, and trials do not get it" in outcome.message
        assert outcome.hint == (
            f"pass it on by the study file: `trial: {{inherit_env: [{missed}]}}`."
        )

    assert len(notes) == 1
    assert "TEAM_TOKEN, WANDB_API_KEY" in notes[0]
    assert "tok-5e5ame" not in notes[0]


def test_a_script_that_fails_for_another_reason_hears_nothing_of_variables(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_TOKEN", "tok-5e5ame")

    outcome = bench.run("raise ValueError('TEAM_TOKENS is a list')").outcome

    assert outcome is not None
    assert outcome.message.endswith("ValueError: TEAM_TOKENS is a list")


def trial_with(*names: str) -> TrialSpec:
    return TrialSpec(command=("python",), inherit_env=names)


def test_the_preflight_shows_what_trials_do_not_get() -> None:
    found = check_environment(None, {"HF_TOKEN": "hf_x", "PATH": "/bin"})

    assert (found.level, found.message) == (
        Level.OK,
        "trials do not get HF_TOKEN, which look like secrets; trial.inherit_env passes them on",
    )
    assert "HF_TOKEN" not in check_environment(trial_with("HF_*"), {"HF_TOKEN": "hf_x"}).message


def test_the_preflight_leaves_out_what_the_study_file_sets_itself() -> None:
    trial = TrialSpec(command=("python",), env={"HF_TOKEN": "hf_own"})

    found = check_environment(trial, {"HF_TOKEN": "hf_x"})

    assert found.message == "trials get every variable of this process"


def test_the_preflight_names_what_is_to_be_inherited_and_is_not_set() -> None:
    found = check_environment(trial_with("HF_TOKEN", "WANDB_*"), {"WANDB_API_KEY": "x"})

    assert (found.level, found.message) == (
        Level.WARNING,
        "trial.inherit_env names HF_TOKEN, and no such variable is set here",
    )


def test_what_an_attempt_does_not_get_is_kept_by_name_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_TOKEN", "tok-5e5ame")

    bench.run("pass")

    text = (bench.folder(FIRST) / "launch.json").read_text()
    assert "TEAM_TOKEN" in json.loads(text)["left_out"]
    assert "tok-5e5ame" not in text


def test_a_study_file_may_not_name_what_is_no_variable() -> None:
    with pytest.raises(ValueError, match="inherit_env"):
        trial_with("HF TOKEN")
    assert trial_with("*").inherit_env == ("*",)


def test_the_runners_variables_are_judged_once_for_all_trials() -> None:
    assert inherited({**NEEDED}) is inherited({**NEEDED})
    assert inherited({**NEEDED, "HF_TOKEN": "hf_x"}) is not inherited(NEEDED)
