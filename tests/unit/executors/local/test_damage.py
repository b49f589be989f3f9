"""What a script does to the files of its attempt."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from tests.unit.executors.local.bench import (
    COUNTED,
    FIRST,
    HANG,
    Bench,
    a_trial,
    is_alive,
    linux_only,
    read_pids,
    until,
)

from studyflow.errors import ExecutorError, ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptState
from studyflow.executors.local import files as files_module
from studyflow.testing.executor_contract import Watch
from studyflow.trial import Cause

MOVE_AWAY = """
import json, os, shutil, socket, sys
from pathlib import Path
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
folder = Path(trial["outcome_path"]).parent
def clear(name):
    path = folder / name
    if path.is_dir(): shutil.rmtree(path)
    elif path.exists(): path.unlink()
    return path
def put(name, kind):
    path = clear(name)
    if kind == "folder": path.mkdir(); (path / "x").touch()
    elif kind == "pipe": os.mkfifo(path)
    elif kind == "link": path.symlink_to("/dev/zero")
    elif kind == "loop": path.symlink_to(path.name)
    elif kind == "dangling": path.symlink_to("nothing")
    elif kind == "socket":
        os.chdir(folder); socket.socket(socket.AF_UNIX).bind(name)
    elif kind == "forbidden": path.write_text("{}"); path.chmod(0)
    elif kind == "garbage": path.write_bytes(b"[" * 100_000)
    elif kind == "sparse": path.touch(); os.truncate(path, 1 << 40)
"""

KINDS = (
    *("folder", "pipe", "link", "loop", "dangling", "socket", "forbidden", "garbage"),
    *("sparse", "nothing"),
)
FILES = (
    *("outcome.json", "metrics.jsonl", "log.txt", "pid.json", "exit.json", "stop.json"),
    *("trial.json", "launch.json", "artifacts", "work"),
)


def n_descriptors(bench: Bench) -> int:
    """Return how many descriptors an executor holds; threads of other tests hold some as well."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = str(entry.readlink())
            found += "pidfd" in target or str(bench.root) in target
    return found


@linux_only
@pytest.mark.fault("F64")
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_script_puts_in_place_of_its_files_it_ends_and_costs_nothing_else(
    bench: Bench, kind: str
) -> None:
    # All files at once, but for what makes it another case: a stop that was asked for.
    names = [name for name in FILES if name != "stop.json" or kind not in ("garbage", "sparse")]
    bench.write(MOVE_AWAY + f"for name in {names}: put(name, {kind!r})\n")
    executor = bench.executor()
    before = n_descriptors(bench)
    attempt = executor.submit(a_trial())
    rounds, deadline = 0, time.monotonic() + 20
    while (status := executor.poll()[attempt]).state is not AttemptState.ENDED:
        assert time.monotonic() < deadline
        rounds += 1
        executor.wait(1.0)
    assert status.outcome is not None
    assert status.outcome.cause in (Cause.BAD_METRIC, Cause.USER_ERROR)
    assert rounds < 20 if kind != "sparse" else rounds < 300
    executor.files(attempt)
    executor.read_log(attempt)
    executor.forget(attempt)
    assert dict(executor.poll()) == {}
    assert n_descriptors(bench) == before


REMOVED = "Its folder, or a file in it by which the runner follows it, was removed or replaced."


