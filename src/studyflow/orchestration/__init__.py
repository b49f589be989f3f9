"""Studies under Prefect: what the flows in `flows/` are made of.

Prefect reads its settings when it is imported. Importing this package sets them, so a flow's file
imports from here before it imports Prefect.
"""

import sys

from studyflow.errors import describe_os_error
from studyflow.orchestration.environment import prepare_prefect
from studyflow.settings import Settings

try:
    prepare_prefect(Settings.resolve())
except OSError as _error:
    print(describe_os_error(_error), file=sys.stderr)  # noqa: T201 - Prefect cannot work here
    sys.exit(3)
