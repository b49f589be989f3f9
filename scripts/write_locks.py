"""Writes `locks/`: what each image installs, by version and by the digest of its file.

    python scripts/write_locks.py            as `make lock` does; asks pip, and downloads little
    python scripts/write_locks.py --base-image IMAGE@sha256:...

The versions are those of `constraints.txt`, and the files those that pip would install here. So it
is run where the images are built for: Linux on x86-64, with the images' version of Python. No
address of an index stands in a lock; the builder's own pip settings say where files come from.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
LOCKS: Final = ROOT / "locks"
CONSTRAINTS: Final = ROOT / "constraints.txt"
BASE_IMAGE: Final = LOCKS / "base-image.txt"

_DIGEST: Final = re.compile(r"[\w./:-]+@sha256:[0-9a-f]{64}")
_ARGUMENT: Final = re.compile(r"^ARG PYTHON_IMAGE=.*$", re.MULTILINE)


@dataclass(frozen=True)
class Lock:
    """One file of locks."""

    what: str
    requirements: tuple[str, ...]
    leaves_out: str = ""
    """The lock whose packages do not stand here; it is installed beside this one."""


def dockerfiles() -> list[Path]:
    """Return all Dockerfiles of the repository."""
    return [ROOT / "Dockerfile", *sorted(ROOT.glob("images/*/Dockerfile"))]


def declared() -> Mapping[str, Lock]:
    """Return what is locked, by the name of the file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    base: list[str] = project["dependencies"]
    dev = set(extras["dev"])
    named = [*base, *(r for rs in extras.values() for r in rs)]
    orchestrator = [r for r in named if r not in dev and not r.startswith("studyflow")]
    torch = version_of("torch")
    return {
        "torch": Lock("torch as on the default index, for CUDA", (f"torch==={torch}", "numpy")),
        "torch-cpu": Lock("torch without a GPU", (f"torch=={torch}+cpu", "numpy")),
        "trial": Lock("what studyflow needs in a trial", tuple(base)),
        "weights": Lock(
            "what images/weights needs beside torch",
            ("scipy", "cma", "pyswarms", *base),
            leaves_out="torch-cpu",
        ),
        "orchestrator": Lock(
            "the orchestrator, but for torch and what comes with it",
            tuple(orchestrator),
            leaves_out="torch-cpu",
        ),
        "tools": Lock(
            "what builds the wheel and describes an image; in none of them",
            ("setuptools", "cyclonedx-bom"),
        ),
    }


def version_of(name: str) -> str:
    """Return the version of a package by `constraints.txt`."""
    return versions(CONSTRAINTS.read_text())[normalized(name)]


def versions(text: str) -> dict[str, str]:
    """Return the versions in constraints or a lock, by normalised name."""
    return {
        normalized(match[1]): match[2]
        for match in re.finditer(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    }


def normalized(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lines_of(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines of a lock, by normalised name, from pip's report.

    Raises:
        ValueError: pip would build a package from its source.
    """
    lines = {}
    for item in report["install"]:
        metadata, download = item["metadata"], item["download_info"]
        name, version = normalized(metadata["name"]), metadata["version"]
        if not download["url"].endswith(".whl"):
            raise ValueError(f"{name} {version} has no wheel for this platform")
        digest = download["archive_info"]["hashes"]["sha256"]
        lines[name] = f"{name}=={version} --hash=sha256:{digest}"
    return lines


def resolve(requirements: Sequence[str], constraints: Iterable[str]) -> dict[str, str]:
    """Return the lines of what pip would install for some requirements.

    Raises:
        subprocess.CalledProcessError: pip cannot resolve them.
    """
    with tempfile.TemporaryDirectory() as folder:
        report, pins = Path(folder) / "report.json", Path(folder) / "constraints.txt"
        pins.write_text("\n".join(constraints) + "\n")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
        command += ["--constraint", str(pins), "--report", str(report), *requirements]
        subprocess.run(command, check=True)
        return lines_of(json.loads(report.read_text()))


def write_locks() -> None:
    """Write all locks anew."""
    pins = CONSTRAINTS.read_text().splitlines()
    found: dict[str, dict[str, str]] = {}
    for name, lock in declared().items():
        # `torch==2.x` allows 2.x+cpu as well, and `===` allows nothing else.
        mine = [pin for pin in pins if not (pin.startswith("torch==") and name.startswith("torch"))]
        found[name] = resolve(lock.requirements, mine)
        beside = found.get(lock.leaves_out, {})
        lines = [line for package, line in sorted(found[name].items()) if package not in beside]
        text = f"# {lock.what[0].upper()}{lock.what[1:]}. Written by `make lock`.\n"
        (LOCKS / f"{name}.txt").write_text(text + "".join(f"{line}\n" for line in lines))
        print(f"locks/{name}.txt: {len(lines)} packages")


def base_image() -> str:
    """Return the base of all images, by its digest."""
    return BASE_IMAGE.read_text().splitlines()[-1]


def write_base_image(image: str) -> None:
    """Have all Dockerfiles begin with another image.

    Raises:
        ValueError: It is not named by its digest.
    """
    if not _DIGEST.fullmatch(image):
        raise ValueError(f"{image} is not of the form NAME@sha256:DIGEST")
    head = BASE_IMAGE.read_text().splitlines()[:-1]
    BASE_IMAGE.write_text("\n".join([*head, image]) + "\n")
    for path in dockerfiles():
        path.write_text(_ARGUMENT.sub(f"ARG PYTHON_IMAGE={image}", path.read_text()))


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base-image", help="Only write this image into all Dockerfiles.")
    image = parser.parse_args().base_image
    if image is None:
        write_locks()
    else:
        write_base_image(image)


if __name__ == "__main__":
    main()
