"""What a wheel has beside the package: the flows and the examples, which lie beside `src` here."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
LEFT_OUT = shutil.ignore_patterns("__pycache__", "Dockerfile", ".studyflow")


class BuildWithFlowsAndExamples(build_py):
    """Builds the package; an editable install finds flows and examples where they lie."""

    def run(self) -> None:
        """Build the package, then copy what lies beside it."""
        super().run()
        if self.editable_mode:
            return
        shipped = Path(self.build_lib) / "studyflow" / "shipped"
        shutil.rmtree(shipped, ignore_errors=True)  # of an earlier build
        shutil.copytree(ROOT / "flows", shipped / "flows", ignore=LEFT_OUT)
        for study in sorted((ROOT / "images").glob("*/study.yaml")):
            name = study.parent.name
            shutil.copytree(study.parent, shipped / "examples" / name, ignore=LEFT_OUT)


setup(cmdclass={"build_py": BuildWithFlowsAndExamples})
