"""No secret survives, whatever surrounds it and wherever a log is cut."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studyflow.redaction import Redactor

pytestmark = pytest.mark.fault("F51")

quick = settings(derandomize=True, deadline=None, max_examples=200)

# No masks in them: what replaces one secret must not look like another.
secrets = st.sets(
    st.text(
        st.characters(exclude_characters="*", exclude_categories=["Cs", "Cc", "Z", "Nd"]),
        min_size=6,
        max_size=20,
    ),
    min_size=1,
    max_size=4,
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(
    string.ascii_letters + "-_=:/@. \n%", max_size=40
)


@given(secrets, st.lists(texts, max_size=4), st.data())
@quick
def test_no_secret_survives(hidden: set[str], around: list[str], data: st.DataObject) -> None:
    parts = [*around, *hidden, *hidden]
    text = "".join(data.draw(st.permutations(parts)))
    redacted = Redactor(hidden)(text)

    assert not [secret for secret in hidden if secret in redacted]


@given(secrets, st.lists(texts, max_size=4), st.integers(1, 30), st.data())
@quick
def test_a_stream_comes_out_as_the_whole(
    hidden: set[str], around: list[str], n: int, data: st.DataObject
) -> None:
    log = "".join(data.draw(st.permutations([*around, *hidden]))).encode()
    redact = Redactor(hidden)
    pieces = (log[i : i + n] for i in range(0, len(log), n))

    assert b"".join(redact.pieces(pieces)) == redact(log.decode()).encode()


@given(st.binary(max_size=200), st.integers(1, 30))
@quick
def test_what_holds_no_secret_comes_out_as_it_was(content: bytes, n: int) -> None:
    pieces = (content[i : i + n] for i in range(0, len(content), n))

    assert b"".join(Redactor().pieces(pieces)) == content