@linux_only
@pytest.mark.fault("F64")
@pytest.mark.parametrize(
    "removal",
    [
        "shutil.rmtree(folder)",
        "shutil.rmtree(folder.parent)",
        "shutil.rmtree(folder.parent.parent)",
        "shutil.rmtree(folder.parent); folder.parent.write_text('no folder')",
        "shutil.rmtree(folder); folder.symlink_to('/etc')",
        "shutil.rmtree(folder); folder.mkdir()",
        "(folder / 'lock').unlink()",
        "put('lock', 'folder')",
        "put('lock', 'pipe')",
        "put('lock', 'garbage')",
        "(folder / 'lock').unlink(); (folder / 'exit.json').write_text('{}')",
        "put('lock', 'garbage'); (folder / 'exit.json').write_text('{}')",
    ],
)
def test_an_attempt_that_cannot_be_followed_ends_with_a_sentence_and_all_that_it_runs(
    bench: Bench, removal: str
) -> None:
    bench.write(
        MOVE_AWAY
        + "child = os.fork()\n"
        + "if child == 0: os.setsid()\n"
        + "else:\n"
        + f"    Path({str(bench.cwd)!r}, 'pids').write_text(f'{{os.getpid()}} {{child}}')\n"
        + f"    {removal}\n"
        + HANG
    )
    executor = bench.executor()
    before = n_descriptors(bench)
    status = Watch(executor, 10.0).until_ended(executor.submit(a_trial()))
    assert status.outcome is not None
    assert status.outcome.cause is Cause.LOST
    assert REMOVED in status.outcome.message
    pids = [int(pid) for pid in (bench.cwd / "pids").read_text().split()]
    assert [pid for pid in pids if is_alive(pid)] == []
    executor.forget(FIRST)
    assert dict(executor.poll()) == {}
    bench.write(COUNTED)
    again = Watch(executor, 10.0).until_ended(executor.submit(a_trial(0, 2)))
    executor.forget(AttemptId(0, 2))
    assert again.outcome is not None
    assert again.outcome.cause is Cause.OK
    assert n_descriptors(bench) == before


@pytest.mark.fault("F64")
def test_an_attempt_that_forges_its_end_runs_until_it_ends(bench: Bench) -> None:
    bench.write(
        MOVE_AWAY
        + """
(folder / "exit.json").write_text('{"how": "exited", "exit_code": 0}')
import time
from studyflow import sdk
sdk.report(0, loss=1.0)
while not Path(os.environ["GATE"], "gate").exists(): time.sleep(0.005)
sdk.finish(loss=1.0)
"""
    )
    executor = bench.executor(env={"GATE": str(bench.cwd)})
    watch = Watch(executor, 10.0)
    attempt = executor.submit(a_trial())
    watch.until_reported(attempt)
    assert executor.poll()[attempt].state is AttemptState.RUNNING
    with pytest.raises(ExecutorError, match="has not ended"):
        executor.forget(attempt)
    (bench.cwd / "gate").touch()
    status = watch.until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.metrics == {"loss": 1.0}


@pytest.mark.fault("F64")
@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling", "garbage"])
def test_a_stop_reaches_a_script_whatever_stands_where_it_is_written(
    bench: Bench, kind: str
) -> None:
    bench.write(
        MOVE_AWAY
        + f"put('stop.json', {kind!r})\n"
        + "from studyflow import sdk\nsdk.report(0, loss=1.0)\n"
        + HANG
    )
    executor = bench.executor()
    watch = Watch(executor, 10.0)
    attempt = executor.submit(a_trial())
    if kind != "garbage":
        watch.until_reported(attempt)
        executor.stop(attempt, Cause.PRUNED, "worse than the median")
    status = watch.until_ended(attempt)
    assert status.outcome is not None
    expected = Cause.LOST if kind == "garbage" else Cause.PRUNED  # and so counted as an attempt
    assert status.outcome.cause is expected


@pytest.mark.fault("F64")
def test_an_attempt_is_followed_to_its_end_without_its_entry(bench: Bench) -> None:
    bench.write(
        MOVE_AWAY
        + "shutil.rmtree(folder.parent.parent.parent / 'open')\n"
        + "from studyflow import sdk\nsdk.finish(loss=1.0)\n"
    )
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.OK
    executor.forget(attempt)
    assert dict(executor.poll()) == {}


@pytest.mark.fault("F64")
def test_entries_and_folders_that_a_script_replaced_are_made_again(bench: Bench) -> None:
    bench.write(COUNTED)
    executor = bench.executor()
    executor.poll()
    (bench.root / "trials" / "0").write_text("no folder")
    (bench.root / "open" / "0-1").mkdir()
    (bench.root / "open" / "junk").mkdir()
    (bench.root / "trials" / "1").mkdir()
    (bench.root / "trials" / "1" / "checkpoints").symlink_to("nothing")
    (bench.root / "trials" / "1" / "attempt-1").symlink_to("nothing")
    for number in (0, 1):
        attempt = executor.submit(a_trial(number))
        status = Watch(executor, 10.0).until_ended(attempt)
        assert status.outcome is not None
        assert status.outcome.cause is Cause.OK
        executor.forget(attempt)
    assert dict(executor.poll()) == {}


