"""What is taken out of a text, and what is left in it."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator

import pytest

from studyflow.redaction import LINE_LIMIT_CHARS, PIECE_BYTES, Redactor, secrets_of

pytestmark = pytest.mark.fault("F51")

KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0F\n\nMIIabc+/=\nxyz\n"
    "-----END RSA PRIVATE KEY-----"
)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJ_SM-eKKF2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "cannot open postgresql://me:s3cr@t@db:5432/x",
            "cannot open postgresql://me:***@db:5432/x",
        ),
        ("redis://:pw@host and http://a:b@c", "redis://:***@host and http://a:***@c"),
        ("host=db password=hunter2 user=me", "host=db password=*** user=me"),
        ("{'Authorization': 'Basic bWU6c2VjcmV0'}", "{'Authorization': 'Basic ***'}"),
        ("sent Bearer abcdefgh01234567", "sent Bearer ***"),
        ("AKIAIOSFODNN7EXAMPLE is not known", "*** is not known"),
        (f"ghp_{'a1B2' * 9}, github_pat_{'a1B2' * 9}", "***, ***"),
        (f"hf_{'aB' * 17} glpat-{'x1' * 10}", "*** ***"),
        (f"token: {JWT}", "token: ***"),
        (f"'MLFLOW_TRACKING_TOKEN': 'sfrt1.{'eyJz' * 9}.a-b_c'", "'MLFLOW_TRACKING_TOKEN': '***'"),
        (f"read {KEY} well", "read *** well"),
        ("-----BEGIN PRIVATE KEY-----\nMIIabc\nxyz", "***"),
    ],
)
def test_what_shows_that_it_is_secret_is_taken_out(text: str, expected: str) -> None:
    assert Redactor()(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "step 300: loss=0.123456789012 lr=1e-3",
        "commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12 of /data/run-1/checkpoint_12.pt",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "http://host:8080/a?mail=b@c and http://host:80",
        "bearer characteristics, a basic approach, the password was wrong",
        "PWD=/home/me TOKENIZERS_PARALLELISM=false",
        "ghp_short AKIA123 eyJhbGci hf_hub_download",
        "-----BEGIN CERTIFICATE-----\nMIIabc\n-----END CERTIFICATE-----",
        "c2NpZW5jZS9kYXRhL3NldA== 550e8400-e29b-41d4-a716-446655440000",
    ],
)
def test_what_any_log_holds_is_left_in(text: str) -> None:
    assert Redactor()(text) == text


def test_variables_are_secret_by_their_names_and_addresses_by_their_passwords() -> None:
    environment = {
        "HF_TOKEN": "tok-123",
        "STUDYFLOW_MLFLOW_TOKEN_KEY": "key-of-tokens",
        "wandb_api_key": "key-123",
        "AWS_SECRET_ACCESS_KEY": "/abc+def",
        "AWS_ACCESS_KEY_ID": "who-i-am",
        "GOOGLE_APPLICATION_CREDENTIALS": "/etc/gcp/key.json",
        "TOKENIZERS_PARALLELISM": "parallel",
        "USE_TOKEN": "true",
        "DB_PASSWORD": "postgres",
        "PIN_SECRET": "12345678",
        "DATA": "s3://me:f00lish@store",
    }
    found = secrets_of(environment, ["postgresql://me:pass%40word@db"])

    assert found == {"tok-123", "key-of-tokens", "key-123", "/abc+def", "f00lish", "pass%40word"}


def test_a_secret_is_found_however_it_is_written() -> None:
    redact = Redactor({'p@ss/"wörd"', "first line\nsecond line"})

    assert redact('p@ss/"wörd"') == "***"
    assert redact("p%40ss%2F%22w%C3%B6rd%22") == "***"
    assert redact(r"p@ss/\"w\u00f6rd\"") == "***"
    assert redact("the second line only") == "the *** only"
    assert Redactor({"pass%40word"})("pass@word") == "***"


def test_what_was_taken_out_is_no_secret() -> None:
    assert Redactor().spans(Redactor()("s3://me:f00lish@store password=abc")) == []


def test_secrets_that_overlap_are_taken_out_together() -> None:
    assert Redactor({"abcdef", "defghi"})("xabcdefghi abcdefdef") == "x*** ***def"


def one_by_one(content: bytes) -> Iterator[bytes]:
    return (content[i : i + 1] for i in range(len(content)))


def test_a_stream_has_no_secret_wherever_it_is_cut() -> None:
    log = f"begin\nhunter22\npassword=abc\n{KEY}\nwörldly \udcff end".encode(
        errors="surrogateescape"
    )
    redact = Redactor({"hunter22", "wörldly"})

    expected = b"begin\n***\npassword=***\n***\n*** \xff end"
    for n in (1, 2, 3, 7, 1000):
        pieces = (log[i : i + n] for i in range(0, len(log), n))
        assert b"".join(redact.pieces(pieces)) == expected


def test_a_whole_line_is_passed_on_at_once() -> None:
    pieces = Redactor().pieces(iter([b"step 1\nste", b"p 2\r", b"password=", b"abc"]))

    assert list(pieces) == [b"step 1\n", b"step 2\r", b"password=***"]


def test_a_secret_in_a_line_without_end_is_found_where_the_line_is_cut() -> None:
    redact = Redactor({"hunter22"})
    line = b"x" * (2 * LINE_LIMIT_CHARS)
    for offset in range(8):
        log = line + b"y" * offset + b"hunter22password=abc&" + line
        pieces = (log[i : i + 1013] for i in range(0, len(log), 1013))
        assert b"".join(redact.pieces(pieces)) == line + b"y" * offset + b"***password=***&" + line


def test_memory_is_bounded_for_one_line_of_any_length_of_anything() -> None:
    redact = Redactor({"hunter22"})
    for text in (b"x", b"hunter22"):
        piece = (text * (PIECE_BYTES // len(text)))[:PIECE_BYTES]
        tracemalloc.start()
        size = sum(map(len, redact.pieces(piece for _ in range(12))))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 9 * PIECE_BYTES, text
        assert size <= 12 * PIECE_BYTES


def test_the_end_of_a_log_begins_with_no_half_of_a_secret() -> None:
    redact = Redactor({"hunter22"})
    log = b"x" * 100_000 + b"hunter22" + b"y" * 10

    for wanted in range(11, 18):
        end = b"".join(redact.tail(io.BytesIO(log), wanted))
        assert b"ter22" not in end
        assert end.endswith(b"y" * 5)
    assert b"".join(redact.tail(io.BytesIO(log), 10)) in (b"y" * 10, b"y" * 5)
    assert b"".join(redact.tail(io.BytesIO(b"short"), 10)) == b"short"
