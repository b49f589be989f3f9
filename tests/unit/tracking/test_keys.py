from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from studyflow.tracking import keys


def test_a_name_that_mlflow_takes_stays_as_it_is() -> None:
    for name in ("loss", "学习率", "val/loss", "a-b_c.d: e"):
        assert keys.key_for(name) == name


def test_a_refused_name_stays_readable_and_gets_a_digest() -> None:
    assert keys.key_for("recall@5") == "recall_5-80191039"
    assert keys.key_for("a//b") == "a__b-7a9acf33"
    assert keys.key_for("../x") == "_x-" + keys.digest_of("../x")[:8]


def test_a_constraint_reads_like_one() -> None:
    assert keys.constraint_key("latency_ms <= 20") == "constraint/latency_ms le 20"
    assert keys.constraint_key("accuracy >= 0.9") == "constraint/accuracy ge 0.9"


def test_an_artifact_path_is_relative_and_safe_in_a_url() -> None:
    assert keys.artifact_path("plots/loss.svg") == "plots/loss.svg"
    assert keys.artifact_path("/etc/../passwd") == "etc/passwd"
    assert keys.artifact_path("..") == "_"
    odd = keys.artifact_path("best #1?.png")
    assert odd.startswith("best _1_-")
    assert odd.endswith(".png")
    assert len(keys.artifact_path("é" * 500 + ".txt").encode()) <= 255


@given(st.lists(st.text(min_size=1, max_size=600), min_size=2, max_size=2, unique=True))
def test_any_names_have_different_keys_that_mlflow_takes(names: list[str]) -> None:
    first, second = (keys.key_for(name) for name in names)
    assert first != second
    for key in (first, second):
        assert keys._is_accepted(key)
        assert len(key) <= keys.KEY_LIMIT_CHARS
        assert len(keys.constraint_key(key)) <= keys.KEY_LIMIT_CHARS
        assert keys.key_for(key) == key


@given(st.text())
def test_any_text_is_searched_by_a_word_without_quotes(text: str) -> None:
    assert keys.digest_of(text).isalnum()
