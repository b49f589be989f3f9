"""Digests of a model's files: what they notice, and how they say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from studyflow.tracking.model_digest import differences, digest_of, digests_in, listed

BEFORE = {"a": "1", "b/c": "2"}


def test_the_files_of_a_folder_are_named_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "model.pt").write_bytes(b"weights")
    (tmp_path / "empty").touch()
    found = digests_in(tmp_path)
    assert found == {
        "deep/model.pt": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
        "empty": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    assert digests_in(tmp_path / "empty") == {"empty": found["empty"]}
    assert digests_in(tmp_path / "none") == {}


def test_the_order_of_files_does_not_matter() -> None:
    assert digest_of(BEFORE) == digest_of(dict(reversed(BEFORE.items())))
    assert digest_of({"a": "1"}) != digest_of({"b": "1"}) != digest_of({})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (BEFORE, None),
        ({**BEFORE, "a": "9"}, "a was changed"),
        ({"a": "1"}, "b/c is gone"),
        ({**BEFORE, "d": "3"}, "d is new"),
        ({}, "a is gone, b/c is gone"),
        (
            {**BEFORE, **{f"x{i}": "1" for i in range(7)}},
            "x0 is new, x1 is new, x2 is new, x3 is new, x4 is new and 2 more",
        ),
    ],
)
def test_what_differs_is_said(found: dict[str, str], said: str | None) -> None:
    assert differences(digest_of(BEFORE), listed(BEFORE), found) == said


@pytest.mark.parametrize("listing", ["", "[]", "{", listed({"a": "9"}), '{"a": 1}'])
def test_a_list_that_is_missing_or_was_changed_too_hides_nothing(listing: str) -> None:
    said = differences(digest_of(BEFORE), listing, {"a": "9"})
    assert said == "its files have another digest"


def test_a_list_that_is_too_long_for_a_tag_is_left_out() -> None:
    assert listed({f"file-{i}": "0" * 64 for i in range(100)}) == ""
