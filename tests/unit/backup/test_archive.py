"""An archive is restored whole or not at all, and is for its owner alone."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studyflow.backup.archive import MANIFEST, is_inside, new_archive, read_archive
from studyflow.backup.folder import WORK, add_folder
from studyflow.backup.manifest import FORMAT, Kind, Manifest, Member, Part, PartEntry
from studyflow.errors import BackupError, BackupUnavailable
from studyflow.reasons import Code


def nothing(_: object) -> None:
    return None


def manifest_of(*members: Member, part: Part = Part.STUDIES) -> Manifest:
    entry = PartEntry(part, Kind.FOLDER, "/there", members)
    return Manifest("2026-11-30T12:00:00Z", {"studyflow": "0.1.0"}, (entry,), {"mlflow": "away"})


@pytest.fixture(params=["backup.tar", "backup.tar.gz"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An archive of one file with 10,000 bytes."""
    path: Path = tmp_path / request.param
    source = tmp_path / "source"
    source.write_bytes(random.Random(0).randbytes(10_000))
    with new_archive(path) as writer:
        writer.close(manifest_of(writer.add_file(source, "studies/storage.journal", nothing)))
    return path


def test_an_archive_is_read_as_it_was_written(archive: Path) -> None:
    manifest = read_archive(archive)

    [entry] = manifest.parts
    assert [(m.path, m.size) for m in entry.members] == [("studies/storage.journal", 10_000)]
    assert manifest.left_out == {"mlflow": "away"}


def test_an_archive_is_for_its_owner_alone(archive: Path) -> None:
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600


def test_an_archive_is_never_written_over(archive: Path) -> None:
    with pytest.raises(FileExistsError), new_archive(archive):
        pass


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5])
def test_an_archive_that_is_cut_is_refused(archive: Path, share: float) -> None:
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])

    with pytest.raises(BackupError, match="cannot be restored") as caught:
        read_archive(archive)
    assert caught.value.code is Code.BACKUP_DAMAGED


@pytest.mark.parametrize("at", range(100, 10_000, 611))
def test_an_archive_of_which_one_byte_changed_is_refused(archive: Path, at: int) -> None:
    data = bytearray(archive.read_bytes())
    data[at] ^= 0x40
    archive.write_bytes(data)

    with pytest.raises(BackupError):
        read_archive(archive)


def test_an_archive_without_its_manifest_was_never_finished(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with new_archive(tmp_path / "a.tar") as writer:
        writer.add_file(tmp_path / "file", "studies/file", nothing)

    with pytest.raises(BackupError, match="its manifest is missing"):
        read_archive(tmp_path / "a.tar")


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("a text " * 1000)

    with pytest.raises(BackupError, match="cannot be restored"):
        read_archive(tmp_path / "a.tar")


@pytest.mark.parametrize(
    "name", ["../evil", "studies/../../evil", "/etc/passwd", "studies", "elsewhere/file"]
)
def test_an_archive_that_would_write_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        _add(tar, name, b"x")
        digest = hashlib.sha256(b"x").hexdigest()
        _add(tar, MANIFEST, manifest_of(Member(name, 1, digest)).to_json().encode())

    with pytest.raises(BackupError, match="does not belong into it"):
        read_archive(tmp_path / "a.tar")


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.LNKTYPE])
def test_an_archive_with_a_device_or_hard_link_is_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("studies/file")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
        _add(tar, MANIFEST, manifest_of(Member("studies/file", 0, "")).to_json().encode())

    with pytest.raises(BackupError, match="does not belong into it"):
        read_archive(tmp_path / "a.tar")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def test_an_archive_that_lists_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    with new_archive(tmp_path / "a.tar") as writer:
        writer.close(manifest_of(Member("studies/file", 0, "0" * 64)))

    with pytest.raises(BackupError, match="'studies/file' is not as it was written"):
        read_archive(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("name", "target", "inside"),
    [
        ("files/a", "b", True),
        ("files/a/b", "../c", True),
        ("files/a", "..", False),
        ("files/a", "../studies/x", False),
        ("files/a", "/etc/passwd", False),
        ("files/a/b", "c/../../..", False),
        ("files/a", "", False),
    ],
)
def test_a_link_stays_inside_its_part(name: str, target: str, inside: bool) -> None:
    assert is_inside(name, target) is inside


