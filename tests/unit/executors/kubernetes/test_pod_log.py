"""What a container wrote, told from what the kubelet says about its log."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studyflow.executors.kubernetes.pod_log import HELD_BYTES, written

STAMP = b"2026-11-30T09:26:01.123456789Z "
LINES = st.binary(max_size=30).map(lambda line: line.replace(b"\n", b""))


def plain(*pieces: bytes) -> bytes:
    return b"".join(written(pieces))


def stamped(text: bytes) -> bytes:
    return b"".join(STAMP + line + b"\n" for line in text.split(b"\n"))


@pytest.mark.parametrize(
    "stamp",
    [
        STAMP,
        b"2026-11-30T09:26:01Z ",
        b"2026-11-30T09:26:01.1+05:30 ",
        b"2026-11-30T09:26:01.123456789-11:00 ",
    ],
)
def test_timestamps_are_taken_off(stamp: bytes) -> None:
    assert plain(stamp + b"one\r\n" + stamp + b"\n" + stamp + b"two") == b"one\r\n\ntwo"


@pytest.mark.parametrize(
    "excuse",
    [
        b"unable to retrieve container logs for containerd://4f5b",
        b'failed to try resolving symlinks in path "/var/log/pods/x/0.log": no such file\n',
        b"\n\n",
        b"<html>\n<body>502 Bad Gateway</body>\n</html>\n",
    ],
)
def test_lines_without_a_timestamp_are_not_the_containers(excuse: bytes) -> None:
    assert plain(excuse) == b""
    assert plain(STAMP + b"one\n" + excuse) == b"one\n"


def test_an_incomplete_timestamp_at_the_end_is_left_out() -> None:
    assert plain(STAMP + b"one\n" + STAMP[:12]) == b"one\n"


def test_a_timestamp_that_the_script_wrote_itself_stays() -> None:
    assert plain(STAMP + b"saved at " + STAMP + b"\n") == b"saved at " + STAMP + b"\n"
    assert plain(STAMP + STAMP + b"\n") == STAMP + b"\n"


@pytest.mark.parametrize("fragment_bytes", [8192, 16384])
def test_timestamps_between_the_fragments_of_a_long_line_are_taken_off(fragment_bytes: int) -> None:
    line = bytes(range(48, 123)) * 4_000
    fragments = [line[i : i + fragment_bytes] for i in range(0, len(line), fragment_bytes)]
    text = b"".join(STAMP + fragment for fragment in fragments) + b"\n"
    assert plain(text) == line + b"\n"
    assert plain(*(text[i : i + 1000] for i in range(0, len(text), 1000))) == line + b"\n"


def test_a_long_line_arrives_before_its_end_does() -> None:
    pieces = iter([STAMP + b"x" * 2 * HELD_BYTES, b"\n"])
    assert len(next(written(pieces))) > HELD_BYTES
    assert next(pieces) == b"\n"


@given(lines=st.lists(LINES, min_size=1, max_size=6), cuts=st.sets(st.integers(0, 300)))
def test_wherever_a_log_is_cut_the_text_is_the_same(lines: list[bytes], cuts: set[int]) -> None:
    text = b"\n".join(lines)
    log = stamped(text)
    ends = [0, *sorted(cut for cut in cuts if cut < len(log)), len(log)]
    assert plain(*(log[a:b] for a, b in pairwise(ends))) == text + b"\n"
