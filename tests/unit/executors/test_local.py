"""Processes of this machine: what a script gets, what becomes of it when things die around it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from studyflow.errors import ExecutorError, ExecutorUnavailable
from studyflow.executors import AttemptId, AttemptState, AttemptStatus, cgroups, supervisor
from studyflow.executors import local as local_module
from studyflow.executors.local import LocalExecutor, resolve_command
from studyflow.redaction import Redactor
from studyflow.testing.executor_contract import Watch
from studyflow.trial import Cause, MetricPoint, TrackingRef, Trial

FIRST = AttemptId(0, 1)
HANG = "import time\nwhile True: time.sleep(0.05)\n"


def a_trial(number: int = 0, attempt: int = 1, **params: float) -> Trial:
    return Trial("demo", number, params, attempt=attempt, metrics=("loss",))


class Bench:
    """A study's folder with a script in it, and executors for it that are closed in the end."""

    def __init__(self, folder: Path) -> None:
        self.cwd = folder / "study"
        self.cwd.mkdir()
        self.root = folder / "root"
        self._executors: list[LocalExecutor] = []

    def write(self, source: str, name: str = "train.py") -> None:
        (self.cwd / name).write_text(textwrap.dedent(source))

    def executor(
        self, command: Sequence[str] = ("python", "train.py"), **options: Any
    ) -> LocalExecutor:
        options.setdefault("stop_grace_seconds", 0.1)
        executor = LocalExecutor("demo", command, root=self.root, cwd=self.cwd, **options)
        self._executors.append(executor)
        return executor

    def folder(self, attempt: AttemptId) -> Path:
        return self.root / "trials" / str(attempt.number) / f"attempt-{attempt.attempt}"

    def run(self, source: str, trial: Trial | None = None, **options: Any) -> AttemptStatus:
        self.write(source)
        executor = self.executor(**options)
        return Watch(executor, 10.0).until_ended(executor.submit(trial or a_trial()))

    def log(self, attempt: AttemptId = FIRST) -> str:
        return (self.folder(attempt) / "log.txt").read_text()

    def close(self) -> None:
        for executor in self._executors:
            for attempt in executor.poll():
                executor.stop(attempt, Cause.CANCELLED, "the test is over")
            executor.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.005)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def read_pids(bench: Bench, attempt: AttemptId = FIRST) -> dict[str, Any]:
    def script_started() -> bool:
        path = bench.folder(attempt) / "pid.json"
        return path.exists() and json.loads(path.read_text())["script"] is not None

    until(script_started)
    pids: dict[str, Any] = json.loads((bench.folder(attempt) / "pid.json").read_text())
    return pids


# What the script gets


@pytest.mark.fault("F43")
def test_parameters_come_as_one_json_variable_and_nowhere_else(bench: Bench) -> None:
    hostile = "$(touch /tmp/x) `id` '\"; \n\u202e 🙂 ../ %s {0}"
    trial = Trial("demo", 0, {"text": hostile, "lr": 0.1, "flag": True, "none": None})
    bench.run(
        """
        import json, os, sys
        trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
        print(json.dumps([trial["params"], sys.argv[1:]]))
        """,
        trial,
    )
    assert json.loads(bench.log()) == [dict(trial.params), []]


def test_a_script_runs_in_a_folder_of_its_own_and_imports_what_lies_beside_it(bench: Bench) -> None:
    bench.write("ANSWER = 42\n", "model.py")
    bench.run(
        """
        import os, sys, model
        print(model.ANSWER, os.getcwd(), sys.executable)
        """
    )
    work = bench.folder(AttemptId(0, 1)) / "work"
    assert bench.log() == f"42 {work} {sys.executable}\n"


