"""The files of a supervisor: JSON that a runner reads, and never half of one."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from studyflow.executors.local.supervisor.records import (
    ending_document,
    is_file,
    pids_document,
    write,
    write_if_possible,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_end_is_told_as_json_with_every_field() -> None:
    text = ending_document("timeout", -9, 100.25, 161.5, True, True, "0a1b")

    assert json.loads(text) == {
        "how": "timeout",
        "exit_code": -9,
        "started_at": 100.25,
        "ended_at": 161.5,
        "oom": True,
        "finished_first": True,
        "token": "0a1b",
    }


def test_a_script_that_never_started_has_no_exit_code_and_ended_as_it_began() -> None:
    document = json.loads(ending_document("stopped", None, 100.25))

    assert (document["exit_code"], document["ended_at"]) == (None, 100.25)
    assert (document["oom"], document["finished_first"]) == (False, False)
    assert "token" not in document


def test_the_script_s_process_is_named_by_its_id_and_its_start() -> None:
    before = json.loads(pids_document(41, None, 100.25, None))
    own = json.loads(pids_document(41, os.getpid(), 100.25, "/sys/fs/cgroup/a-1"))
    gone = json.loads(pids_document(41, 2**22 + 1, 100.25, None))

    nobody = {"supervisor": 41, "script": None, "script_start": None}
    assert before == {**nobody, "started_at": 100.25, "cgroup": None}
    assert own["cgroup"] == "/sys/fs/cgroup/a-1"
    stat_fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    assert own["script_start"] == int(stat_fields[19])
    assert gone["script_start"] is None


def test_a_file_is_replaced_as_a_whole_for_its_owner_alone(folder: Path) -> None:
    write("exit.json", "old")
    with Path("exit.json").open() as reader:
        write("exit.json", "a new one, and longer")
        assert reader.read() == "old"

    assert Path("exit.json").read_text() == "a new one, and longer"
    assert stat.S_IMODE(Path("exit.json").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["exit.json"], "no part of it is left"


def test_what_a_script_put_in_the_place_of_a_file_is_moved_aside(folder: Path) -> None:
    (folder / "exit.json").mkdir()
    (folder / "exit.json/precious").touch()

    write("exit.json", "the end")

    assert is_file("exit.json")
    assert Path("exit.json").read_text() == "the end"
    [aside] = folder.glob(".exit.json.*.aside")
    assert (aside / "precious").exists()


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(folder: Path) -> None:
    (folder / "other").write_text("somebody's")
    (folder / "exit.json").symlink_to("other")
    assert not is_file("exit.json")

    write("exit.json", "the end")

    assert is_file("exit.json")
    assert (folder / "other").read_text() == "somebody's"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_whose_rights_a_script_took_away_gets_them_back(folder: Path) -> None:
    folder.chmod(0o500)

    write_if_possible("exit.json", "the end")

    assert Path("exit.json").read_text() == "the end"


def test_a_folder_that_was_removed_is_told_in_the_log_and_ends_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder.rmdir()

    write_if_possible("exit.json", "the end")

    assert capfd.readouterr().err.startswith("cannot write exit.json: ")
