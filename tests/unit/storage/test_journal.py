"""A journal that is damaged while it is in use: refused in a sentence, never read as another."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner
from optuna.trial import FrozenTrial, TrialState, create_trial

from studyflow.cli import exits, main
from studyflow.errors import StorageBroken, StorageUnavailable
from studyflow.storage import (
    PatientStorage,
    ProcessLock,
    default_storage_url,
    open_storage,
    process_lock,
)
from studyflow.storage import journal as journal_module
from studyflow.storage.journal import WHOLE_CHECK_SECONDS, repair_tail
from studyflow.testing.fake_clock import FakeClock

pytestmark = pytest.mark.fault("F68")


class Journal:
    """A journal in use: three trials, the last one told 1.2345."""

    def __init__(self, folder: Path) -> None:
        self.url = default_storage_url(folder)
        self.path = folder / "studies.journal"
        self.storage = open_storage(self.url)
        study = optuna.create_study(study_name="demo", storage=self.storage)
        for value in (1.0, 2.0, 1.2345):
            study.tell(study.ask(), value)

    def trials(self, storage: optuna.storages.BaseStorage | None = None) -> list[FrozenTrial]:
        """Return what a storage knows, a new one unless it is given."""
        return (storage or open_storage(self.url)).get_all_trials(0)

    def lines(self) -> list[bytes]:
        return self.path.read_bytes().splitlines(keepends=True)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def put(line: bytes, at: int | None = None) -> Callable[[Journal], None]:
    """Return what puts a line into a journal: at its end, or before another line."""

    def damage(journal: Journal) -> None:
        lines = journal.lines()
        lines.insert(len(lines) if at is None else at, line)
        journal.path.write_bytes(b"".join(lines))

    return damage


def glue(journal: Journal) -> None:
    """Let a writer that knows nothing of torn lines write behind one."""
    *_, last = journal.lines()
    with journal.path.open("ab") as file:
        file.write(last[: last.index(b"1.2345") + 3] + last)


def shorten(journal: Journal) -> None:
    """Cut the last number to a shorter one that is a whole operation."""
    journal.path.write_bytes(journal.path.read_bytes().replace(b"1.2345", b"1.23"))


def replace(journal: Journal) -> None:
    """Put an older copy of the file in its place."""
    copy = journal.path.with_name("copy")
    copy.write_bytes(b"".join(journal.lines()[:-2]))
    copy.rename(journal.path)


def make_a_folder(journal: Journal) -> None:
    journal.path.unlink()
    journal.path.mkdir()


DAMAGES: dict[str, tuple[Callable[[Journal], None], str]] = {
    "garbage at the end": (put(b"garbage\n"), "damaged: line 8 is not"),
    "garbage and more": (put(b"garbage\n{}\n"), "damaged: line 8 is not"),
    "an empty line": (put(b"\n"), "damaged: line 8 is not"),
    "no operation": (put(b'{"op": 1}\n'), "damaged: line 8 is not"),
    "not an object": (put(b"1.5\n"), "damaged: line 8 is not"),
    "no UTF-8": (put(b'{"op_code":"\xff"}\n'), "damaged: line 8 is not"),
    "zeros": (put(b"\0" * 100 + b"\n"), "damaged: line 8 is not"),
    "too deep": (put(b"[" * 100_000 + b"\n"), "damaged: line 8 is not"),
    "a number too long": (put(b'{"op_code":' + b"9" * 5000 + b"}\n"), "damaged: line 8 is not"),
    "an operation without its fields": (put(b'{"op_code":4}\n'), "damaged: line 8 is not"),
    "of a later Optuna": (put(b'{"op_code":99,"worker_id":""}\n'), "damaged: line 8 is not"),
    "a state that is none": (
        put(b'{"op_code":4,"worker_id":"","study_id":0,"datetime_start":null,"state":9}\n'),
        "damaged: line 8 is not",
    ),
    "two on a line, the first torn": (glue, "damaged: line 8 is not"),
    "two on a line": (put(b'{"op_code":1,"study_id":7}{"op_code":1,"study_id":8}\n'), "line 8 is"),
    "garbage in the middle": (put(b"garbage\n", at=3), "was cut, replaced or edited"),
    "an edited number": (shorten, "was cut, replaced or edited"),
    "cut in half": (lambda j: os.truncate(j.path, j.path.stat().st_size // 2), "was cut"),
    "emptied": (lambda j: os.truncate(j.path, 0), "was cut, replaced or edited"),
    "replaced": (replace, "was cut, replaced or edited"),
    "removed": (lambda j: j.path.unlink(), "was removed while it was in use"),
    "removed with its folder": (lambda j: shutil.rmtree(j.path.parent), "was removed while"),
    "a folder in its place": (make_a_folder, "cannot be used: Is a directory"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_under_a_running_study_is_told_at_once_and_every_time(
    name: str, journal: Journal
) -> None:
    pauses: list[float] = []
    patient = PatientStorage(journal.storage, sleep=pauses.append)
    damage, said = DAMAGES[name]
    damage(journal)
    calls: list[Callable[[], object]] = [
        lambda: patient.get_all_trials(0),
        lambda: patient.create_new_trial(0),
        lambda: patient.set_study_user_attr(0, "key", 1),
        patient.get_all_studies,
    ]

    for call in (*calls, *calls):
        with pytest.raises(StorageBroken, match=str(journal.path)) as caught:
            call()
        assert said in str(caught.value)
        assert caught.value.retryable
    assert pauses == []


@pytest.mark.parametrize("name", [name for name in DAMAGES if "folder" not in name])
def test_nothing_is_written_into_a_damaged_file(name: str, journal: Journal) -> None:
    DAMAGES[name][0](journal)
    before = journal.path.read_bytes() if journal.path.exists() else None

    with pytest.raises(StorageBroken):
        journal.storage.set_study_user_attr(0, "key", 1)

    assert (journal.path.read_bytes() if journal.path.exists() else None) == before


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENXIO])
def test_a_refusal_that_does_not_pass_is_told_at_once(
    number: int, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *arguments: object, **named: object) -> object:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refuse)
    for call in (journal.storage.get_all_studies, lambda: journal.storage.create_new_trial(0)):
        with pytest.raises(StorageBroken, match=os.strerror(number)):
            call()


def test_what_was_overwritten_in_the_middle_is_found_within_a_minute(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    clock = FakeClock()
    file = journal_module.JournalFile(journal.path, ProcessLock(tmp_path / "lock"), clock)
    list(file.read_logs(0))
    with journal.path.open("rb+") as damaged:
        damaged.seek(len(journal.lines()[0]) + 5)
        damaged.write(b"#")

    file.append_logs([{"op_code": 2}])
    clock.advance(WHOLE_CHECK_SECONDS)
    with pytest.raises(StorageBroken, match="line 2 is not one of Optuna's operations"):
        file.append_logs([{"op_code": 2}])


def test_a_run_whose_journal_is_damaged_ends_with_a_sentence_and_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "mlflow" else find(name, *a)
    )
    journal, damage = tmp_path / "home" / "studies.journal", tmp_path / "damage"
    (tmp_path / "train.py").write_text(
        f"import os\nif os.path.exists({str(damage)!r}):\n    os.remove({str(damage)!r})\n"
        f"    with open({str(journal)!r}, 'a') as file:\n        file.write('garbage\\n')\n"
    )
    damage.touch()
    (tmp_path / "study.yaml").write_text(
        "name: demo\nobjectives: [{metric: loss, direction: minimize}]\n"
        "search_space: {x: {type: float, low: 0, high: 1}}\nsampler: {type: random, seed: 0}\n"
        "budget: {n_trials: 1}\ntrial: {command: [python, -S, train.py]}\n"
    )
    command = ["run", str(tmp_path / "study.yaml"), "--home", str(tmp_path / "home")]

    done = CliRunner().invoke(main, command)

    assert done.exit_code == exits.UNAVAILABLE, done.output
    assert isinstance(done.exception, SystemExit)
    *_, error, again = done.output.strip().splitlines()
    assert error.startswith(f"The study file {journal} is damaged: line ")
    assert again == f"Continue: {shlex.join(['main', *command])}"
    assert "Traceback" not in done.output

    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines if line != b"garbage\n"))
    assert CliRunner().invoke(main, command).exit_code == exits.FAILED  # the script says nothing
    assert [t.state for t in open_storage(f"journal:///{journal}").get_all_trials(0)] == [
        TrialState.FAIL
    ]


# ---- torn tails ------------------------------------------------------------------------------


def cuts(content: bytes) -> Iterator[int]:
    """Give every length that tears one of the last two operations, or parts them."""
    *_, before, last = content.splitlines(keepends=True)
    yield from range(len(content) - len(before) - len(last), len(content) + 1)


def test_a_tail_torn_at_any_byte_is_the_journal_before_it_and_never_a_shorter_number(
    journal: Journal,
) -> None:
    content = journal.path.read_bytes()
    storage_of: dict[int, list[FrozenTrial]] = {}
    for length in cuts(content):
        # An operation that lacks nothing but its line feed was written whole.
        whole = content[: length + 1] if content[length:].startswith(b"\n") else content[:length]
        n_lines = whole.count(b"\n")
        journal.path.write_bytes(content[:length])

        trials = journal.trials()
        open_storage(journal.url).set_study_user_attr(0, "next", length)

        assert trials == storage_of.setdefault(n_lines, trials), length
        assert [t.value for t in trials] in (
            [1.0, 2.0],
            [1.0, 2.0, None],
            [1.0, 2.0, 1.2345],
        )
        assert len(journal.lines()) == n_lines + 1
        assert journal.lines()[:n_lines] == content.splitlines(keepends=True)[:n_lines]
        again = open_storage(journal.url)
        assert journal.trials(again) == trials
        assert again.get_study_user_attrs(0)["next"] == length
    assert sorted(storage_of) == [5, 6, 7]


def test_a_journal_in_use_that_is_cut_at_any_byte_is_refused_and_not_continued(
    journal: Journal,
) -> None:
    content = journal.path.read_bytes()
    for length in list(cuts(content))[:-1]:
        journal.path.write_bytes(content[:length])
        with pytest.raises(StorageBroken, match="was cut"):
            journal.trials(journal.storage)
        with pytest.raises(StorageBroken, match="was cut"):
            journal.storage.set_study_user_attr(0, "next", 1)
        assert journal.path.read_bytes() == content[:length]
    journal.path.write_bytes(content)
    assert len(journal.trials(journal.storage)) == 3


def test_two_writers_lose_nothing_to_a_third_that_dies_at_any_byte(journal: Journal) -> None:
    first, second = journal.storage, open_storage(journal.url)
    torn = journal.lines()[-1]
    for n_bytes in range(1, len(torn) - 1):
        with journal.path.open("ab") as file:
            file.write(torn[:n_bytes])
        assert [t.value for t in journal.trials(second)] == [1.0, 2.0, 1.2345]
        first.set_study_user_attr(0, "first", n_bytes)
        second.set_study_user_attr(0, "second", n_bytes)
        for storage in (first, second):
            assert storage.get_study_user_attrs(0) == {"first": n_bytes, "second": n_bytes}
    assert open_storage(journal.url).get_study_user_attrs(0) == {
        "first": len(torn) - 2,
        "second": len(torn) - 2,
    }


def test_a_write_that_was_taken_back_is_not_read_on_from(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may read a line before its writer finds the disk full."""
    reader = open_storage(journal.url)

    def no_room(file: int) -> None:
        assert (
            len(journal.trials(reader)) == 4
        )  # without the lock, which the reader cannot wait for
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(process_lock, "READ_LOCK_SECONDS", 0.0)
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(StorageUnavailable):
        journal.storage.create_new_trial(0)
    monkeypatch.undo()
    journal.storage.create_new_trial(0, create_trial(value=5.0))

    with pytest.raises(StorageBroken, match="was cut, replaced or edited"):
        reader.get_all_trials(0)
    assert [t.value for t in journal.trials()] == [1.0, 2.0, 1.2345, 5.0]


