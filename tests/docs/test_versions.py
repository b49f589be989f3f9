"""One version everywhere: in the package, the images' tags and the change log."""

from __future__ import annotations

import re
import tomllib

from tests.docs.pages import ROOT

from studyflow import __version__

TAGGED = ("Makefile", "Dockerfile", "k8s", "images", "docs/kubernetes.md", "tests/e2e/images.py")


def test_the_package_says_the_version_of_its_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["version"] == __version__


def test_every_image_has_the_tag_of_this_version() -> None:
    tag = re.compile(
        r"studyflow/(?:[\w-]+|\{[\w,-]+\}):(\d+\.\d+\.\d+)|newTag: (\d+\.\d+\.\d+)"
        r"|TAG \?= (\d\S*)|TEST_TAG\", \"(\d+\.\d+\.\d+)"
    )
    found: dict[str, set[str]] = {}
    for name in TAGGED:
        top = ROOT / name
        for path in [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.is_file()):
            if path.suffix in ("", ".md", ".yaml", ".py"):
                groups = tag.findall(path.read_text())
                if groups:
                    found[str(path.relative_to(ROOT))] = {"".join(group) for group in groups}
    assert len(found) > 20
    assert {name: tags for name, tags in found.items() if tags != {__version__}} == {}


def test_the_change_log_has_this_version_below_what_is_unreleased() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(__version__)} \(\d{{4}}-\d\d-\d\d\)", headings[1])
