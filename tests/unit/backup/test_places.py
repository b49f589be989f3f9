"""Which parts a backup has by the settings, and which archives of a folder stay."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from studyflow.backup.manifest import Kind, Part
from studyflow.backup.places import Place, find_places
from studyflow.backup.retention import archive_name, outdated
from studyflow.errors import BackupError
from studyflow.settings import Settings

HOME = Path("/home/me/.studyflow")


def settings(**variables: str) -> Settings:
    return Settings.resolve(home=HOME, environment=variables)


def test_everything_embedded_is_in_the_home_folder() -> None:
    places = find_places(settings())

    assert places.places == (
        Place(Part.MLFLOW, Kind.SQLITE, HOME / "mlflow.db"),
        Place(Part.ARTIFACTS, Kind.FOLDER, HOME / "mlartifacts"),
        Place(Part.FILES, Kind.FOLDER, HOME / "studies"),
        Place(Part.STUDIES, Kind.JOURNAL, HOME / "studies.journal"),
    )
    assert places.left_out == {}


def test_the_studies_come_last() -> None:
    # What is copied before them knows of no trial that they do not have.
    assert find_places(settings()).places[-1].part is Part.STUDIES
    assert list(Part)[-1] is Part.STUDIES


def test_a_cluster_has_databases_and_a_volume() -> None:
    places = find_places(
        settings(
            STUDYFLOW_STORAGE="postgresql+psycopg://optuna:secret@postgres:5432/optuna",
            MLFLOW_TRACKING_URI="http://mlflow:5000",
        ),
        mlflow_database="postgresql+psycopg://mlflow:secret@postgres:5432/mlflow",
        artifacts="/var/lib/mlflow/artifacts",
    )

    mlflow, artifacts, _, studies = places.places
    assert (mlflow.kind, mlflow.url) == (
        Kind.POSTGRESQL,
        "postgresql://mlflow:secret@postgres:5432/mlflow",
    )
    assert mlflow.shown == "postgresql://mlflow:***@postgres:5432/mlflow"
    assert artifacts.path == Path("/var/lib/mlflow/artifacts")
    assert studies.url == "postgresql://optuna:secret@postgres:5432/optuna"


def test_a_server_that_is_not_named_in_full_is_left_out_by_name() -> None:
    places = find_places(settings(MLFLOW_TRACKING_URI="http://me:secret@mlflow:5000"))

    assert [place.part for place in places.places] == [Part.FILES, Part.STUDIES]
    assert places.left_out == {
        Part.MLFLOW: "MLflow is a server, http://me:***@mlflow:5000: name its database by "
        "--mlflow-database",
        Part.ARTIFACTS: "MLflow's server keeps them: name its folder by --artifacts",
    }


def test_an_object_store_is_left_out() -> None:
    places = find_places(
        settings(MLFLOW_TRACKING_URI="http://mlflow:5000"), artifacts="s3://bucket/artifacts"
    )

    assert places.left_out[Part.ARTIFACTS] == "the store s3:// is backed up by itself"


def test_a_folder_is_taken_as_it_is_written() -> None:
    home = Path("/data/team#1/.studyflow")

    places = find_places(Settings.resolve(home=home, environment={}))

    artifacts = places.place(Part.ARTIFACTS)
    assert artifacts is not None
    assert artifacts.path == home / "mlartifacts"


def test_artifacts_lie_beside_an_embedded_database() -> None:
    places = find_places(settings(MLFLOW_TRACKING_URI="sqlite:////data/mlflow.db"))

    artifacts = places.place(Part.ARTIFACTS)
    assert artifacts is not None
    assert artifacts.path == Path("/data/mlartifacts")


def test_a_storage_of_another_kind_has_tools_of_its_own() -> None:
    with pytest.raises(BackupError, match=r"mysql://me:\*\*\*@db/studies is neither") as caught:
        find_places(settings(STUDYFLOW_STORAGE="mysql://me:secret@db/studies"))
    assert "mysqldump" in str(caught.value)


def test_archives_are_named_by_the_time() -> None:
    assert (
        archive_name(datetime(2026, 11, 30, 16, 5, 9, tzinfo=UTC))
        == "studyflow-20261130T160509Z.tar.gz"
    )


@pytest.mark.parametrize(
    ("keep", "gone"),
    [
        (1, ["studyflow-20261128T000000Z.tar.gz", "studyflow-20261129T000000Z.tar.gz"]),
        (2, ["studyflow-20261128T000000Z.tar.gz"]),
        (3, []),
        (0, ["studyflow-20261128T000000Z.tar.gz", "studyflow-20261129T000000Z.tar.gz"]),
    ],
)
def test_the_newest_archives_stay_and_other_files_too(keep: int, gone: list[str]) -> None:
    names = [
        "studyflow-20261130T000000Z.tar.gz",
        "studyflow-20261128T000000Z.tar.gz",
        "before-the-upgrade.tar.gz",
        "studyflow-20261129T000000Z.tar.gz",
        "studyflow-2026.tar.gz",
    ]

    assert outdated(names, keep) == gone
