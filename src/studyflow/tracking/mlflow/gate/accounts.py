"""Who logs in at MLflow: people by user and password, runners by an account of their own.

MLflow asks `authenticate` about each request. Besides accounts it knows the gate of this process,
which passes on what trials may do under the runner's name.
"""

from __future__ import annotations

import hmac
import os
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from studyflow.errors import TrackingError
from studyflow.settings import TOKEN_KEY_VARIABLE
from studyflow.trial.run_token import MIN_KEY_CHARS

RUNNER_USER_VARIABLE: Final = "STUDYFLOW_MLFLOW_RUNNER_USERNAME"
RUNNER_PASSWORD_VARIABLE: Final = "STUDYFLOW_MLFLOW_RUNNER_PASSWORD"  # noqa: S105 - a name
ADMIN_PASSWORD_VARIABLE: Final = "MLFLOW_AUTH_ADMIN_PASSWORD"  # noqa: S105 - a name
"""MLflow's own variable."""

MIN_PASSWORD_CHARS: Final = 12

IDENTITY: Final = f"StudyflowGate {secrets.token_urlsafe(32)}"
"""`Authorization` of what the gate passes on: made anew with each process, and told to nobody."""

_MANAGED: Final = ("experiment", "registered_model")
"""What runners create, restore and delete."""


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What the server needs to know besides MLflow's own settings."""

    runner: str
    """User name of runners."""
    runner_password: str = field(repr=False)
    key: str = field(repr=False)
    """The key that runners sign tokens with."""

    @classmethod
    def from_environment(cls, environment: dict[str, str] | None = None) -> GateSettings:
        """Return the settings that variables hold.

        Raises:
            TrackingError: One is missing, or too short to protect anything. All are named at once.
        """
        env = dict(os.environ) if environment is None else environment
        wanted = (
            (RUNNER_USER_VARIABLE, 1),
            (RUNNER_PASSWORD_VARIABLE, MIN_PASSWORD_CHARS),
            (ADMIN_PASSWORD_VARIABLE, MIN_PASSWORD_CHARS),
            (TOKEN_KEY_VARIABLE, MIN_KEY_CHARS),
        )
        problems = [
            f"{name} must have at least {least} characters, but has {len(env.get(name, ''))}"
            for name, least in wanted
            if len(env.get(name, "")) < least
        ]
        if problems:
            raise TrackingError(
                f"MLflow's login is not set up: {'; '.join(problems)}.",
                hint="k8s/new-secrets makes all of them.",
            )
        return cls(
            env[RUNNER_USER_VARIABLE], env[RUNNER_PASSWORD_VARIABLE], env[TOKEN_KEY_VARIABLE]
        )


def authenticate() -> Any:
    """Return whose request MLflow is about to answer, or the answer of who has to log in.

    This is the `authorization_function` of MLflow's configuration.
    """
    from flask import request
    from mlflow.server.auth import authenticate_request_basic_auth, make_basic_auth_response
    from werkzeug.datastructures import Authorization

    said = request.headers.get("Authorization", "").encode(errors="replace")
    if hmac.compare_digest(said, IDENTITY.encode()):
        return Authorization("basic", {"username": os.environ[RUNNER_USER_VARIABLE]})
    login = request.authorization
    if login is not None and (login.username is None or login.password is None):
        return make_basic_auth_response()  # MLflow's own function fails at a login of another kind
    return authenticate_request_basic_auth()


def ensure_runner(settings: GateSettings) -> None:
    """See to it that runners can log in and manage all experiments and models.

    A new password in the settings replaces the stored one.
    """
    from mlflow.server.auth import store

    name, password = settings.runner, settings.runner_password
    if not store.has_user(name):
        store.create_user(name, password)
    elif not store.authenticate_user(name, password):
        store.update_user(name, password=password)
    for kind in _MANAGED:
        store.grant_user_permission(name, kind, "*", "MANAGE")
