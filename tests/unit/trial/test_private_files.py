"""Files and folders for their user alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from studyflow.trial.private_files import (
    make_private_file,
    make_private_folder,
    private_opener,
    tighten,
    tighten_home,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
def test_what_is_made_is_its_user_s_alone_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "above" / ".studyflow"
    make_private_folder(folder)
    make_private_file(folder / "made")
    with open(folder / "opened", "w", opener=private_opener):
        pass

    assert mode(folder) == 0o700
    assert mode(folder / "made") == mode(folder / "opened") == 0o600


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "file").chmod(0o644)

    make_private_folder(tmp_path)
    make_private_file(tmp_path / "file")

    assert (tmp_path / "file").read_text() == "kept"
    assert mode(tmp_path / "file") == 0o644


def a_home_of_an_earlier_version(home: Path) -> None:
    attempt = home / "studies" / "a" / "trials" / "0" / "attempt-1"
    attempt.mkdir(parents=True)
    (home / "prefect").mkdir()
    files = [home / "studies.journal", home / "mlflow.db", home / "prefect" / "prefect.db"]
    for path in (*files, attempt / "log.txt", attempt / "run.sh"):
        path.write_text("x")
        path.chmod(0o644)
    (attempt / "run.sh").chmod(0o755)
    for folder, _, _ in os.walk(home):
        Path(folder).chmod(0o755)


@pytest.mark.fault("F88")
def test_what_an_earlier_version_left_open_is_closed_all_the_way_down(tmp_path: Path) -> None:
    home = tmp_path / ".studyflow"
    a_home_of_an_earlier_version(home)

    tighten_home(home)

    for folder, _, files in os.walk(home):
        assert mode(Path(folder)) == 0o700
        assert {mode(Path(folder) / name) for name in files} <= {0o600, 0o700}
    assert mode(home / "studies/a/trials/0/attempt-1/run.sh") == 0o700


def test_a_database_that_a_library_made_later_is_closed_too(tmp_path: Path) -> None:
    home = tmp_path / ".studyflow"
    a_home_of_an_earlier_version(home)
    tighten_home(home)
    for path in (home / "mlflow.db-wal", home / "prefect" / "prefect.db-wal"):
        path.touch(0o644)
        path.chmod(0o644)

    tighten_home(home)

    assert mode(home / "mlflow.db-wal") == mode(home / "prefect" / "prefect.db-wal") == 0o600


def test_in_a_home_of_another_name_only_what_is_ours_is_touched(tmp_path: Path) -> None:
    home = tmp_path / "project"
    a_home_of_an_earlier_version(home)
    (home / "public_html").mkdir(0o755)
    (home / "public_html").chmod(0o755)

    tighten_home(home)

    assert mode(home) == mode(home / "public_html") == 0o755
    assert mode(home / "studies") == 0o700
    assert mode(home / "studies.journal") == mode(home / "mlflow.db") == 0o600


def test_a_folder_that_its_group_shares_on_purpose_stays_its_group_s(tmp_path: Path) -> None:
    home = tmp_path / ".studyflow"
    a_home_of_an_earlier_version(home)
    for folder, _, files in os.walk(home):
        Path(folder).chmod(0o2775)
        for name in files:
            (Path(folder) / name).chmod(0o664)

    tighten_home(home)
    before = os.umask(0o002)
    make_private_file(home / "new")
    make_private_folder(home / "made")
    os.umask(before)

    assert mode(home) & 0o2777 == mode(home / "made") & 0o2777 == 0o2770
    assert mode(home / "studies.journal") == mode(home / "new") == 0o660


def test_links_are_not_followed_and_nothing_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    outside.chmod(0o755)
    home = tmp_path / ".studyflow"
    home.mkdir(0o755)
    home.chmod(0o755)
    (home / "studies").symlink_to(outside)

    tighten_home(home)
    tighten_home(tmp_path / "nothing")
    tighten(tmp_path / "nothing", levels=3)

    assert mode(outside) == 0o755
    assert mode(home) == 0o700

    def refuse(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    home.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", refuse)
    tighten_home(home)


def test_another_user_s_files_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ".studyflow"
    a_home_of_an_earlier_version(home)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    tighten_home(home)

    assert mode(home) == 0o755
    assert mode(home / "mlflow.db") == 0o644
