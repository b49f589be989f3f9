"""A study file on a network share is refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from studyflow.errors import StudyError
from studyflow.storage import default_storage_url, open_storage
from studyflow.storage.network_files import file_system, refuse_network_file

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:45 / /home rw,relatime shared:20 - nfs4 server:/home rw,vers=4.2
31 30 8:3 / /home/ada/scratch rw - xfs /dev/sdb1 rw
32 22 0:50 / /mnt/lab\\040share rw - cifs //server/lab rw
33 22 0:51 / /data rw - nfs server:/data rw
34 33 8:4 / /data rw - ext4 /dev/sdc1 rw
a line of another kind
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/studies.db", "ext4"),
        ("/home/ada/.studyflow/studies.journal", "nfs4"),
        ("/home/ada/scratch/studies.db", "xfs"),
        ("/homes/studies.db", "ext4"),
        ("/mnt/lab share/studies.db", "cifs"),
        ("/data/studies.db", "ext4"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def test_nothing_is_known_without_a_list_of_mounts(tmp_path: Path) -> None:
    assert file_system(Path("/home/studies.db"), "") is None
    refuse_network_file(tmp_path / "studies.db", mounts=tmp_path / "missing")


@pytest.mark.parametrize("scheme", ["journal", "sqlite"])
@pytest.mark.fault("F30")
def test_a_study_on_a_network_share_is_refused_with_advice(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"30 22 0:45 / {tmp_path} rw - nfs4 server:/home rw\n")
    monkeypatch.setattr("studyflow.storage.opening.refuse_network_file.__defaults__", (mounts,))
    home = tmp_path / "home"

    with pytest.raises(StudyError) as caught:
        open_storage(f"{scheme}:///{home}/studies.db")

    assert f"The study file {home}/studies.db is on a network share (nfs4)" in str(caught.value)
    assert "set STUDYFLOW_STORAGE to a database" in str(caught.value)
    assert not caught.value.retryable
    assert not home.exists()


def test_who_only_reads_may_read_from_a_network_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_storage(default_storage_url(tmp_path))
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"30 22 0:45 / {tmp_path} rw - nfs4 server:/home rw\n")
    monkeypatch.setattr("studyflow.storage.opening.refuse_network_file.__defaults__", (mounts,))

    assert open_storage(default_storage_url(tmp_path), create=False).get_all_studies() == []