@pytest.mark.parametrize("content", [b"a,b\n1,2", b"one line of text", b"\x00\x01\x02" * 9])
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)

    with pytest.raises(StorageUnavailable, match="line 1 is not one of Optuna's operations"):
        open_storage(f"journal:///{path}")

    assert path.read_bytes() == content
    assert list(tmp_path.glob("*.torn-*")) == []


def test_a_full_disk_keeps_no_part_of_a_copy(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(source: Path, target: Path) -> None:
        target.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", no_room)
    with journal.path.open("ab") as file:
        file.write(b'{"op_')
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="No space left"):
            journal.storage.set_study_user_attr(0, "key", 1)
    assert list(journal.path.parent.glob("*.torn-*")) == []


def test_an_answer_of_optuna_is_no_damage(journal: Journal) -> None:
    other = open_storage(journal.url)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        journal.storage.set_trial_user_attr(0, "late", 1)
    with pytest.raises(KeyError):
        journal.storage.set_trial_user_attr(99, "nobody", 1)
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        journal.storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "demo")

    for storage in (journal.storage, other, open_storage(journal.url)):
        assert len(journal.trials(storage)) == 3


def test_optuna_reads_what_we_write(journal: Journal) -> None:
    plain = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(journal.path))
    )
    assert plain.get_all_trials(0) == journal.trials()
    assert all(json.loads(line) for line in journal.lines())


