"""MLflow's server with a login, and with a gate for trials.

app.py        makes the server: `mlflow server --app-name studyflow`
accounts.py   who logs in: people, runners, and the gate of this process
asgi.py       the gate: requests with a trial's token are judged before anything else sees them
calls.py      the table of calls that a token may make; what it does not name is refused
rules.py      for each call, what of it is passed on
holder.py     the attempt that holds a token, while it lives, and what is its own
requests.py   requests as MLflow's server reads them, written anew
store.py      facts from MLflow's own store

[Decision 15](docs/decisions/0015-a-gate-for-trials.md) says why.
"""

from studyflow.tracking.mlflow.gate.app import create_app

__all__ = ["create_app"]
