"""Checkpoints that no other attempt can write over, and which one is gone on from."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from studyflow.sdk.session import Checkpoint, Session
from studyflow.trial import MetricPoint, Trial
from studyflow.trial.checkpoint_folders import CheckpointFolders, folders_in


def attempt(
    root: Path, number: int, environment: dict[str, str] | None = None, **changes: Any
) -> Session:
    """Return the SDK as an attempt has it whose runner shares its folders."""
    folders = folders_in(str(root), number)
    Path(folders.own).mkdir(parents=True, exist_ok=True)  # a runner makes it when it launches
    settings: dict[str, Any] = {
        "attempt": number,
        "checkpoint_dir": folders.files,
        "checkpoints": folders,
        "metrics_path": str(root.parent / f"metrics-{number}.jsonl"),
    }
    return Session(Trial("demo", 3, {"lr": 0.1}, **(settings | changes)), environment or {})


def save(session: Session, step: int, content: str = "", keep: int = 2) -> None:
    with session.checkpoint(step, keep) as folder:
        (folder / "state.pt").write_text(content or f"step {step}")


def last(session: Session) -> tuple[int, int, str] | None:
    """Return step, attempt and content of the checkpoint that an attempt goes on from."""
    found = session.last_checkpoint()
    if found is None:
        return None
    return found.step, found.attempt, (found.path / "state.pt").read_text()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


# Published checkpoints


def test_the_next_attempt_goes_on_from_the_last_published_checkpoint(root: Path) -> None:
    first = attempt(root, 1)
    assert first.last_checkpoint() is None
    save(first, 4)
    save(first, 9)
    assert last(first) == (9, 1, "step 9")
    assert last(attempt(root, 2)) == (9, 1, "step 9")


def test_a_checkpoint_says_when_it_was_published(root: Path) -> None:
    save(attempt(root, 1), 4)
    found = attempt(root, 2).last_checkpoint()
    assert isinstance(found, Checkpoint)
    assert found.published_at > 1_700_000_000


def test_what_a_block_that_raises_saved_is_not_published(root: Path) -> None:
    first = attempt(root, 1)
    save(first, 4)

    def training() -> None:
        with first.checkpoint(9, 2) as folder:
            (folder / "state.pt").write_text("half")
            raise KeyError("interrupted")

    with pytest.raises(KeyError):
        training()
    assert last(first) == (4, 1, "step 4")
    assert [p.name for p in (root / ".attempts" / "1").iterdir()] == ["published"]


def test_what_an_attempt_was_saving_when_it_was_lost_is_not_found(root: Path) -> None:
    first = attempt(root, 1)
    save(first, 4)
    lost = first.checkpoint(9, 2)
    (lost.__enter__() / "state.pt").write_text("half")
    assert last(attempt(root, 2)) == (4, 1, "step 4")


def test_a_checkpoint_without_a_file_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="nothing was saved"), attempt(root, 1).checkpoint(4, 2):
        pass
    assert attempt(root, 1).last_checkpoint() is None


@pytest.mark.parametrize(
    ("step", "keep", "error", "words"),
    [
        (-1, 2, ValueError, "checkpoint: the step must be 0 or more, not -1"),
        (1.5, 2, TypeError, "checkpoint: the step must be an integer, not 1.5"),
        (True, 2, TypeError, "checkpoint: the step must be an integer, not True"),
        (2**63, 2, ValueError, "checkpoint: the step must be below"),
        (1, 0, ValueError, "checkpoint: keep must be 1 or more, not 0"),
        (1, None, TypeError, "checkpoint: keep must be an integer, not None"),
    ],
)
def test_an_argument_that_is_none_is_refused(
    root: Path, step: Any, keep: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words), attempt(root, 1).checkpoint(step, keep):
        pass


def test_the_newest_attempt_counts_and_not_the_highest_step(root: Path) -> None:
    save(attempt(root, 1), 9)
    save(attempt(root, 2), 5)
    assert last(attempt(root, 3)) == (5, 2, "step 5")


def test_of_one_attempt_the_checkpoint_that_was_published_last_counts(root: Path) -> None:
    first = attempt(root, 1)
    for step in (*range(12), 3):  # more than one digit
        save(first, step)
    assert last(attempt(root, 2)) == (3, 1, "step 3")


@pytest.mark.parametrize(("keep", "steps"), [(1, [5]), (2, [4, 5]), (9, [1, 2, 3, 4, 5])])
def test_so_many_checkpoints_of_an_attempt_stay(root: Path, keep: int, steps: list[int]) -> None:
    first = attempt(root, 1)
    for step in range(1, 6):
        save(first, step, keep=keep)
    manifests = (root / ".attempts" / "1" / "published").glob("*/manifest.json")
    assert sorted(json.loads(path.read_text())["step"] for path in manifests) == steps


def damage(root: Path, kind: str) -> None:
    newest = root / ".attempts" / "1" / "published" / "2"
    file = newest / "files" / "state.pt"
    match kind:
        case "shorter":
            os.truncate(file, 3)
        case "zeros":
            file.write_bytes(bytes(file.stat().st_size))
        case "gone":
            file.unlink()
        case "a pipe":
            file.unlink()
            os.mkfifo(file)
        case "no manifest":
            (newest / "manifest.json").unlink()
        case "half a manifest":
            os.truncate(newest / "manifest.json", 20)
        case "another version":
            manifest = json.loads((newest / "manifest.json").read_text())
            (newest / "manifest.json").write_text(json.dumps({**manifest, "version": 2}))
        case "another place":
            text = (newest / "manifest.json").read_text()
            (newest / "manifest.json").write_text(text.replace("state.pt", "../../1/state.pt"))


@pytest.mark.fault("F82")
@pytest.mark.parametrize(
    "kind",
    [
        *("shorter", "zeros", "gone", "a pipe"),
        *("no manifest", "half a manifest", "another version", "another place"),
    ],
)
def test_a_damaged_checkpoint_is_left_out_for_the_one_before(
    root: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = attempt(root, 1)
    save(first, 4)
    save(first, 9)
    damage(root, kind)
    assert last(attempt(root, 2)) == (4, 1, "step 4")
    assert "checkpoint 2 of attempt 1 is damaged and left out: " in capsys.readouterr().err


def test_a_damaged_only_checkpoint_of_an_attempt_leaves_that_of_the_attempt_before(
    root: Path,
) -> None:
    save(attempt(root, 1), 4)
    save(attempt(root, 2), 9)
    os.truncate(root / ".attempts/2/published/1/files/state.pt", 0)
    assert last(attempt(root, 3)) == (4, 1, "step 4")


def test_folders_and_empty_files_are_part_of_a_checkpoint(root: Path) -> None:
    with attempt(root, 1).checkpoint(4, 2) as folder:
        (folder / "shards").mkdir()
        (folder / "shards" / "0.bin").write_bytes(b"\0" * 100)
        (folder / "done").touch()
    found = attempt(root, 2).last_checkpoint()
    assert found is not None
    assert (found.path / "shards" / "0.bin").read_bytes() == b"\0" * 100
    assert (found.path / "done").is_file()


def test_threads_publish_side_by_side(root: Path) -> None:
    first = attempt(root, 1)
    threads = [threading.Thread(target=save, args=(first, step, "", 9)) for step in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    published = root / ".attempts" / "1" / "published"
    assert sorted(int(p.name) for p in published.iterdir()) == list(range(1, 9))


def test_a_process_that_does_not_report_publishes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = attempt(root, 1)
    rank_1 = attempt(root, 1, {"RANK": "1", "WORLD_SIZE": "2"})
    save(rank_1, 4)
    assert rank_1.last_checkpoint() is None
    assert "rank 1" in capsys.readouterr().err
    save(first, 4)
    assert last(rank_1) == (4, 1, "step 4")


def test_a_script_that_runs_alone_has_checkpoints_too() -> None:
    alone = Session(None, {}, lambda line: None)
    save(alone, 4)
    assert last(alone) == (4, 1, "step 4")
    folder = alone.checkpoint_dir()
    alone.close()
    assert not folder.exists()


def test_under_an_older_runner_checkpoints_are_beside_the_files_that_attempts_share(
    root: Path,
) -> None:
    def under_0_1_0(number: int) -> Session:
        return attempt(root, number, checkpoint_dir=str(root), checkpoints=None)

    first = under_0_1_0(1)
    (first.checkpoint_dir() / "own.pt").touch()
    save(first, 4)
    second = under_0_1_0(2)
    assert last(second) == (4, 1, "step 4")
    assert (second.checkpoint_dir() / "own.pt").is_file()
    third = attempt(root, 3)  # the runner was renewed meanwhile
    assert last(third) == (4, 1, "step 4")
    assert [p.name for p in third.checkpoint_dir().iterdir()] == ["own.pt"]


# What the runner is told


def told(root: Path, number: int) -> list[tuple[str, int, float]]:
    lines = (root.parent / f"metrics-{number}.jsonl").read_text().splitlines()
    return [(p.name, p.step, p.value) for p in map(MetricPoint.from_json, lines)]


def test_the_runner_hears_of_each_published_checkpoint_and_whose_it_is(root: Path) -> None:
    second = attempt(root, 2)
    save(second, 4)
    save(second, 9)
    assert told(root, 2) == [("studyflow.checkpoint", 4, 2.0), ("studyflow.checkpoint", 9, 2.0)]


def test_the_runner_does_not_hear_of_a_checkpoint_that_goes_with_the_pod(root: Path) -> None:
    save(attempt(root, 1, checkpoint_dir=None, checkpoints=None), 4)
    assert not (root.parent / "metrics-1.jsonl").exists()


# The script's own files


def test_an_attempt_finds_what_the_one_before_wrote_and_each_writes_its_own(root: Path) -> None:
    first = attempt(root, 1).checkpoint_dir()
    assert list(first.iterdir()) == []
    (first / "model.pt").write_text("epoch 3")
    second = attempt(root, 2).checkpoint_dir()
    assert (second / "model.pt").read_text() == "epoch 3"
    (second / "model.pt").write_text("epoch 5")
    assert (first / "model.pt").read_text() == "epoch 3"
    third = attempt(root, 3).checkpoint_dir()
    assert (third / "model.pt").read_text() == "epoch 5"


@pytest.mark.fault("F81")
@pytest.mark.parametrize("how", ["in place", "by rename", "appended"])
def test_what_a_lost_attempt_still_writes_does_not_reach_its_successor(
    root: Path, how: str
) -> None:
    zombie = attempt(root, 1)
    file = zombie.checkpoint_dir() / "model.pt"
    file.write_text("epoch 3")
    opened = file.open("r+")
    save(zombie, 3)

    successor = attempt(root, 2)
    own = successor.checkpoint_dir() / "model.pt"
    (own.with_name("new.pt")).write_text("epoch 4")
    save(successor, 4)
    if how == "in place":
        opened.write("EPOCH 9")
        opened.flush()
    elif how == "appended":
        with file.open("a") as end:
            end.write("EPOCH 9")
    else:
        part = file.with_name("part")
        part.write_text("EPOCH 9")
        part.replace(file)
    opened.close()
    for step in range(90, 95):
        save(zombie, step)

    assert own.read_text() == "epoch 3"
    assert last(successor) == (4, 2, "step 4")
    assert last(attempt(root, 3)) == (4, 2, "step 4")
    assert (attempt(root, 3).checkpoint_dir() / "model.pt").read_text() == "epoch 3"


@pytest.mark.fault("F81")
def test_a_lost_attempt_removes_nothing_that_its_successor_may_be_reading(root: Path) -> None:
    zombie = attempt(root, 1)
    save(zombie, 3)
    read = attempt(root, 2).last_checkpoint()
    assert read is not None
    for step in range(90, 95):
        save(zombie, step, keep=1)
    assert (read.path / "state.pt").read_text() == "step 3"


def test_an_attempt_that_was_lost_while_it_copied_has_no_files(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = attempt(root, 1).checkpoint_dir()
    (first / "a.pt").write_text("a")
    (first / "b.pt").write_text("b")

    def fails(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="No space left"):
            attempt(root, 2).checkpoint_dir()
    assert sorted(p.name for p in (root / ".attempts/2").iterdir()) == [".lock"]
    assert sorted(p.name for p in attempt(root, 3).checkpoint_dir().iterdir()) == ["a.pt", "b.pt"]


def test_the_files_of_a_study_begun_by_an_older_version_are_found(root: Path) -> None:
    (root / "model.pt").write_text("epoch 3")
    (root / "logs").mkdir()
    (root / "logs" / "events").write_text("x")
    second = attempt(root, 2).checkpoint_dir()
    assert sorted(p.name for p in second.iterdir()) == ["logs", "model.pt"]
    (second / "model.pt").write_text("epoch 5")
    assert (root / "model.pt").read_text() == "epoch 3"
    assert (attempt(root, 3).checkpoint_dir() / "model.pt").read_text() == "epoch 5"


def test_links_point_into_the_copy(root: Path) -> None:
    first = attempt(root, 1).checkpoint_dir()
    (first / "epoch-3.pt").write_text("epoch 3")
    (first / "last.pt").symlink_to("epoch-3.pt")
    (first / "best").mkdir()
    (first / "best" / "best.pt").symlink_to(first / "epoch-3.pt")
    (first / "elsewhere").symlink_to("/nowhere/x")
    second = attempt(root, 2).checkpoint_dir()
    (first / "epoch-3.pt").write_text("EPOCH 9")
    assert (second / "last.pt").read_text() == "epoch 3"
    assert (second / "best" / "best.pt").read_text() == "epoch 3"
    assert (second / "elsewhere").readlink() == Path("/nowhere/x")


def test_times_are_copied_too(root: Path) -> None:
    first = attempt(root, 1).checkpoint_dir()
    (first / "a.pt").touch()
    os.utime(first / "a.pt", (1_000_000_000, 1_000_000_000))
    assert (attempt(root, 2).checkpoint_dir() / "a.pt").stat().st_mtime == 1_000_000_000


@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS, errno.EINVAL, None])
def test_files_are_copied_where_the_file_system_does_not_do_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    first = attempt(root, 1).checkpoint_dir()
    (first / "model.pt").write_bytes(b"weights" * 1000)

    def refuses(source: int, target: int, count: int) -> int:
        if code is not None:
            raise OSError(code, os.strerror(code))
        return 0

    monkeypatch.setattr(os, "copy_file_range", refuses)
    copied = attempt(root, 2).checkpoint_dir() / "model.pt"
    assert copied.read_bytes() == b"weights" * 1000


def test_attempts_before_the_previous_one_are_cleared_once_there_is_a_copy(root: Path) -> None:
    for number in range(1, 6):
        (attempt(root, number).checkpoint_dir() / f"{number}.pt").touch()
    left = sorted(path.parent.name for path in root.glob(".attempts/*/files"))
    assert left == ["4", "5"]
    assert len(list((root / ".attempts/5/files").iterdir())) == 5


def test_attempts_before_the_previous_one_are_cleared_once_one_has_published(root: Path) -> None:
    for number in range(1, 4):
        save(attempt(root, number), number)
    attempt(root, 4).last_checkpoint()
    left = sorted(path.parent.name for path in root.glob(".attempts/*/published"))
    assert left == ["2", "3"]


def test_what_attempts_leave_that_came_to_nothing_stays_until_one_publishes(root: Path) -> None:
    save(attempt(root, 1), 4)
    for number in range(2, 12):
        assert last(attempt(root, number)) == (4, 1, "step 4")
    save(attempt(root, 12), 5)
    assert last(attempt(root, 13)) == (5, 12, "step 5")


def test_an_attempt_that_may_write_nowhere_else_goes_on(root: Path, tmp_path: Path) -> None:
    """As in a pod: its own folder and the retired ones are mounted elsewhere."""
    save(attempt(root, 1), 4)
    save(attempt(root, 2), 5)
    own = tmp_path / "mounted"
    own.mkdir()
    folders = CheckpointFolders(str(own), str(root), (str(tmp_path / "gone"),))
    third = attempt(root, 3, checkpoints=folders)
    assert last(third) == (5, 2, "step 5")
    save(third, 6)
    assert last(third) == (6, 3, "step 6")
    assert third.checkpoint_dir() == own / "files"
