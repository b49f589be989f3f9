"""Which databases have to prove who they are."""

from __future__ import annotations

import pytest

from studyflow.storage import unverified_host


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgresql://ann:secret@db.example/studies", "db.example"),
        ("postgresql+psycopg://ann:s%40crt@db.example:5432/studies", "db.example"),
        ("postgresql+asyncpg://ann@db.example/prefect?ssl=require", "db.example"),
        ("postgresql://ann@db.example/studies?sslmode=require", "db.example"),
        ("postgresql://ann@db.example/studies?sslmode=verify-ca", "db.example"),
        ("postgresql://ann@10.0.0.7/studies", "10.0.0.7"),
        ("postgresql://ann@[2001:db8::1]:5432/studies", "2001:db8::1"),
        ("postgresql://ann@localhost,db.example:5432/studies", "db.example"),
        ("postgresql:///studies?host=db.example", "db.example"),
        ("postgresql://ann@db.example/studies?sslmode=verify-full", None),
        ("postgresql+asyncpg://ann@db.example/prefect?ssl=verify-full", None),
        ("postgresql://ann@localhost:5432/studies", None),
        ("postgresql://ann@127.0.0.1/studies", None),
        ("postgresql://ann@[::1]/studies", None),
        ("postgresql:///studies", None),
        ("postgresql:///studies?host=/var/run/postgresql", None),
        ("postgresql+psycopg://optuna:secret@postgres:5432/optuna", None),
        ("postgresql://optuna@postgres.studyflow.svc.cluster.local/optuna", None),
        ("journal:////home/me/studies.journal", None),
        ("mysql://ann@db.example/studies", None),
        ("", None),
    ],
)
def test_a_database_elsewhere_has_to_prove_who_it_is(url: str, host: str | None) -> None:
    assert unverified_host(url, {}) == host


def test_the_environment_may_ask_for_proof() -> None:
    url = "postgresql://ann@db.example/studies"

    assert unverified_host(url, {"PGSSLMODE": "verify-full"}) is None
    assert unverified_host(f"{url}?sslmode=prefer", {"PGSSLMODE": "verify-full"}) == "db.example"
