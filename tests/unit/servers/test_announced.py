"""The addresses that `studyflow ui` leaves: read while it runs, and void when it has ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from studyflow.servers.announced import (
    announce,
    running_mlflow_pages,
    running_prefect_api,
    withdraw,
)
from studyflow.settings import Settings


def at(folder: Path) -> Settings:
    return Settings.resolve(home=folder, environment={})


def test_both_addresses_are_read_until_they_are_withdrawn(tmp_path: Path) -> None:
    settings = at(tmp_path / "new")
    announce(settings, os.getpid(), prefect_api="http://prefect/api", mlflow="http://mlflow")

    assert running_prefect_api(settings) == "http://prefect/api"
    assert running_mlflow_pages(settings) == "http://mlflow"
    assert running_prefect_api(at(tmp_path)) is None, "another home folder"

    withdraw(settings)
    withdraw(settings)
    assert running_prefect_api(settings) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"pid": 0.5}',
        '{"pid": null, "api": "x"}',
        '{"pid": 999999999, "api": "x"}',
        '{"pid": 99999999999999999999, "api": "x"}',
    ],
)
def test_what_a_dead_server_left_is_ignored(text: str, tmp_path: Path) -> None:
    path = tmp_path / "prefect" / "server.json"
    path.parent.mkdir()
    path.write_text(text)

    assert running_prefect_api(at(tmp_path)) is None
    assert running_mlflow_pages(at(tmp_path)) is None
