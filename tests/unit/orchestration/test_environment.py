"""What Prefect reads at its import: where it keeps its files without a configured server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from studyflow.settings import Settings

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # no profile of the machine's user


def test_without_a_server_prefect_lives_in_the_home_folder(tmp_path: Path) -> None:
    from studyflow.orchestration.environment import is_embedded, prepare_prefect

    settings = Settings.resolve(home=tmp_path / "home", environment={})
    prepare_prefect(settings)

    assert os.environ["PREFECT_HOME"] == str(tmp_path / "home" / "prefect")
    assert (tmp_path / "home" / "prefect").is_dir()
    assert is_embedded(settings)


def test_a_configured_server_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studyflow.orchestration.environment import is_embedded, prepare_prefect

    monkeypatch.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    settings = Settings.resolve(home=tmp_path / "home", environment={})
    prepare_prefect(settings)

    assert "PREFECT_HOME" not in os.environ
    assert not (tmp_path / "home").exists()
    assert not is_embedded(settings)


def test_the_server_of_studyflow_ui_is_no_configured_one(tmp_path: Path) -> None:
    from studyflow.orchestration.environment import is_embedded

    settings = Settings.resolve(home=tmp_path / "home", environment={})
    ours = {"PREFECT_API_URL": "http://127.0.0.1:4200/api", "HOME": str(tmp_path)}

    assert is_embedded(settings, {**ours, "PREFECT_HOME": str(tmp_path / "home" / "prefect")})
    assert not is_embedded(settings, {**ours, "PREFECT_HOME": str(tmp_path / "other")})


def test_a_home_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    from studyflow.orchestration.environment import prepare_prefect

    (tmp_path / "home").touch()
    with pytest.raises(OSError, match="home"):
        prepare_prefect(Settings.resolve(home=tmp_path / "home", environment={}))
