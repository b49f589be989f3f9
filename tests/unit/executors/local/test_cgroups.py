"""Which control group an attempt may have, by trees that look like the kernel's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from studyflow.executors.local import cgroups

pytestmark = pytest.mark.fault("F66")

UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "33 30 0:28 / /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)
OF_A_CONTAINER = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("own", "mounts", "expected"),
    [
        ("0::/user.slice/user-1000.slice/session-3.scope", UNIFIED,
         "/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope"),
        ("0::/", UNIFIED, "/sys/fs/cgroup"),
        ("4:memory:/job\n1:cpu:/\n0::/job", HYBRID, "/sys/fs/cgroup/unified/job"),
        ("4:memory:/job\n1:cpu:/", HYBRID, None),  # version 1 alone
        ("0::/docker/abc/x", OF_A_CONTAINER, "/sys/fs/cgroup/x"),
        ("0::/elsewhere", OF_A_CONTAINER, None),
        ("0::/../../init.scope", UNIFIED, None),
        ("0::/job", "", None),
        ("0::/a \"quoted\" name", UNIFIED, None),
        ("", UNIFIED, None),
    ],
)  # fmt: skip
def test_the_own_group_is_where_version_2_is_mounted(
    own: str, mounts: str, expected: str | None
) -> None:
    found = cgroups.own_cgroup(own, mounts)
    assert found == (None if expected is None else PurePosixPath(expected))


def a_system(root: Path, procs_mode: int = 0o644, group_mode: int = 0o755) -> Path:
    group = root / "sys/fs/cgroup/job"
    group.mkdir(parents=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/job\n")
    (root / "proc/self/mountinfo").write_text(UNIFIED)
    (group / "cgroup.procs").touch(mode=procs_mode)
    group.chmod(group_mode)
    return group


def test_attempts_have_groups_where_this_user_may_make_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = a_system(tmp_path)
    assert cgroups.find_parent(tmp_path) == group
    forbidden = {group / "cgroup.procs"}
    monkeypatch.setattr(os, "access", lambda path, mode: path not in forbidden)
    assert cgroups.find_parent(tmp_path) is None
    forbidden = {group}
    assert cgroups.find_parent(tmp_path) is None
    assert cgroups.find_parent(tmp_path / "proc") is None


def test_names_tell_the_attempts_of_all_studies_apart() -> None:
    names = {cgroups.group_name(f"/home/{n}/outcome.json") for n in range(100)}
    assert len(names) == 100
    assert all(PurePosixPath(name).name == name for name in names)


def test_only_a_mounted_group_is_one(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(UNIFIED)
    assert cgroups.is_group(Path("/sys/fs/cgroup/job/x"), table)
    for other in ("/etc/x", "/sys/fs/cgroup/../x", "sys/fs/cgroup/x"):
        assert not cgroups.is_group(Path(other), table)
    assert not cgroups.is_group(Path("/sys/fs/cgroup/x"), tmp_path / "none")


def test_without_the_kernel_s_kill_each_process_of_a_group_is_killed(tmp_path: Path) -> None:
    group = tmp_path / "group"
    (group / "inner").mkdir(parents=True)
    (group / "cgroup.kill").mkdir()  # as before 5.14: it cannot be written to
    with subprocess.Popen(["sleep", "60"]) as one, subprocess.Popen(["sleep", "60"]) as two:
        (group / "cgroup.procs").write_text(f"{one.pid}\n")
        (group / "inner" / "cgroup.procs").write_text(f"{two.pid}\n")
        assert cgroups.kill_group(group)
    assert (one.returncode, two.returncode) == (-signal.SIGKILL, -signal.SIGKILL)
    assert not cgroups.kill_group(tmp_path / "none")


@pytest.fixture
def group() -> Iterator[Path]:
    parent = cgroups.find_parent()
    if parent is None:
        pytest.skip("no control groups can be made here")
    group = parent / f"studyflow-test-{os.getpid()}"
    group.mkdir()
    yield group
    cgroups.remove_group(group)
    assert not group.exists()


def test_a_group_is_killed_with_those_below_and_removed(group: Path) -> None:
    (group / "inner").mkdir()
    code = "import sys, time; open(sys.argv[1], 'w').write('0'); print(flush=True); time.sleep(60)"
    started = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", code, folder / "cgroup.procs"], stdout=subprocess.PIPE
        )
        for folder in (group, group / "inner")
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    cgroups.remove_group(group)
    assert group.exists()
    assert cgroups.kill_group(group)
    for process in started:
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert not cgroups.kill_group(group)
