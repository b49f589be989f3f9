"""Makes MLflow's server with a login and the gate: `mlflow server --app-name studyflow`."""

from __future__ import annotations

import configparser
import os
import tempfile
from pathlib import Path
from typing import Any, Final

from studyflow.errors import TrackingError
from studyflow.tracking.mlflow.gate.accounts import IDENTITY, GateSettings, ensure_runner
from studyflow.tracking.mlflow.gate.asgi import Gate
from studyflow.tracking.mlflow.gate.store import ServerLookup

CONFIG_VARIABLE: Final = "MLFLOW_AUTH_CONFIG_PATH"

DEFAULTS: Final = {
    # People look; who shall change something gets the right to from the admin.
    "default_permission": "READ",
    "admin_username": "admin",
    # A check of a password takes 60 ms, and a request makes several.
    "auth_cache_ttl_seconds": "60",
}
"""Of MLflow's login, where its configuration file says nothing else."""


def create_app() -> Any:
    """Return the application that uvicorn serves.

    Raises:
        TrackingError: A setting is missing, or the server is not uvicorn.
    """
    settings = GateSettings.from_environment()
    if os.environ.get("_MLFLOW_SGI_NAME") != "uvicorn":
        raise TrackingError(
            "The app `studyflow` runs under uvicorn only, MLflow's default server.",
            hint="leave out --gunicorn-opts and --waitress-opts.",
        )
    config = write_config(os.environ)
    os.environ[CONFIG_VARIABLE] = str(config)
    # A route that MLflow has no rule for is refused to people, too.
    os.environ.setdefault("MLFLOW_BASIC_AUTH_FAIL_CLOSED", "true")
    from mlflow.server import auth  # reads the file, once
    from mlflow.server.handlers import STATIC_PREFIX_ENV_VAR

    config.unlink()  # the database's password is in it
    inner = auth.create_app()
    ensure_runner(settings)
    return Gate(
        inner,
        key=settings.key,
        lookup=ServerLookup(),
        identity=IDENTITY,
        prefix=os.environ.get(STATIC_PREFIX_ENV_VAR, ""),
    )


def write_config(environment: Any) -> Path:
    """Return a new configuration file of MLflow's login, which this user alone can read.

    It has what the operator's own file says (MLFLOW_AUTH_CONFIG_PATH), the defaults above, the
    database of the runs, and our function that knows the gate.
    """
    from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR

    # MLflow reads the file with interpolation, so a percent sign is written twice, and kept so.
    config = configparser.ConfigParser(interpolation=None)
    database = environment[BACKEND_STORE_URI_ENV_VAR].replace("%", "%%")
    config["mlflow"] = {**DEFAULTS, "database_uri": database}
    if given := environment.get(CONFIG_VARIABLE):
        config.read(given)
    config["mlflow"]["authorization_function"] = (
        "studyflow.tracking.mlflow.gate.accounts:authenticate"
    )
    handle, path = tempfile.mkstemp(prefix="studyflow-mlflow-auth-", suffix=".ini")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        config.write(file)
    return Path(path)
