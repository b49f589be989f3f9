"""What the page for users of other tuners says of their files and of ours."""

from __future__ import annotations

import re
from typing import Final

import yaml
from tests.docs.pages import ROOT, blocks

from studyflow.spec.katib import translate_experiment

PAGE: Final = ROOT / "docs" / "coming-from.md"


def test_the_experiment_of_the_page_becomes_the_study_file_beside_it() -> None:
    [theirs] = [text for text in blocks(PAGE, "text") if text.startswith("# experiment.yaml")]
    ours = [yaml.safe_load(text) for text in blocks(PAGE, "yaml")]

    found = translate_experiment(theirs)

    assert yaml.safe_load(found.spec.to_yaml()) in ours
    assert [one for one in found.changes if one.is_left_out] == []


def test_every_algorithm_of_the_table_has_the_sampler_that_stands_beside_it() -> None:
    [row] = [
        line
        for line in PAGE.read_text().splitlines()
        if line.startswith("| `bayesianoptimization`")
    ]
    theirs, ours = (re.findall(r"`([\w-]+)`", cell) for cell in row.strip("|").split("|"))
    [text] = [text for text in blocks(PAGE, "text") if text.startswith("# experiment.yaml")]
    ours.remove("multivariate")

    found = []
    for name in theirs:
        document = yaml.safe_load(text)
        document["spec"]["algorithm"] = {"algorithmName": name}
        document["spec"]["parameters"] = [document["spec"]["parameters"][1]]
        document["spec"]["maxTrialCount"] = 4
        found.append(translate_experiment(yaml.safe_dump(document)).spec.sampler.type)

    assert found == ours