@linux_only
@pytest.mark.fault("F64")
@pytest.mark.parametrize(
    "damage",
    [
        "put('trial.json', 'pipe')",
        "put('trial.json', 'folder')",
        "put('trial.json', 'nothing')",
        "put('trial.json', 'garbage')",
        "put('launch.json', 'sparse')",
        "(folder / 'launch.json').write_text('[]')",
    ],
)
def test_the_next_runner_kills_and_repeats_an_attempt_whose_documents_are_damaged(
    bench: Bench, damage: str
) -> None:
    bench.write(
        MOVE_AWAY
        + f"{damage}\nPath({str(bench.cwd)!r}, 'pid').write_text(str(os.getpid()))\n"
        + HANG
    )
    bench.executor().submit(a_trial())
    until(lambda: (bench.cwd / "pid").exists() and bool((bench.cwd / "pid").read_text()))
    executor = bench.executor()
    assert dict(executor.poll()) == {}
    until(lambda: not is_alive(int((bench.cwd / "pid").read_text())))
    bench.write(COUNTED)

    def is_submitted() -> bool:
        try:
            return executor.submit(a_trial()) == FIRST
        except ExecutorUnavailable:
            return False

    until(is_submitted)
    status = Watch(executor, 10.0).until_ended(FIRST)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.OK


@linux_only
@pytest.mark.fault("F64")
def test_a_folder_that_a_script_made_read_only_gets_its_end_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    pids = read_pids(bench)
    refusals = iter((True, False))
    write = files_module.write_new

    def refused_once(path: Path, text: str) -> None:
        if next(refusals):
            raise PermissionError(13, "Permission denied")
        write(path, text)

    monkeypatch.setattr(files_module, "write_new", refused_once)
    bench.folder(attempt).chmod(0o500)
    os.kill(pids["supervisor"], signal.SIGKILL)
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.LOST
    assert bench.folder(attempt).stat().st_mode & 0o777 == 0o700


@linux_only
@pytest.mark.fault("F64")
def test_an_attempt_whose_end_cannot_be_written_ends_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, text: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    bench.write(HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    pids = read_pids(bench)
    with monkeypatch.context() as patch:
        patch.setattr(files_module, "write_new", refused)
        os.kill(pids["supervisor"], signal.SIGKILL)
        status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert REMOVED in status.outcome.message
    executor.forget(attempt)
    assert dict(executor.poll()) == {}


@pytest.mark.fault("F67")
def test_a_study_s_folder_that_was_removed_is_made_again(bench: Bench) -> None:
    bench.write(
        f"import os\nopen({str(bench.cwd / 'pid')!r}, 'w').write(str(os.getpid()))\n" + HANG
    )
    restored: list[bool] = []
    executor = bench.executor(keep=lambda: restored.append(bench.root.is_dir()))
    site, attempt = executor.site, executor.submit(a_trial())
    until(lambda: (bench.cwd / "pid").exists() and bool((bench.cwd / "pid").read_text()))
    shutil.rmtree(bench.root)
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.LOST
    assert set(restored) == {True}
    assert not is_alive(int((bench.cwd / "pid").read_text()))
    executor.forget(attempt)
    assert bench.executor().site == site
    bench.write(COUNTED)
    again = Watch(executor, 10.0).until_ended(executor.submit(a_trial(0, 2)))
    assert again.outcome is not None
    assert again.outcome.cause is Cause.OK


@linux_only
@pytest.mark.fault("F67")
def test_a_script_whose_folder_is_removed_ends_without_any_runner(bench: Bench) -> None:
    bench.write(HANG)
    executor = bench.executor()
    executor.submit(a_trial())
    pids = read_pids(bench)
    executor.close()
    shutil.rmtree(bench.root)
    until(lambda: not is_alive(pids["script"]) and not is_alive(pids["supervisor"]))
    bench.executor()
