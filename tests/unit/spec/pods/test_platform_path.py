"""Where the platform's file is: a mount counts before any variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from studyflow.settings import Settings
from studyflow.spec.pods import platform_file, platform_path

NAMED = {"STUDYFLOW_PLATFORM": "/tmp/mine.yaml"}


def test_without_a_mount_a_variable_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform_file, "PLATFORM_MOUNT", tmp_path / "platform.yaml")

    assert platform_path({}) is None
    assert platform_path(NAMED) == Path("/tmp/mine.yaml")


@pytest.mark.fault("F87")
def test_what_is_mounted_counts_whatever_a_flow_run_s_variables_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = tmp_path / "platform.yaml"
    mounted.write_text("contact: the platform team\n")
    monkeypatch.setattr(platform_file, "PLATFORM_MOUNT", mounted)

    assert platform_path(NAMED) == platform_path({}) == mounted
    assert Settings.resolve(environment=NAMED).platform == mounted