def test_a_large_file_that_shrinks_while_it_is_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studyflow.backup.archive.WHOLE_BYTES", 10)
    path = tmp_path / "checkpoint"
    path.write_bytes(b"x" * 100_000)

    def cut(_: int) -> None:
        os.truncate(path, 10)

    with new_archive(tmp_path / "a.tar") as writer, pytest.raises(BackupUnavailable) as caught:
        writer.add_file(path, "files/checkpoint", cut)
    assert caught.value.message == f"{path} became shorter while it was read."


def test_a_folder_is_added_with_its_links_and_empty_folders(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "empty").mkdir(parents=True)
    (root / "a\udcff").write_text("no UTF-8 in its name")
    (root / "latest").symlink_to("empty")
    (root / "out").symlink_to("/etc/passwd")
    os.mkfifo(root / "pipe")
    (root / "skipped").write_text("x")
    with new_archive(tmp_path / "a.tar") as writer:
        members, left_out = add_folder(
            writer, root, "files", skips=lambda path: path.name == "skipped", advance=nothing
        )
        writer.close(manifest_of(*members, part=Part.FILES))

    manifest = read_archive(tmp_path / "a.tar")

    assert [m.path for m in manifest.parts[0].members] == [
        "files/a\udcff",
        "files/empty",
        "files/latest",
    ]
    assert [path.name for path in left_out] == ["out", "pipe"]


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user without rights where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_is_named_and_the_rest_is_backed_up() -> None:
    with tempfile.TemporaryDirectory() as made:
        root, archive = Path(made) / "root", Path(made) / "a.tar"
        for folder in (Path(made), root, root / "closed", root / "open"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o777)
        for name in ("secret", "open/log", "closed/log"):
            (root / name).write_text("x")
        (root / "secret").chmod(0)
        (root / "closed").chmod(0)
        with as_nobody(), new_archive(archive) as writer:
            members, left_out = add_folder(
                writer, root, "files", skips=lambda _: False, advance=nothing
            )
        (root / "closed").chmod(0o700)

    assert [m.path for m in members] == ["files/closed", "files/open", "files/open/log"]
    assert [path.name for path in left_out] == ["closed", "secret"]


def test_the_work_of_other_backups_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "root" / f"{WORK}x").mkdir(parents=True)
    with new_archive(tmp_path / "a.tar") as writer:
        found = add_folder(
            writer, tmp_path / "root", "files", skips=lambda _: False, advance=nothing
        )
    assert found == ((), ())


def test_a_folder_that_is_not_there_has_no_members(tmp_path: Path) -> None:
    with new_archive(tmp_path / "a.tar") as writer:
        found = add_folder(writer, tmp_path / "no", "files", skips=lambda _: False, advance=nothing)
    assert found == ((), ())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MEMBERS = st.builds(Member, TEXTS, st.integers(0, 2**40), TEXTS)
ENTRIES = st.builds(
    PartEntry, st.sampled_from(Part), st.sampled_from(Kind), TEXTS, st.tuples(MEMBERS)
)
MANIFESTS = st.builds(
    Manifest,
    TEXTS,
    st.dictionaries(TEXTS, TEXTS),
    st.tuples(ENTRIES),
    st.dictionaries(TEXTS, TEXTS),
)


@given(MANIFESTS)
def test_a_manifest_is_read_as_it_was_written(manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_an_archive_of_a_later_format_is_refused() -> None:
    text = manifest_of().to_json().replace(f'"format": {FORMAT}', '"format": 99')

    with pytest.raises(BackupError, match="of format 99, and this studyflow reads format 1"):
        Manifest.from_json(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "null", "[" * 100_000])
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(BackupError, match="cannot be read"):
        Manifest.from_json(text)
