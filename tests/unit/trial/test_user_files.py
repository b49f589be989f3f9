"""What a script can put in place of a file, and what is made of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from studyflow.trial.user_files import (
    Gathered,
    Kind,
    NotAFileError,
    copy_file,
    gather,
    kind_of,
    open_file,
    read_piece,
)

pytestmark = pytest.mark.fault("F65")


def n_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def a_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:  # its address has 108 characters, a path may more
        server.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


OTHERS: dict[str, Callable[[Path], object]] = {
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "socket": a_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "dangling link": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a file": lambda path: path.symlink_to("/etc/passwd"),
}


@pytest.mark.fault("F64")
@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_what_is_no_regular_file_is_told_from_nothing_and_costs_no_descriptor(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "x"
    assert kind_of(path) is Kind.NOTHING
    assert read_piece(path, 10) is None
    make(path)
    before = n_descriptors()
    assert kind_of(path) is Kind.OTHER
    assert read_piece(path, 10) is None
    with pytest.raises(NotAFileError):
        open_file(path)
    assert n_descriptors() == before


def test_a_piece_is_bounded_however_long_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("begin")
    os.truncate(path, 1 << 40)
    with path.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"end")
    assert read_piece(path, 5) == b"begin"
    assert read_piece(path, 4, from_end=True) == b"\0end"
    assert kind_of(path) is Kind.FILE
    assert kind_of(path / "below") is Kind.NOTHING
    assert read_piece(path / "below", 5) is None


def names(found: Gathered) -> list[str]:
    return [file.name for file in found.files]


def gathered(folder: Path) -> tuple[list[str], dict[str, str]]:
    found = gather([(folder, "", folder)])
    return names(found), {left.name: left.reason for left in found.left_out}


def test_links_are_kept_as_files_within_their_folder_and_left_out_beyond(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    (folder / "deep").mkdir(parents=True)
    (folder / "a").touch()
    (tmp_path / "beside").touch()
    links = {
        "to-a": "a",
        "deep/up-to-a": "../a",
        "absolute": str(folder / "a"),
        "through": "to-a",
        "loop": ".",
        "deep/parent": "..",
        "out": "../beside",
        "far": "/etc/passwd",
        "folder-out": "/etc",
        "gone": "nothing",
        "self": "self",
        "in-and-out": "out",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    kept, left_out = gathered(folder)
    assert kept == ["a", "absolute", "deep/up-to-a", "through", "to-a"]
    leads_out = "a link that leads out of the folder"
    assert left_out == {
        "deep/parent": "a link to a folder",
        "far": leads_out,
        "folder-out": leads_out,
        "gone": "a link to nothing",
        "in-and-out": leads_out,
        "loop": "a link to a folder",
        "out": leads_out,
        "self": "a link to itself",
    }


def test_an_artifact_folder_replaced_by_a_link_has_no_files(tmp_path: Path) -> None:
    (tmp_path / "artifacts").symlink_to("/etc")
    found = gather([(tmp_path / "artifacts", "artifacts", tmp_path)])
    assert found.files == []
    assert found.describe_left_out() == "artifacts (a link that leads out of the folder)"


def test_pipes_sockets_and_what_is_half_copied_are_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    a_socket(tmp_path / "socket")
    (tmp_path / ".1234.part").touch()
    assert gathered(tmp_path) == (
        [],
        {".1234.part": "half copied", "pipe": "a pipe", "socket": "a socket"},
    )


def test_files_beyond_a_size_or_number_are_left_out_in_the_order_of_names(tmp_path: Path) -> None:
    for name, size in {"a": 10, "b": 1 << 40, "c": 10, "d": 10}.items():
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, size)
    sources = [(tmp_path, "x", tmp_path)]
    assert names(gather(sources, max_bytes=25)) == ["x/a", "x/c"]
    few = gather([(path, path.name, tmp_path) for path in sorted(tmp_path.iterdir())], max_files=2)
    assert names(few) == ["a", "c"]
    assert names(gather(sources, max_files=3)) == []
    assert gather(sources, max_files=3).left_out[0].reason == "a folder of more than 3 files"


def test_folders_however_deep_and_many_end_the_walk(tmp_path: Path) -> None:
    inner = tmp_path
    for _ in range(70):
        inner = inner / "d"
        inner.mkdir()
    found = gather([(tmp_path, "", tmp_path)])
    assert [left.reason for left in found.left_out] == ["more than 64 folders deep"]
    assert gather([(tmp_path, "", tmp_path)], max_files=2).n_left_out == 1


def test_what_is_left_out_fits_on_a_line(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number:03}\n\x1b").symlink_to("nothing")
    found = gather([(tmp_path, "", tmp_path)])
    assert (found.n_left_out, len(found.left_out)) == (200, 100)
    assert found.describe_left_out(2) == (
        "000?? (a link to nothing), 001?? (a link to nothing) and 198 more"
    )
    assert gather([]).describe_left_out() == ""


def test_what_cannot_be_looked_at_is_left_out(tmp_path: Path) -> None:
    found = gather([(tmp_path / "gone", "gone", tmp_path), (Path("a\0b"), "nul", tmp_path)])
    assert [left.name for left in found.left_out] == ["gone", "nul"]


def test_a_file_is_copied_with_the_size_it_had_at_the_look(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("grown meanwhile")
    source.chmod(0o640)
    copy_file(source, target, 5)
    assert target.read_text() == "grown"
    assert target.stat().st_mode == source.stat().st_mode
    assert target.stat().st_mtime_ns == source.stat().st_mtime_ns
    source.unlink()
    os.mkfifo(source)
    with pytest.raises(OSError, match="no regular file"):
        copy_file(source, tmp_path / "c", 5)
    assert not (tmp_path / "c").exists()
