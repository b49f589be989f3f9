"""The reference is what the code says of itself."""

from __future__ import annotations

import re

from scripts.write_reference import reference
from tests.docs.pages import ROOT

FOLDER = ROOT / "docs" / "reference"


def test_the_pages_are_those_of_the_code() -> None:
    there = {path.name: path.read_text() for path in FOLDER.iterdir()}
    made = reference()
    outdated = sorted(name for name in there.keys() | made if there.get(name) != made.get(name))
    assert outdated == [], "run `make reference`"


def test_every_public_name_of_sdk_sampler_and_testing_kits_is_there() -> None:
    pages = "".join(path.read_text() for path in FOLDER.iterdir())
    lines = (ROOT / "tests/golden/public-names.txt").read_text().splitlines()
    shown = re.compile(r"studyflow\.(sdk|samplers\.explanation|testing)\S* ([A-Za-z_]+)(\(|$)")
    names = {found[2] for line in lines if (found := shown.match(line))}
    classes = {name for name in names if not name.isupper()} - {"Params", "Result"}  # types
    assert len(classes) > 30
    assert sorted(name for name in classes if f"`{name}" not in pages) == []