def test_a_script_gets_the_variables_of_runner_and_study(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_RUNNER", "1")
    monkeypatch.setenv("MLFLOW_RUN_ID", "of-the-runner")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    bench.run(
        """
        import os
        for name in ("FROM_RUNNER", "FROM_STUDY", "MLFLOW_RUN_ID", "PYTHONPATH",
                     "CUDA_VISIBLE_DEVICES"):
            print(os.environ.get(name))
        """,
        env={"FROM_STUDY": "2"},
    )
    assert bench.log().split("\n") == ["1", "2", "None", f"{bench.cwd}:/elsewhere", "5", ""]


@pytest.mark.fault("F75")
def test_the_place_that_a_launcher_gave_the_runner_is_not_the_scripts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "head"), ("A", "b")):
        monkeypatch.setenv(name, value)
    status = bench.run(
        """
        import os
        from studyflow import sdk
        print([os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "A")])
        sdk.finish(loss=0.5)
        """,
        a_trial(),
        env={"RANK": "8"},
    )
    assert bench.log() == "['8', None, None, 'b']\n"
    assert status.outcome is not None
    assert status.outcome.metrics == {"loss": 0.5}


@pytest.mark.fault("F75")
def test_a_script_that_the_study_file_silences_is_not_accused(bench: Bench) -> None:
    status = bench.run(
        "from studyflow import sdk\nsdk.finish(loss=0.5)\n",
        a_trial(),
        env={"RANK": "1", "WORLD_SIZE": "2"},
    )
    assert status.outcome is not None
    assert status.outcome.cause is Cause.BAD_METRIC
    assert "a process of rank 1 called the SDK (RANK=1, WORLD_SIZE=2)" in status.outcome.message


def test_plain_mlflow_calls_find_the_trial_s_run(bench: Bench) -> None:
    trial = Trial("demo", 0, {}, tracking=TrackingRef("http://mlflow:5000", "abc123"))
    bench.run(
        """
        import os
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_RUN_CONTEXT"):
            print(os.environ[name])
        """,
        trial,
    )
    tags = '{"studyflow.trial_run": "abc123", "studyflow.attempt": "1"}'
    assert bench.log() == f"http://mlflow:5000\nabc123\n{tags}\n"


def test_attempts_of_a_trial_share_checkpoints_and_nothing_else(bench: Bench) -> None:
    source = """
        import os
        from studyflow import sdk
        folder = sdk.checkpoint_dir()
        print(sorted(p.name for p in folder.iterdir()), os.listdir())
        (folder / f"{sdk.current_trial().attempt}.pt").touch()
        open("scratch", "w").close()
        """
    bench.run(source, a_trial(0, 1))
    bench.run(source, a_trial(0, 2))
    assert bench.log(AttemptId(0, 2)) == "['1.pt'] []\n"


def test_output_and_errors_are_in_one_log_in_order(bench: Bench) -> None:
    bench.run("import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c')\n")
    assert bench.log() == "a\nb\nc\n"


def test_artifacts_are_found_after_forgetting(bench: Bench) -> None:
    bench.write(
        """
        from pathlib import Path
        from studyflow import sdk
        Path("model.pt").write_text("weights")
        Path("plots").mkdir(); Path("plots/a.png").touch()
        sdk.artifact("model.pt"); sdk.artifact("plots")
        sdk.finish(loss=1.0)
        """
    )
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    Watch(executor, 10.0).until_ended(attempt)
    executor.forget(attempt)
    files = executor.files(attempt)
    assert [path.name for path in files.artifacts] == ["model.pt", "plots"]
    assert files.log is not None
    assert set(files.extra) == {"trial.json", "outcome.json", "exit.json"}


# The command


def test_words_that_name_files_beside_the_study_become_full_paths(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.yaml").touch()
    command = [
        *("python", "train.py", "adam", "--config=conf/a.yaml", "--data=./conf", "conf"),
        *("-c", "x" * 5000, "--lr=0.1", "", "no/such/file"),
    ]
    assert resolve_command(command, tmp_path, os.defpath) == (
        *(sys.executable, f"{tmp_path}/train.py", "adam", f"--config={tmp_path}/conf/a.yaml"),
        *(f"--data={tmp_path}/conf", "conf", "-c", "x" * 5000, "--lr=0.1", "", "no/such/file"),
    )


def test_a_script_that_is_not_there_is_named_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match=r"The script 'nosuch\.py' .* does not exist"):
        resolve_command(["python", "nosuch.py"], tmp_path, os.defpath)


