"""What the doctor looks at, what it calls a problem, and that nothing that hangs holds it up."""

from __future__ import annotations

import importlib.metadata
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_cli import invoke, write_study

from studyflow.diagnostics.preflight import examine, needed_extras
from studyflow.diagnostics.preflight.machine import (
    check_folder,
    check_packages,
    check_webhook,
)
from studyflow.diagnostics.preflight.servers import (
    check_connections,
    check_mlflow,
    check_prefect,
    check_storage,
)
from studyflow.diagnostics.probes.storage import write_and_remove
from studyflow.executors.registry import executor_kind
from studyflow.reasons import Code, Finding, Level
from studyflow.settings import Settings
from studyflow.spec import NotifySpec, StudySpec

REQUIREMENTS = (
    "click>=8.1",
    'optuna<6,>=5; extra == "study"',
    'mlflow<4,>=3.17; extra == "mlflow"',
    'kubernetes<38,>=37; extra == "kubernetes"',
    'ruff>=0.9; extra == "dev"',
)


def versions(**installed: str) -> Any:
    def version_of(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    return version_of


def by_what(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_a_wrong_version_is_a_problem_and_a_missing_extra_only_where_it_is_needed() -> None:
    found = by_what(
        check_packages(
            frozenset({"study", "kubernetes"}),
            REQUIREMENTS,
            versions(click="8.5", optuna="4.9"),
        )
    )

    assert found["packages: base"].level is Level.OK
    wrong = found["packages: study"]
    assert (wrong.level, wrong.hint) == (Level.PROBLEM, "pip install 'studyflow[study]'")
    assert wrong.message == "wrong versions: optuna 4.9 (needs <6,>=5)"
    assert found["packages: mlflow"].level is Level.WARNING
    assert found["packages: kubernetes"].level is Level.PROBLEM
    assert not any("ruff" in finding.message for finding in found.values())


def test_what_is_installed_here_fits() -> None:
    findings = check_packages(frozenset({"study"}))

    assert [f for f in findings if f.level is Level.PROBLEM] == []
    assert findings[0].subject == "Python"


def test_what_a_study_needs_follows_from_where_it_runs() -> None:
    far = Settings.resolve(
        storage="postgresql://db/x", tracking="http://m", executor="kubernetes", environment={}
    )

    assert needed_extras(far) == {"study", "postgres", "mlflow", "kubernetes"}
    assert needed_extras(Settings.resolve(environment={})) == {"study"}


@pytest.mark.parametrize(
    ("free", "level"),
    [(20 << 30, Level.OK), (5 << 30, Level.WARNING), (100 << 20, Level.PROBLEM)],
)
def test_little_space_is_a_warning_and_next_to_none_a_problem(
    tmp_path: Path, free: int, level: Level
) -> None:
    found = by_what(check_folder(tmp_path / "not" / "there", lambda _: free))

    assert found["home folder"].level is Level.OK
    assert found["disk space"].level is level
    assert list(tmp_path.iterdir()) == []


def test_a_home_below_a_file_that_cannot_be_written_is_a_problem() -> None:
    (found,) = check_folder(Path("/proc/studyflow"))

    assert (found.level, found.subject) == (Level.PROBLEM, "home folder")
    assert "STUDYFLOW_HOME" in str(found.reason)


def test_a_database_is_written_to_and_left_as_it_was(tmp_path: Path) -> None:
    import optuna

    url = f"sqlite:///{tmp_path}/studies.db"
    storage = optuna.storages.RDBStorage(url)
    optuna.create_study(study_name="mine", storage=storage)
    write_and_remove(storage)

    (found,) = check_storage(url)

    assert (found.level, found.message) == (Level.OK, f"{url} with 1 study")
    assert optuna.get_all_study_names(storage) == ["mine"]


def test_a_storage_that_is_away_is_a_problem_without_its_password() -> None:
    (found,) = check_storage("postgresql://me:s3cret@127.0.0.1:1/x")

    assert found.level is Level.PROBLEM
    assert "does not answer" in found.message
    assert "s3cret" not in str(found.reason)


def test_an_embedded_storage_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    settings = Settings.resolve(home=tmp_path / "home", environment={})

    (found,) = check_storage(settings.storage_url)

    assert found.level is Level.OK
    assert "with 0 studies" in found.message
    assert not settings.home.exists()


def test_pods_do_not_reach_a_file(tmp_path: Path) -> None:
    settings = Settings.resolve(home=tmp_path, executor="kubernetes", environment={})

    embedded, warning = check_mlflow(settings)

    assert embedded.level is Level.OK
    assert (warning.level, warning.hint) == (
        Level.WARNING,
        "set MLFLOW_TRACKING_URI to an MLflow server",
    )


def test_prefect_is_asked_where_a_variable_or_a_profile_says(tmp_path: Path) -> None:
    settings = Settings.resolve(home=tmp_path / "home", environment={})
    profiles = 'active = "a"\n[profiles.a]\nPREFECT_API_URL = "http://127.0.0.1:2/api"\n'
    (tmp_path / "profiles.toml").write_text(profiles)

    (none,) = check_prefect(settings, {"HOME": str(tmp_path)})
    (named,) = check_prefect(settings, {"PREFECT_API_URL": "http://127.0.0.1:1/api"})
    (profile,) = check_prefect(settings, {"PREFECT_HOME": str(tmp_path)})

    assert (none.level, none.message) == (
        Level.OK,
        "no server configured: each flow starts its own",
    )
    assert named.level is profile.level is Level.PROBLEM
    assert named.message.startswith("Prefect's server http://127.0.0.1:1/api does not answer")
    assert profile.message.startswith("Prefect's server http://127.0.0.1:2/api does not answer")


def test_a_webhook_without_its_address_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    (missing,) = check_webhook(NotifySpec(url_env="HOOK"))
    monkeypatch.setenv("HOOK", "https://hooks.example/s3cret")
    (there,) = check_webhook(NotifySpec(url_env="HOOK"))

    assert (missing.level, there.level) == (Level.WARNING, Level.OK)
    assert "s3cret" not in there.message


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        yield server.getsockname()[1]


def test_servers_that_hang_are_named_and_hold_up_nothing(
    tmp_path: Path, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{silent_port}/api")
    settings = Settings.resolve(home=tmp_path, environment={})

    found = by_what(examine(settings, patience_seconds=0.3))

    assert found["Prefect"].level is Level.PROBLEM
    assert found["Prefect"].message == "no answer within 0.3 s"
    assert found["home folder"].level is Level.OK


def test_the_command_ends_with_1_for_a_problem_and_0_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STUDYFLOW_HOME", "STUDYFLOW_STORAGE", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    modest, greedy = (
        write_study(
            tmp_path / str(gpu),
            trial={"command": ["python", "train.py"], "resources": {"gpu": gpu}},
        )
        for gpu in (1, 2)
    )

    well = invoke("doctor", modest)
    ill = invoke("doctor", greedy, "--json")

    assert well.exit_code == 0, well.output
    assert ill.exit_code == 1
    (problem,) = (row for row in json.loads(ill.stdout) if row["level"] == "problem")
    assert problem["text"] == "1 seen: 0, but a trial asks for 2"


def test_a_database_that_need_not_prove_who_it_is_is_a_warning(tmp_path: Path) -> None:
    def asked(storage: str, **variables: str) -> list[tuple[str, Level]]:
        settings = Settings.resolve(home=tmp_path, storage=storage, environment={})
        return [(f.subject, f.level) for f in check_connections(settings, variables)]

    remote = "postgresql://ann:secret@db.example/studies"
    settings = Settings.resolve(home=tmp_path, storage=remote, tracking=remote, environment={})
    found = check_connections(settings, {})

    assert asked(remote) == [("storage", Level.WARNING)]
    assert asked(f"{remote}?sslmode=verify-full") == []
    assert asked(remote, PGSSLMODE="verify-full") == []
    assert asked("postgresql://ann@localhost/studies") == []
    assert [finding.subject for finding in found] == ["storage", "MLflow"]
    assert "secret" not in str(found)
    assert "sslmode=verify-full" in str(found[0].hint)


def test_a_preflight_tells_what_studies_may_ask_of_a_cluster(tmp_path: Path) -> None:
    path = tmp_path / "platform.yaml"
    path.write_text("queues: [team-a]\n")
    where = {"STUDYFLOW_PLATFORM": str(path)}
    kind = executor_kind("kubernetes")
    pods = Settings.resolve(home=tmp_path, executor="kubernetes", environment=where)

    (found,) = kind.policy(pods)
    assert (found.level, found.subject) == (Level.OK, "platform")
    assert found.message.startswith(f"{path}. Allowed are service accounts: studyflow-trial")
    assert "queues: team-a" in found.message
    assert "Not limited: priority classes" in found.message
    (default,) = kind.policy(Settings.resolve(home=tmp_path, environment={}))
    assert default.message.startswith("STUDYFLOW_PLATFORM names no file, so the defaults hold.")

    path.write_text("queue: [team-a]\n")
    (broken,) = kind.policy(pods)
    assert (broken.level, broken.code) == (Level.PROBLEM, Code.PLATFORM_WRONG)
    assert "platform.yaml:1:1: queue: unknown key 'queue'" in broken.message
    path.unlink()
    (missing,) = kind.policy(pods)
    assert "No such file or directory" in missing.message
    assert "no study runs on the cluster without it" in (missing.hint or "")


def test_a_preflight_of_a_study_finds_what_its_pods_may_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    kubernetes = {"pod_template": {"spec": {"hostPID": True}}}
    trial = {"command": ["python", "train.py"], "image": "x", "kubernetes": kubernetes}
    study = StudySpec.from_yaml(write_study(tmp_path, trial=trial))
    pods = Settings.resolve(home=tmp_path, executor="kubernetes", environment={})

    found = by_what(examine(pods, study))

    problem = found["trial.kubernetes.pod_template.spec.hostPID"]
    assert (problem.level, problem.code) == (Level.PROBLEM, Code.POD_FORBIDDEN)
    local = by_what(examine(Settings.resolve(home=tmp_path, environment={}), study))
    assert not any(subject.startswith("trial.") for subject in local)
