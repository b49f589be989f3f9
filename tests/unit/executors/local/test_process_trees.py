"""What is left when processes of an attempt are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from tests.unit.executors.local.bench import (
    FIRST,
    HANG,
    Bench,
    a_trial,
    is_alive,
    linux_only,
    read_pids,
    until,
)

from studyflow.executors import AttemptId
from studyflow.executors.local import cgroups
from studyflow.executors.local.supervisor.oom_kills import RecentKills
from studyflow.executors.local.supervisor_handle import collect_children
from studyflow.testing.executor_contract import Watch
from studyflow.trial import Cause

FAMILY = """
import os, subprocess, sys
code = "import os, sys, time\\nopen(sys.argv[1], 'w').write(str(os.getpid()))\\ntime.sleep(600)"
for name in ("child", "daemon"):
    subprocess.Popen([sys.executable, "-c", code, name], start_new_session=name == "daemon",
                     stdout=subprocess.DEVNULL)
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    open("orphan.part", "w").write(str(os.getpid()))
    os.rename("orphan.part", "orphan")
    import time; time.sleep(600)
import time
while not all(os.path.exists(n) and os.path.getsize(n) for n in ("child", "daemon", "orphan")):
    time.sleep(0.005)
"""


def family(bench: Bench) -> dict[str, int]:
    work = bench.folder(AttemptId(0, 1)) / "work"
    names = ("child", "daemon", "orphan")
    until(lambda: all((work / n).exists() and (work / n).read_text() for n in names))
    return {name: int((work / name).read_text()) for name in names}


@linux_only
def test_nothing_outlives_the_script_not_even_daemons(bench: Bench) -> None:
    bench.write(FAMILY + "from studyflow import sdk\nsdk.finish(loss=1.0)\n")
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    pids = family(bench)
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.OK
    assert [name for name, pid in pids.items() if is_alive(pid)] == []


@linux_only
def test_a_stop_ends_the_whole_tree(bench: Bench) -> None:
    bench.write(FAMILY + HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    pids = family(bench)
    executor.stop(attempt, Cause.PRUNED, "worse")
    Watch(executor, 10.0).until_ended(attempt)
    assert [name for name, pid in pids.items() if is_alive(pid)] == []


@linux_only
@pytest.mark.fault("F23")
def test_a_killed_supervisor_takes_the_whole_tree_with_it(bench: Bench) -> None:
    bench.write(FAMILY + HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    pids = family(bench) | {"script": read_pids(bench)["script"]}
    os.kill(read_pids(bench)["supervisor"], signal.SIGKILL)
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.LOST
    assert [name for name, pid in pids.items() if is_alive(pid)] == []


@linux_only
def test_a_supervisor_killed_while_no_runner_looks_is_found_later(bench: Bench) -> None:
    bench.write(FAMILY + HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    pids = family(bench)
    executor.close()
    os.kill(read_pids(bench)["supervisor"], signal.SIGKILL)
    status = Watch(bench.executor(), 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.LOST
    assert [name for name, pid in pids.items() if is_alive(pid)] == []


DAEMON = """
import os, time
def run(name, forks):
    if os.fork(): return
    os.setsid() if forks > 1 else None
    if forks > 1 and os.fork(): os._exit(0)
    code = f"echo $$ > {name}.part; mv {name}.part {name}; exec sleep 600"
    os.execve("/bin/sh", ["sh", "-c", code], {})