def test_programs_are_looked_for_beside_the_study_then_on_the_path(tmp_path: Path) -> None:
    script = tmp_path / "train.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert resolve_command(["./train.sh"], tmp_path, "/bin") == (str(script),)
    assert resolve_command(["train.sh"], tmp_path, "/bin") == (str(script),)
    assert resolve_command(["sh", "-c", "true"], tmp_path, "/bin")[0] == "/bin/sh"
    script.chmod(0o644)
    with pytest.raises(ExecutorError, match="not executable"):
        resolve_command(["./train.sh"], tmp_path, "/bin")


def test_a_program_that_does_not_exist_is_refused_at_once(bench: Bench) -> None:
    with pytest.raises(ExecutorError, match="'no-such-program' does not exist"):
        bench.executor(["no-such-program"])
    with pytest.raises(ExecutorError, match="empty"):
        bench.executor([])


def test_what_is_no_program_at_all_ends_with_a_sentence(bench: Bench) -> None:
    bench.write("no program\n", "train.bin")
    (bench.cwd / "train.bin").chmod(0o755)
    executor = bench.executor(["./train.bin"])
    status = Watch(executor, 10.0).until_ended(executor.submit(a_trial()))
    assert status.outcome is not None
    assert status.outcome.cause is Cause.USER_ERROR
    assert "Exec format error" in status.outcome.message


# What a runner that dies leaves


def as_it_was_claimed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> AttemptId:
    """Leave what a runner leaves that is killed between claiming an attempt and starting it."""
    with monkeypatch.context() as patch:
        patch.setattr(LocalExecutor, "_start", lambda self, watched: None)
        executor = bench.executor()
        attempt = executor.submit(a_trial())
        executor.close()
    return attempt


COUNTED = "from studyflow import sdk\nprint('started')\nsdk.finish(loss=1.0)\n"


def test_an_attempt_that_was_never_started_is_started_by_the_next_submit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(COUNTED)
    attempt = as_it_was_claimed(bench, monkeypatch)
    executor = bench.executor()
    assert executor.poll()[attempt].state is AttemptState.PENDING
    executor.submit(a_trial())
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.OK
    assert bench.log() == "started\n"


