"""The token of an attempt: read again as it was made, and by nobody without the key."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studyflow.trial.run_token import RunToken, TokenFault, read_token

KEY = "0123456789abcdef0123456789abcdef"
DAY = 24 * 3600
TOKEN = RunToken.issued(
    study="demo", run_id="r" * 32, number=7, attempt=2, now=1000.9, timeout_seconds=3600
)


def test_a_token_lasts_for_the_time_limit_and_a_week_of_waiting() -> None:
    assert (TOKEN.issued_at, TOKEN.expires_at) == (1000, 1000 + 3600 + 7 * DAY)
    unlimited = RunToken.issued(
        study="demo", run_id="r", number=0, attempt=1, now=0, timeout_seconds=None
    )
    assert unlimited.expires_at == 187 * DAY


@given(
    st.builds(
        RunToken,
        study=st.text(),
        run_id=st.text(),
        number=st.integers(0),
        attempt=st.integers(1),
        issued_at=st.integers(0, 10**10),
        expires_at=st.integers(10**10, 10**11),
    )
)
def test_a_token_is_read_as_it_was_made(token: RunToken) -> None:
    text = token.signed(KEY)
    if len(text) <= 4096:
        assert read_token(text, KEY, 10**9) == token
    assert set(text) <= set(
        "sfrt1.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
    )


def test_a_token_ends_when_it_says() -> None:
    text = TOKEN.signed(KEY)
    assert read_token(text, KEY, TOKEN.expires_at - 1) == TOKEN
    assert read_token(text, KEY, TOKEN.expires_at) is TokenFault.EXPIRED


def test_another_key_reads_nothing() -> None:
    assert read_token(TOKEN.signed(KEY), KEY[::-1], 0) is TokenFault.FORGED


@given(st.integers(0, 10_000), st.characters(codec="ascii"))
def test_a_changed_token_is_none(at: int, char: str) -> None:
    text = TOKEN.signed(KEY)
    at %= len(text)
    changed = f"{text[:at]}{char}{text[at + 1 :]}"
    if changed != text:
        assert read_token(changed, KEY, 0) in (TokenFault.FORGED, TokenFault.MALFORMED)


def test_another_trials_words_under_this_signature_are_none() -> None:
    _, payload, signature = TOKEN.signed(KEY).split(".")
    fields = json.loads(base64.urlsafe_b64decode(payload + "=="))
    other = base64.urlsafe_b64encode(json.dumps({**fields, "run_id": "x"}).encode()).decode()
    assert read_token(f"sfrt1.{other.rstrip('=')}.{signature}", KEY, 0) is TokenFault.FORGED


@pytest.mark.parametrize(
    "text", ["", "sfrt1", "sfrt1..", "a.b.c", "sfrt1.e30.x", "sfrt2.a.b", "é.é.é"]
)
def test_what_is_no_token_is_none(text: str) -> None:
    assert read_token(text, KEY, 0) in (TokenFault.FORGED, TokenFault.MALFORMED)


def test_signed_nonsense_is_none() -> None:
    text = replace(TOKEN, number=True).signed(KEY)
    assert read_token(text, KEY, 0) is TokenFault.MALFORMED