run("daemon", 2)
run("child", 1)
from studyflow import sdk
while not (os.path.exists("daemon") and os.path.exists("child")): time.sleep(0.005)
sdk.report(0, loss=1.0)
"""
"""Starts a daemon and a child with an environment that is empty."""


def nameless(bench: Bench) -> dict[str, int]:
    work = bench.folder(FIRST) / "work"
    return {name: int((work / name).read_text()) for name in ("daemon", "child")}


def has_group(bench: Bench) -> bool:
    parent = cgroups.find_parent()
    name = cgroups.group_name(str(bench.folder(FIRST) / "outcome.json"))
    return parent is not None and (parent / name).exists()


@linux_only
@pytest.mark.fault("F66")
def test_daemons_without_environment_are_killed_with_a_killed_supervisor(bench: Bench) -> None:
    if cgroups.find_parent() is None:
        pytest.skip("no control groups can be made here")
    bench.write(DAEMON + HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    watch = Watch(executor, 10.0)
    watch.until_reported(attempt)
    pids = nameless(bench)
    assert has_group(bench)
    executor.close()
    os.kill(read_pids(bench)["supervisor"], signal.SIGKILL)
    # Nobody polled at the moment of the end: the group alone tells.
    status = Watch(bench.executor(), 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.LOST
    assert [name for name, pid in pids.items() if is_alive(pid)] == []
    assert not has_group(bench)


@linux_only
@pytest.mark.fault("F66")
def test_without_control_groups_session_and_process_group_tell_what_is_left(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "find_parent", lambda: None)
    bench.write(DAEMON + HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    watch = Watch(executor, 10.0)
    watch.until_reported(attempt)
    pids = nameless(bench)
    executor.poll()
    os.kill(read_pids(bench)["supervisor"], signal.SIGKILL)
    status = watch.until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.LOST
    assert {name: is_alive(pid) for name, pid in pids.items()} == {"daemon": True, "child": False}
    os.kill(pids["daemon"], signal.SIGKILL)


@linux_only
@pytest.mark.fault("F66")
@pytest.mark.parametrize("end", ["", "import os; os._exit(3)\n", HANG])
def test_no_control_group_is_left_however_an_attempt_ends(bench: Bench, end: str) -> None:
    bench.write(DAEMON + end)
    executor = bench.executor(timeout_seconds=0.5)
    attempt = executor.submit(a_trial())
    Watch(executor, 10.0).until_ended(attempt)
    assert [name for name, pid in nameless(bench).items() if is_alive(pid)] == []
    assert not has_group(bench)


def ticks_since_boot() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


@linux_only
def test_a_process_id_that_belongs_to_somebody_else_by_now_is_left_alone(bench: Bench) -> None:
    bench.write(HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    pids = read_pids(bench)
    os.kill(pids["supervisor"], signal.SIGKILL)
    until(lambda: not is_alive(pids["script"]))
    # The kernel dates processes in ticks of 10 ms; a process id comes back much later than that.
    until(lambda: ticks_since_boot() > pids["script_start"])
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as stranger:
        forged = pids | {"supervisor": stranger.pid, "script": stranger.pid}
        (bench.folder(attempt) / "pid.json").write_text(json.dumps(forged))
        status = Watch(bench.executor(), 10.0).until_ended(attempt)
        assert status.outcome is not None
        assert status.outcome.cause is Cause.LOST
        assert stranger.poll() is None
        stranger.kill()


def test_a_result_given_before_the_supervisor_was_killed_stands(bench: Bench) -> None:
    bench.write("from studyflow import sdk\nsdk.finish(loss=1.0)\nsdk.report(0, loss=1.0)\n" + HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    watch = Watch(executor, 10.0)
    watch.until_reported(attempt)
    os.kill(read_pids(bench)["supervisor"], signal.SIGKILL)
    status = watch.until_ended(attempt)
    assert status.outcome is not None
    assert (status.outcome.cause, status.outcome.metrics) == (Cause.OK, {"loss": 1.0})


@pytest.mark.fault("F61")
@pytest.mark.parametrize(
    ("killed_at", "ends_at", "is_recent"),
    [(5.0, 5.0, True), (5.0, 60.0, True), (115.0, 175.0, True), (5.0, 130.0, False)],
)
def test_what_the_kernel_killed_long_ago_did_not_end_the_script(
    killed_at: float, ends_at: float, is_recent: bool
) -> None:
    now = 0.0
    kills = RecentKills(lambda: 7 + (now >= killed_at), lambda: now)
    while now < ends_at:
        now += 1.0
        kills.update()
    assert kills.is_any() is is_recent
    assert not RecentKills(lambda: 7, lambda: now).is_any()


def test_a_supervisor_told_to_end_ends_the_attempt_as_lost(bench: Bench) -> None:
    bench.write(HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    os.kill(read_pids(bench)["supervisor"], signal.SIGTERM)
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.LOST


def test_supervisors_do_not_stay_as_zombies(bench: Bench) -> None:
    bench.run("pass\n")
    until(lambda: collect_children() == 0)