def test_an_attempt_that_was_never_started_is_started_by_polling(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(COUNTED)
    attempt = as_it_was_claimed(bench, monkeypatch)
    monkeypatch.setattr(local_module, "START_PATIENCE_SECONDS", 0.05)
    status = Watch(bench.executor(), 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.OK
    assert bench.log() == "started\n"


def test_an_attempt_that_was_never_started_can_be_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(COUNTED)
    attempt = as_it_was_claimed(bench, monkeypatch)
    monkeypatch.setattr(local_module, "START_PATIENCE_SECONDS", 0.05)
    executor = bench.executor()
    executor.stop(attempt, Cause.CANCELLED, "changed my mind")
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.CANCELLED
    assert bench.log() == ""


def test_a_runner_killed_before_its_claim_leaves_no_attempt(bench: Bench) -> None:
    bench.write(COUNTED)
    executor = bench.executor()
    (bench.root / "open" / "0-1").touch()
    (bench.root / "trials" / "0" / ".attempt-1.half").mkdir(parents=True)
    assert dict(executor.poll()) == {}
    status = Watch(executor, 10.0).until_ended(executor.submit(a_trial()))
    assert status.outcome is not None
    assert status.outcome.cause is Cause.OK


@pytest.mark.fault("F05", "F21")
def test_however_often_an_attempt_is_started_its_script_runs_once(bench: Bench) -> None:
    bench.write("import time\nprint('started')\ntime.sleep(0.3)\n")
    executors = [bench.executor() for _ in range(4)]
    attempt = AttemptId(0, 1)
    for executor in executors:
        executor.submit(a_trial())
        executor._start(executor._follow(attempt))
    Watch(executors[-1], 10.0).until_ended(attempt)
    executors[0]._start(executors[0]._follow(attempt))
    until(lambda: local_module._see_lock(bench.folder(attempt)) is local_module._Lock.FREE)
    assert bench.log() == "started\n"


RUNNER = """
import sys
from pathlib import Path
from studyflow.executors.local import LocalExecutor
from studyflow.trial import Trial
root, cwd = Path(sys.argv[1]), Path(sys.argv[2])
executor = LocalExecutor("demo", ["python", "train.py"], root=root, cwd=cwd)
executor.submit(Trial("demo", 0, {}, metrics=("loss",)))
print("submitted", flush=True)
while True: executor.wait(1.0)
"""


@pytest.mark.fault("F21")
def test_a_training_goes_on_and_is_adopted_when_its_runner_is_killed(bench: Bench) -> None:
    bench.write(
        """
        import os, time
        from studyflow import sdk
        print("started", flush=True)
        sdk.report(0, loss=2.0)
        while not os.path.exists(os.path.join(os.environ["GATE"], "gate")): time.sleep(0.005)
        sdk.finish(loss=1.0)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(bench.root), str(bench.cwd)],
        stdout=subprocess.PIPE,
        env={**os.environ, "GATE": str(bench.cwd)},
    ) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == b"submitted\n"
        runner.kill()
    executor = bench.executor()
    watch = Watch(executor, 10.0)
    watch.until_reported(AttemptId(0, 1))
    assert executor.submit(a_trial()) == AttemptId(0, 1)
    (bench.cwd / "gate").touch()
    status = watch.until_ended(AttemptId(0, 1))
    assert status.outcome is not None
    assert status.outcome.metrics == {"loss": 1.0}
    assert bench.log() == "started\n"


# What is left when processes are killed

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


linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux keeps a process tree together"
)


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
    # Nobody looked at the moment of the end: the group alone tells.
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
    kills = supervisor.RecentKills(lambda: 7 + (now >= killed_at), lambda: now)
    while now < ends_at:
        now += 1.0
        kills.look()
    assert kills.is_any() is is_recent
    assert not supervisor.RecentKills(lambda: 7, lambda: now).is_any()


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
    until(lambda: (bench.executor().poll(), not local_module._children)[1])


# Metrics and logs of any size


@pytest.mark.fault("F42")
def test_torn_foreign_and_endless_lines_are_passed_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_module, "METRICS_BYTES_PER_POLL", 64)
    bench.write(
        """
        import json, os
        path = json.loads(os.environ["STUDYFLOW_TRIAL"])["metrics_path"]
        with open(path, "wb") as file:
            file.write(b'["loss",0,1.0,5]\\n')
            file.write(b'garbage\\n\\xff\\xfe\\n[1,2]\\n["loss",true,1.0,5]\\n')
            file.write(b"x" * 300 + b"\\n")
            file.write(b'["loss",1,"nan",6]\\n["loss",2,0.5,7]\\n["loss",3,0.2')
        """
    )
    executor = bench.executor()
    watch = Watch(executor, 10.0)
    attempt = executor.submit(a_trial())
    watch.until_ended(attempt)
    assert [(p.step, str(p.value)) for p in watch.points[attempt]] == [
        (0, "1.0"),
        (1, "nan"),
        (2, "0.5"),
    ]


def test_a_line_torn_between_two_looks_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = local_module._MetricsReader(path)
    assert reader.read() == ()
    path.write_text('["loss",0,1.0,5]\n["loss",1,')
    assert reader.read() == (MetricPoint("loss", 0, 1.0, 5),)
    assert not reader.has_more()
    with path.open("a") as file:
        file.write("2.0,6]\n")
    assert reader.has_more()
    assert reader.read() == (MetricPoint("loss", 1, 2.0, 6),)
    assert reader.read() == ()


def test_metrics_come_in_bounded_pieces_and_all_before_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_module, "METRICS_BYTES_PER_POLL", 2000)
    bench.write(
        "from studyflow import sdk\nfor i in range(500): sdk.report(i, loss=1.0)\n"
        "sdk.finish(loss=1.0)\n"
    )
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    until((bench.folder(attempt) / "exit.json").exists)
    pieces: list[int] = []
    while True:
        status = executor.poll()[attempt]
        pieces.append(len(status.points))
        if status.state is AttemptState.ENDED:
            break
    assert sum(pieces) == 500
    assert max(pieces) < 100


@pytest.mark.fault("F42")
def test_a_huge_log_costs_only_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(
        """
        import os
        os.ftruncate(1, 2 << 30)
        os.write(1, b"ValueError: the last words\\n")
        os._exit(1)
        """
    )
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.message == "Exit code 1. Last line: ValueError: the last words"
    assert executor.read_log(attempt, offset=2 << 30, limit_bytes=10) == b"ValueError"


LEAVES = """
import json, os, socket
from pathlib import Path
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
path, how = Path(trial["outcome_path"]), trial["params"]["how"]
if how == "an empty file": path.touch()
if how == "a torn file": path.write_text('{"version":1,"study":"demo"')
if how == "a folder": path.mkdir()
if how == "a pipe": os.mkfifo(path)
if how == "a socket": socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))
if how == "a dangling link": path.symlink_to("nowhere")
if how == "the mark of a result": path.symlink_to("An outcome could not be written: Too many")
if how == "a link to a secret":
    Path("secret").write_text("hunter2")
    path.symlink_to(Path("secret").absolute())
"""


@pytest.mark.fault("F59")
def test_what_stands_in_place_of_an_outcome_and_is_none_is_refused(bench: Bench) -> None:
    bench.write(LEAVES)
    executor = bench.executor()
    words = {
        "an empty file": "The outcome document is empty",
        "a torn file": """It begins '{"version":1,"study":"demo"'""",
        "a folder": "A folder stands where the outcome document belongs",
        "a pipe": "A pipe stands where",
        "a socket": "A socket stands where",
        "a dangling link": "A link stands where",
        "a link to a secret": "A link stands where",
        "the mark of a result": "It begins 'An outcome could not be written: Too many'",
        "nothing": "ended without an objective value",
    }
    for number, how in enumerate(words):
        executor.submit(Trial("demo", number, {"how": how}, metrics=("loss",)))
    statuses = Watch(executor, 20.0).until(
        lambda seen: all(status.outcome is not None for status in seen.values())
    )
    for number, (how, said) in enumerate(words.items()):
        outcome = statuses[AttemptId(number, 1)].outcome
        assert outcome is not None
        assert outcome.cause is Cause.BAD_METRIC
        assert said in outcome.message
        assert "hunter2" not in outcome.message
        assert outcome.is_silent is (how == "nothing")


@pytest.mark.fault("F59")
def test_an_outcome_that_the_runner_cannot_read_now_is_read_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write("from studyflow import sdk\nsdk.finish(loss=1.0)\n")
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    until((bench.folder(attempt) / "exit.json").exists)
    open_file = os.open

    def refuse(path: Any, *arguments: Any, **more: Any) -> int:
        if str(path).endswith("outcome.json"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return open_file(path, *arguments, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ExecutorUnavailable, match="Too many open files"):
        executor.poll()
    monkeypatch.setattr(os, "open", open_file)
    outcome = executor.poll()[attempt].outcome
    assert outcome is not None
    assert outcome.metrics == {"loss": 1.0}


@pytest.mark.fault("F64")
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_script_that_stops_its_supervisor_costs_its_own_attempt_at_most(bench: Bench) -> None:
    status = bench.run(
        """
        import os, signal
        from studyflow import sdk
        os.kill(os.getppid(), signal.SIGSTOP)
        sdk.finish(loss=1.0)
        """
    )
    assert status.outcome is not None
    assert status.outcome.metrics == {"loss": 1.0}


def test_a_pipe_in_place_of_the_metrics_stops_nobody(bench: Bench) -> None:
    status = bench.run(
        """
        import json, os
        trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
        os.mkfifo(trial["metrics_path"])
        from studyflow import sdk
        sdk.report(0, loss=1.0)
        sdk.finish(loss=0.5)
        """
    )
    assert status.outcome is not None
    assert status.outcome.metrics == {"loss": 0.5}


@pytest.mark.fault("F59")
@pytest.mark.parametrize(
    ("change", "last"),
    [
        (lambda path: path.unlink(), '["loss",2,0.5,7]\n'),
        (lambda path: path.unlink(), '["loss",2,0.5,7]\n["loss",3,0.5,8]\n["loss",4,0.5,9]\n'),
        (lambda path: path.write_text(""), '["loss",2,0.5,7]\n'),
        (lambda path: path.write_text(""), '["loss",0,8.0,5]\n["loss",2,0.5,7]\n'),
        (lambda path: path.rename(path.with_name("old")), '["loss",2,0.5,7]\n["loss",2,0.5,7]\n'),
    ],
)  # fmt: skip
def test_metrics_that_were_replaced_are_read_from_their_beginning(
    tmp_path: Path, change: Callable[[Path], object], last: str
) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = local_module._MetricsReader(path)
    path.write_text('["loss",0,9.0,5]\n["loss",1,9.0,6]\n')
    assert [point.value for point in reader.read()] == [9.0, 9.0]
    change(path)
    with path.open("a") as file:
        file.write(last)
    assert reader.has_more()
    assert [point.value for point in reader.read()][-1] == 0.5
    assert not reader.has_more()
    assert reader.why_incomplete(str) == ""


SPOILS = """
import json, os
from studyflow import sdk
trial = json.loads(os.environ["STUDYFLOW_TRIAL"])
path, how = trial["metrics_path"], trial["params"]["how"]
sdk.report(0, loss=2.0)
if how == "garbage": open(path, "a").write("loss: 0.5 hunter2\\n")
if how == "torn": open(path, "a").write('["loss",1,0.')
if how == "removed": os.unlink(path)
if how == "folder": os.unlink(path), os.mkdir(path)
if how == "long": open(path, "a").write("\\n" * 400)
os._exit(0)
"""


@pytest.mark.fault("F59")
def test_a_silent_script_is_not_judged_by_a_report_before_one_that_cannot_be_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_module, "METRICS_BYTES_PER_ATTEMPT", 200)
    monkeypatch.setattr(local_module, "METRICS_BYTES_PER_POLL", 100)
    bench.write(SPOILS)
    executor = bench.executor(redact=Redactor(["hunter2"]))
    words = {
        "garbage": "the last line of the reports begins 'loss: 0.5 ***'",
        "torn": "the last line of the reports is cut off",
        "removed": "",
        "folder": "something else stands where the reports belong",
        "long": "the reports are longer than 200 bytes",
        "nothing": "",
    }
    for number, how in enumerate(words):
        executor.submit(Trial("demo", number, {"how": how}, metrics=("loss",)))
    statuses = Watch(executor, 20.0).until(
        lambda seen: all(status.outcome is not None for status in seen.values())
    )
    for number, (how, said) in enumerate(words.items()):
        outcome = statuses[AttemptId(number, 1)].outcome
        assert outcome is not None
        assert outcome.cause is Cause.BAD_METRIC
        assert said in outcome.message, how
        assert how == "removed" or outcome.is_silent is (how == "nothing")


def test_a_script_whose_reports_were_removed_is_judged_alike_whether_they_were_seen_or_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = local_module._MetricsReader(path)
    path.write_text('["loss",0,9.0,5]\n')
    assert len(reader.read()) == 1
    path.unlink()
    assert not reader.has_more()
    assert reader.why_incomplete(str) == "the reports were removed"


# Cards

SHOW_CARDS = "import os\nprint(os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True)\n"


def test_each_attempt_gets_cards_of_its_own_whoever_starts_it(bench: Bench) -> None:
    bench.write(SHOW_CARDS + HANG)
    options: Mapping[str, Any] = {"gpus_per_trial": 2, "gpu_ids": ["0", "1", "2", "3"]}
    first, second = bench.executor(**options), bench.executor(**options)
    assert first.slots == 2
    attempts = [first.submit(a_trial(0)), second.submit(a_trial(1))]
    until(lambda: all(bench.log(attempt).endswith("\n") for attempt in attempts))
    assert [bench.log(attempt) for attempt in attempts] == ["0,1\n", "2,3\n"]
    with pytest.raises(ExecutorUnavailable, match="No 2 of 4 GPUs are free"):
        first.submit(a_trial(2))
    first.stop(attempts[0], Cause.CANCELLED, "")
    Watch(first, 10.0).until_ended(attempts[0])
    third = second.submit(a_trial(2))
    until(lambda: bench.log(third) == "0,1\n")


def test_a_submit_refused_for_want_of_cards_leaves_nothing(bench: Bench) -> None:
    bench.write(HANG)
    executor = bench.executor(gpus_per_trial=1, gpu_ids=["0"])
    attempt = executor.submit(a_trial(0))
    with pytest.raises(ExecutorUnavailable):
        executor.submit(a_trial(1))
    assert list(executor.poll()) == [attempt]


def test_without_any_card_a_study_runs_on_the_processor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    bench.write(SHOW_CARDS)
    executor = bench.executor(gpus_per_trial=1)
    assert executor.slots is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    Watch(executor, 10.0).until_ended(executor.submit(a_trial()))
    assert bench.log() == "\n"


def test_more_cards_than_there_are_are_refused(bench: Bench) -> None:
    bench.write(SHOW_CARDS)
    with pytest.raises(ExecutorError, match="needs 3 GPUs"):
        bench.executor(gpus_per_trial=3, gpu_ids=["0", "1"])


# Refusals


def test_the_trials_of_an_older_study_of_the_same_name_are_not_taken_over(bench: Bench) -> None:
    bench.run("pass\n", a_trial(x=1.0))
    with pytest.raises(ExecutorError, match="other parameters"):
        bench.executor().submit(a_trial(x=2.0))


def test_a_trial_of_another_study_is_refused(bench: Bench) -> None:
    bench.write("pass\n")
    with pytest.raises(ExecutorError, match="runs study 'demo'"):
        bench.executor().submit(Trial("other", 0, {}))


def test_an_attempt_that_cannot_be_started_does_not_exist(bench: Bench) -> None:
    bench.write("pass\n")
    executor = bench.executor()
    with pytest.raises(ExecutorError, match="very long"):
        executor.submit(Trial("demo", 0, {"text": "x" * 3_000_000}))
    assert dict(executor.poll()) == {}
    assert executor.submit(a_trial()) == AttemptId(0, 1)


def test_an_attempt_that_runs_cannot_be_forgotten(bench: Bench) -> None:
    bench.write(HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    with pytest.raises(ExecutorError, match="has not ended"):
        executor.forget(attempt)


def test_a_root_that_went_away_is_worth_another_try(bench: Bench) -> None:
    bench.write("pass\n")
    executor = bench.executor()
    aside = bench.root.rename(bench.root.with_name("aside"))
    with pytest.raises(ExecutorUnavailable, match="was moved or its disk taken away"):
        executor.poll()
    aside.rename(bench.root)
    assert dict(executor.poll()) == {}


def test_what_a_power_cut_left_is_passed_over_and_can_be_submitted_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(COUNTED)
    attempt = as_it_was_claimed(bench, monkeypatch)
    (bench.folder(attempt) / "trial.json").write_text("")
    executor = bench.executor()
    assert dict(executor.poll()) == {}
    status = Watch(executor, 10.0).until_ended(executor.submit(a_trial()))
    assert status.outcome is not None
    assert status.outcome.cause is Cause.OK


# What a script does to the files of its attempt

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
    write = local_module._write_new

    def refused_once(path: Path, text: str) -> None:
        if next(refusals):
            raise PermissionError(13, "Permission denied")
        write(path, text)

    monkeypatch.setattr(local_module, "_write_new", refused_once)
    bench.folder(attempt).chmod(0o500)
    os.kill(pids["supervisor"], signal.SIGKILL)
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.LOST
    assert bench.folder(attempt).stat().st_mode & 0o777 == 0o755


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
        patch.setattr(local_module, "_write_new", refused)
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


# Waiting


def rounds_of(executor: LocalExecutor, seconds: float) -> int:
    """Return how often a runner's loop turns in this time, by itself a few times a second."""
    deadline, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        executor.poll()
        executor.wait(0.1)
        rounds += 1
    return rounds


@linux_only
@pytest.mark.fault("F64")
@pytest.mark.parametrize("is_started", [False, True])
def test_a_supervisor_that_is_frozen_makes_no_busy_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_started: bool
) -> None:
    monkeypatch.setattr(local_module, "START_PATIENCE_SECONDS", 0.05)
    bench.write(HANG)
    attempt = as_it_was_claimed(bench, monkeypatch)
    folder = bench.folder(attempt)
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_started:
            with subprocess.Popen(["true"]) as gone:
                pass
            pids = {"supervisor": gone.pid, "script": None, "script_start": None}
            (folder / "pid.json").write_text(json.dumps(pids | {"started_at": 1.0}))
        executor = bench.executor()
        assert rounds_of(executor, 0.3) < 10
    executor.stop(attempt, Cause.CANCELLED, "the test is over")