# ---- the lock --------------------------------------------------------------------------------

HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "ab+")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Have another process hold a journal's lock."""
    command = [sys.executable, "-S", "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.kill()


def test_a_frozen_writer_holds_up_nobody_for_ever_and_is_named(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = journal.path.with_name("studies.journal.lock")
    monkeypatch.setattr(process_lock, "READ_LOCK_SECONDS", 0.02)
    other = Journal(journal.path.parent / "other")
    with held(lock) as holder:
        holder.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)

        with pytest.raises(StorageUnavailable) as caught:
            ProcessLock(lock, patience_seconds=0.02).acquire()
        with journal.path.open("ab") as file:
            file.write(other.lines()[-3])  # something to read
        assert len(journal.trials(journal.storage)) == 3

    assert not isinstance(caught.value, StorageBroken), "it is worth waiting for"
    assert str(caught.value) == (
        f"The study file {lock.with_suffix('')} is locked by process {holder.pid}, which is "
        f"stopped. Hint: let it go on (kill -CONT {holder.pid}), or end it. Nothing that was "
        "recorded is lost."
    )
    journal.storage.create_new_trial(0)  # the kernel has released the lock of who was killed


def test_a_lock_file_that_was_removed_keeps_writers_apart_all_the_same(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = journal.path.with_name("studies.journal.lock")
    flock = fcntl.flock
    is_removed = False

    def remove_first(file: object, kind: int) -> None:
        nonlocal is_removed
        if not is_removed:
            is_removed = True
            path.unlink()  # between the opening and the lock
        flock(file, kind)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", remove_first)
    lock = ProcessLock(path)
    lock.acquire()
    with pytest.raises(StorageUnavailable, match="is locked by"):
        ProcessLock(path, patience_seconds=0.0).acquire()
    lock.release()


def test_who_was_interrupted_before_a_release_does_not_wait_for_itself(tmp_path: Path) -> None:
    lock = ProcessLock(tmp_path / "lock", patience_seconds=0.0)
    for _ in range(2):
        assert lock.acquire()
    lock.release()


def test_an_empty_journal_needs_no_repair(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.touch()
    repair_tail(path)
    assert path.read_bytes() == b""
