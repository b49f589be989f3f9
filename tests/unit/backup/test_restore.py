"""A whole installation in files, from `studyflow backup` to `studyflow restore`."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from tests.unit.cli.test_cli import invoke
from tests.unit.study.studies import complete, make_spec, open_study

from studyflow.backup import find_places, restore
from studyflow.backup.folder import WORK
from studyflow.errors import BackupError
from studyflow.settings import Settings
from studyflow.storage import open_storage
from studyflow.study import find_study, load_records


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a study of two finished trials and a running one, its files, and MLflow's."""
    for name in ("STUDYFLOW_HOME", "STUDYFLOW_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    settings = Settings.resolve(environment={})
    spec = make_spec(name="demo", budget={"n_trials": 9})
    study = open_study(spec, open_storage(settings.storage_url))
    for number in range(2):
        study.ask()
        study.begin_attempt(number, 1)
        study.tell(number, complete(0.5), {"loss": 0.5})
    study.ask()
    for attempt in ("0/attempt-1", "2/attempt-1"):
        folder = settings.home / "studies/demo/trials" / attempt
        folder.mkdir(parents=True)
        (folder / "lock").touch()
        (folder / "log").write_text("epoch 1\n")
    (settings.home / "studies/demo/runner.lock").touch()
    (settings.home / "studies/demo/open").mkdir()
    (settings.home / "studies/demo/open/2-1").touch()
    artifacts = settings.home / "mlartifacts"
    artifacts.mkdir()
    (artifacts / "model.pt").write_bytes(b"weights")
    with contextlib.closing(sqlite3.connect(settings.home / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE runs (artifact_uri)")
        database.execute("INSERT INTO runs VALUES (?)", (f"{artifacts}/1",))
    return settings.home


def in_use(path: Path) -> contextlib.ExitStack:
    """Hold a lock, as a runner or a supervisor does."""
    stack = contextlib.ExitStack()
    file = stack.enter_context(path.open("ab"))
    fcntl.flock(file, fcntl.LOCK_EX)
    return stack


def restored(archive: str, *arguments: str) -> Result:
    return invoke("restore", archive, *arguments)


def numbers(home: Path) -> list[tuple[int, str]]:
    storage = open_storage(f"journal:///{home / 'studies.journal'}", create=False)
    records = load_records(find_study("demo", storage))[1]
    return [(record.number, record.state.value) for record in records]


def everything(home: Path) -> dict[str, bytes]:
    files = (path for path in home.rglob("*") if path.is_file())
    kept = {str(p.relative_to(home)): p.read_bytes() for p in files if "runner.lock" not in p.name}
    return {name: data for name, data in kept.items() if not name.endswith(".journal.lock")}


def test_what_was_lost_is_back(home: Path) -> None:
    before = everything(home)
    done = invoke("backup", "b.tar.gz")
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(Path("b.tar.gz").stat().st_mode) == 0o600
    home.rename("gone")

    back = restored("b.tar.gz")

    assert back.exit_code == 0, back.output
    assert back.stdout.startswith("restored mlflow, artifacts, files, studies of 2")
    after = everything(home)
    # A database's copy has the same content, and other bytes.
    assert {n: d for n, d in after.items() if n != "mlflow.db"} == {
        n: d for n, d in before.items() if n != "mlflow.db"
    }
    assert numbers(home) == [(0, "complete"), (1, "complete"), (2, "running")]
    assert not list(Path().glob(f"**/{WORK}*")), "nothing is left of the work"


def test_a_backup_says_what_it_does_and_what_is_in_it(home: Path) -> None:
    done = invoke("backup", "b.tar")

    assert [line.split(" ")[0] for line in done.stderr.splitlines()] == [
        "mlflow:",
        "artifacts:",
        "files:",
        "studies:",
    ]
    assert "with mlflow, artifacts, files, studies" in done.stdout
    checked = restored("b.tar", "--check")
    assert checked.stdout.startswith("b.tar is whole: made 2")
    assert f"artifacts         7 B  {home / 'mlartifacts'}" in checked.stdout


def test_what_is_not_empty_is_replaced_only_when_told(home: Path) -> None:
    invoke("backup", "b.tar")
    (home / "mlartifacts/newer.pt").write_bytes(b"later")
    before = everything(home)

    refused = restored("b.tar")

    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1].startswith(f"Not empty: {home / 'mlflow.db'}, ")
    assert everything(home) == before
    assert restored("b.tar", "--replace").exit_code == 0
    assert not (home / "mlartifacts/newer.pt").exists()
    [kept] = home.glob("mlartifacts.replaced-*")
    assert (kept / "newer.pt").read_bytes() == b"later"


def test_a_damaged_archive_changes_nothing(home: Path) -> None:
    invoke("backup", "b.tar")
    data = bytearray(Path("b.tar").read_bytes())
    data[len(data) // 2] ^= 1
    Path("b.tar").write_bytes(data)
    before = everything(home)

    refused = restored("b.tar", "--replace")

    assert refused.exit_code == 1
    assert "cannot be restored" in refused.stderr
    assert everything(home) == before


@pytest.mark.parametrize("lock", ["runner.lock", "trials/2/attempt-1/lock"])
def test_nothing_is_replaced_under_a_runner_or_a_running_script(lock: str, home: Path) -> None:
    invoke("backup", "b.tar")
    before = everything(home)

    with in_use(home / "studies/demo" / lock):
        refused = restored("b.tar", "--replace")

    assert refused.exit_code == 3
    assert "Somebody works on what would be replaced: " in refused.stderr
    assert everything(home) == before


def test_nothing_is_replaced_under_the_pages(home: Path) -> None:
    invoke("backup", "b.tar")
    (home / "prefect").mkdir()
    (home / "prefect/server.json").write_text(json.dumps({"pid": os.getpid(), "api": "http://x"}))

    refused = restored("b.tar", "--replace")

    assert refused.exit_code == 3
    assert f"`studyflow ui` (process {os.getpid()})" in refused.stderr


def test_an_attempt_that_runs_is_not_in_a_backup(home: Path) -> None:
    with in_use(home / "studies/demo/trials/2/attempt-1/lock"):
        assert invoke("backup", "b.tar").exit_code == 0
    home.rename("gone")
    restored("b.tar")

    assert (home / "studies/demo/trials/0/attempt-1/log").exists()
    assert not (home / "studies/demo/trials/2/attempt-1").exists()
    assert list((home / "studies/demo/open").iterdir()) == []


def test_checkpoints_are_in_a_backup_whatever_their_names(home: Path) -> None:
    checkpoints = home / "studies/demo/trials/2/checkpoints"
    files = [
        checkpoints / ".attempts/1/files/.state",
        checkpoints / ".attempts/1/published/1/manifest.json",
        checkpoints / "left-by-an-older-version.pt",
    ]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("epoch 3")
    assert invoke("backup", "b.tar").exit_code == 0
    home.rename("gone")
    restored("b.tar")

    assert [file.read_text() for file in files] == ["epoch 3"] * 3


def test_another_home_has_artifacts_of_its_own(home: Path, tmp_path: Path) -> None:
    invoke("backup", "b.tar")

    back = restored("b.tar", "--home", "other")

    assert back.exit_code == 0, back.output
    assert f"mlflow: 1 addresses of artifacts now name {tmp_path / 'other/mlartifacts'}" in (
        back.stderr
    )
    with contextlib.closing(sqlite3.connect(tmp_path / "other/mlflow.db")) as database:
        [(address,)] = database.execute("SELECT artifact_uri FROM runs").fetchall()
    assert address == f"{tmp_path / 'other/mlartifacts'}/1"


def test_files_that_belonged_to_the_replaced_database_go_with_it(home: Path) -> None:
    invoke("backup", "b.tar")
    (home / "mlflow.db-wal").write_bytes(b"of the database that is replaced")

    assert restored("b.tar", "--replace").exit_code == 0

    assert not (home / "mlflow.db-wal").exists()


def test_a_place_of_another_kind_is_refused(home: Path) -> None:
    invoke("backup", "b.tar")

    refused = restored("b.tar", "--storage", "sqlite:///x.db", "--home", "other")

    assert refused.exit_code == 1
    assert "The archive holds studies as journal, and " in refused.stderr
    assert "x.db is sqlite." in refused.stderr


def test_a_part_without_a_place_is_refused(home: Path) -> None:
    invoke("backup", "b.tar")

    refused = restored("b.tar", "--tracking-uri", "http://mlflow:5000", "--home", "other")

    assert refused.exit_code == 1
    assert "The archive holds mlflow, and there is no place for it here" in refused.stderr


def test_a_folder_gets_archives_by_time_and_keeps_the_newest(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path("backups")
    folder.mkdir()
    for day in (1, 2, 3):
        (folder / f"studyflow-2020010{day}T000000Z.tar.gz").touch()
    (folder / "mine.tar.gz").touch()

    done = invoke("backup", "backups", "--keep", "2")

    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in folder.iterdir())
    assert names[:2] == ["mine.tar.gz", "studyflow-20200103T000000Z.tar.gz"]
    assert len(names) == 3
    assert "removed studyflow-20200101T000000Z.tar.gz: --keep 2" in done.stderr


def test_a_backup_that_fails_keeps_what_there_was(home: Path) -> None:
    folder = Path("backups")
    folder.mkdir()
    (folder / "studyflow-20200101T000000Z.tar.gz").touch()
    (home / "studies.journal").write_text("no operation\n")

    done = invoke("backup", "backups", "--keep", "1")

    assert done.exit_code == 3
    assert [path.name for path in folder.iterdir()] == ["studyflow-20200101T000000Z.tar.gz"]


def test_keeping_the_newest_needs_a_folder() -> None:
    assert invoke("backup", "b.tar.gz", "--keep", "2").exit_code == 2


def test_an_archive_is_not_written_over(home: Path) -> None:
    invoke("backup", "b.tar")
    before = Path("b.tar").read_bytes()

    assert invoke("backup", "b.tar").exit_code == 1
    assert Path("b.tar").read_bytes() == before


def refusing(error: int, is_refused: Callable[[int], bool]) -> Callable[[int], None]:
    """Return `os.fsync` on a disk that refuses it for some descriptors."""
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if is_refused(descriptor):
            raise OSError(error, os.strerror(error))
        fsync(descriptor)

    return refuse


def is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def test_a_disk_that_cannot_store_a_folder_on_request_takes_a_backup(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(errno.EINVAL, is_folder))

    assert invoke("backup", "b.tar").exit_code == 0
    assert restored("b.tar", "--check").exit_code == 0


def test_a_disk_that_fails_to_store_a_folder_makes_no_backup_in_silence(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO, is_folder))

    done = invoke("backup", "b.tar")

    assert (done.exit_code, done.stdout) == (3, "")
    assert "Input/output error" in done.stderr


def test_a_disk_without_hard_links_takes_a_backup_and_writes_over_none(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_link)
    assert invoke("backup", "b.tar").exit_code == 0
    assert restored("b.tar", "--check").exit_code == 0

    def taken_meanwhile(*_: object) -> None:
        Path("c.tar").write_text("another backup")
        no_link()

    monkeypatch.setattr(os, "link", taken_meanwhile)
    assert invoke("backup", "c.tar").exit_code == 3
    assert Path("c.tar").read_text() == "another backup"


def test_an_archive_that_is_swapped_while_it_is_restored_changes_nothing(home: Path) -> None:
    invoke("backup", "whole.tar")
    (home / "mlflow.db").unlink()
    invoke("backup", "b.tar")
    before = everything(home)

    def swap(_line: str) -> None:
        if Path("whole.tar").exists():
            Path("whole.tar").rename("b.tar")

    places = find_places(Settings.resolve(environment={}))
    with pytest.raises(BackupError, match=r"b\.tar was replaced while it was read"):
        restore(Path("b.tar"), places, replace=True, tell=swap)

    assert everything(home) == before
    assert not list(Path().glob(f"**/{WORK}*")), "nothing is left of the work"


def test_what_there_is_not_is_left_out(home: Path) -> None:
    (home / "mlflow.db").unlink()

    assert invoke("backup", "b.tar").exit_code == 0

    checked = restored("b.tar", "--check")
    assert f"left out  there is no {home / 'mlflow.db'}" in checked.stdout


def test_a_backup_may_lie_among_what_it_holds(home: Path) -> None:
    assert invoke("backup", str(home / "mlartifacts/b.tgz")).exit_code == 0

    checked = restored(str(home / "mlartifacts/b.tgz"), "--check")
    assert checked.exit_code == 0
    assert "artifacts         7 B" in checked.stdout


def test_what_was_left_out_is_named(home: Path) -> None:
    (home / "mlartifacts/latest.pt").symlink_to("/etc/passwd")

    done = invoke("backup", "b.tar")

    why = "1 links out of it, sockets, devices or not to be read: latest.pt"
    assert f"artifacts: left out {why}\n" in done.stderr
    assert why in restored("b.tar", "--check").stdout


def test_a_backup_without_studies_is_none(home: Path) -> None:
    (home / "studies.journal").unlink()

    done = invoke("backup", "b.tar")

    assert done.exit_code == 1
    assert f"There is no study storage at {home / 'studies.journal'}." in done.stderr
    assert not Path("b.tar").exists()