@linux_only
@pytest.mark.fault("F64")
def test_a_dead_supervisor_s_lock_that_another_process_holds_makes_no_busy_loop(
    bench: Bench,
) -> None:
    bench.write("import time\nfrom studyflow import sdk\nsdk.report(0, loss=1.0)\n" + HANG)
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    Watch(executor, 10.0).until_reported(attempt)
    pids = read_pids(bench)
    with (bench.folder(attempt) / "lock").open("a") as lock:
        os.kill(pids["supervisor"], signal.SIGKILL)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert rounds_of(executor, 0.4) < 12
        assert not is_alive(pids["script"])
    status = Watch(executor, 10.0).until_ended(attempt)
    assert status.outcome is not None
    assert status.outcome.cause is Cause.LOST


def test_waiting_ends_with_the_attempt(bench: Bench) -> None:
    bench.write("import time\ntime.sleep(0.2)\n")
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    began = time.monotonic()
    while executor.poll()[attempt].state is not AttemptState.ENDED:
        executor.wait(60.0)
    assert time.monotonic() - began < 10.0


def test_waiting_ends_with_an_adopted_attempt(bench: Bench) -> None:
    bench.write("import time\ntime.sleep(0.2)\n")
    bench.executor().submit(a_trial())
    executor = bench.executor()
    began = time.monotonic()
    while executor.poll()[AttemptId(0, 1)].state is not AttemptState.ENDED:
        executor.wait(60.0)
    assert time.monotonic() - began < 10.0


def test_without_pidfds_the_end_is_still_noticed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_module._Attempt, "watch", lambda self, pid: None)
    status = bench.run("pass\n")
    assert status.state is AttemptState.ENDED


def test_an_ended_attempt_is_not_looked_at_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write("pass\n")
    executor = bench.executor()
    attempt = executor.submit(a_trial())
    before = Watch(executor, 10.0).until_ended(attempt)
    for path in bench.folder(attempt).glob("*.json"):
        path.unlink()
    assert executor.poll()[attempt].outcome == before.outcome


def test_two_folders_are_two_places_on_one_machine(bench: Bench, tmp_path: Path) -> None:
    bench.write(HANG)
    other = LocalExecutor("demo", ("python", "train.py"), root=tmp_path / "other", cwd=bench.cwd)

    assert bench.executor().site != other.site
    assert bench.executor().site.rpartition("/")[0] == other.site.rpartition("/")[0]
