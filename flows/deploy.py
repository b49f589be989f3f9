"""Make a study a deployment of Prefect's, or serve it from here: what `studyflow deploy` starts.

    python flows/deploy.py '{"study": "study.yaml", "cron": "0 3 * * *", ...}'

The argument is a `studyflow.deployments.deployment.Deployment` as JSON; the environment says which
server.
"""

from __future__ import annotations

if __name__ == "__main__":
    from studyflow.interrupt import leave_at_once

    leave_at_once()  # Prefect takes seconds to import

import sys
from collections.abc import Sequence
from pathlib import Path

from studyflow.cli import exits
from studyflow.deployments.deployment import Deployment
from studyflow.errors import StudyflowError
from studyflow.interrupt import Terminated, raise_on_sigterm
from studyflow.orchestration.deployments import deploy


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy what the argument says; return the exit code."""
    (line,) = sys.argv[1:] if arguments is None else arguments
    try:
        raise_on_sigterm()
        deploy(Deployment.from_json(line), flows=Path(__file__).parent.absolute())
    except StudyflowError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return exits.exit_code(error)
    except (KeyboardInterrupt, Terminated):
        print("Interrupted.", file=sys.stderr)  # noqa: T201
        return exits.INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
