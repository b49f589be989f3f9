from __future__ import annotations

import json

import pytest
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


def test_a_few_names_are_one_tag_as_ever() -> None:
    assert keys.json_tags("studyflow.names", {"recall_5-80191039": "recall@5"}) == {
        "studyflow.names": '{"recall_5-80191039": "recall@5"}'
    }
    assert keys.json_tags("studyflow.objectives", ["loss", "süß"]) == {
        "studyflow.objectives": '["loss", "süß"]'
    }
    assert keys.json_tags("studyflow.objectives", []) == {"studyflow.objectives": "[]"}


@pytest.mark.parametrize("letter", ["a", "é", "学", "😀", '"', "\\"])
@pytest.mark.parametrize("length", [3, 200, 500])
def test_hundreds_of_names_survive_in_tags_that_are_json_each(letter: str, length: int) -> None:
    names = [f"{letter * length}@{number}" for number in range(300)]
    renamed = {keys.key_for(name): name for name in names}

    tags = keys.json_tags(keys.NAMES_TAG, renamed)

    assert len(tags) > 1
    assert all(len(value.encode()) <= keys.TAG_PIECE_BYTES for value in tags.values())
    assert all(json.loads(value) for value in tags.values())
    assert keys.names_in({**tags, "mlflow.user": "me"}) == renamed


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=1500), max_size=12))
def test_any_mapping_survives_as_tags(mapping: dict[str, str]) -> None:
    assert keys.names_in(keys.json_tags(keys.NAMES_TAG, mapping)) == mapping


@given(
    st.dictionaries(st.text(max_size=20), st.text(max_size=20), min_size=1, max_size=8),
    st.integers(min_value=0, max_value=300),
)
def test_of_a_tag_that_was_cut_off_what_is_whole_is_read(
    mapping: dict[str, str], length: int
) -> None:
    cut = json.dumps(mapping, ensure_ascii=False)[:length]
    found = keys.names_in({keys.NAMES_TAG: cut})
    assert found.items() <= mapping.items()


def test_a_cut_tag_loses_its_last_entry_alone() -> None:
    assert keys.names_in({keys.NAMES_TAG: '{"a": "x", "b": "y", "c": "z'}) == {"a": "x", "b": "y"}
    assert keys.names_in({keys.NAMES_TAG: "[1]"}) == {}
    assert keys.names_in({}) == {}


@given(st.lists(st.text(min_size=1, max_size=600), min_size=2, max_size=2, unique=True))
def test_any_names_have_different_keys_that_mlflow_takes(names: list[str]) -> None:
    first, second = (keys.key_for(name) for name in names)
    assert first != second
    for key in (first, second):
        assert len(key) <= keys.KEY_LIMIT_CHARS
        assert len(keys.constraint_key(key)) <= keys.KEY_LIMIT_CHARS
        assert keys.key_for(key) == key, "MLflow takes it as it is"


@given(st.text())
def test_any_text_is_searched_by_a_word_without_quotes(text: str) -> None:
    assert keys.digest_of(text).isalnum()
