"""Studies as they run, on pages of this machine: `studyflow ui`.

`studies` reads and steers them, `pages` says what a page shows, `server` answers requests, and
`elsewhere` finds a study's pages in MLflow and Prefect.
"""

from studyflow.live.server import LiveServer
from studyflow.live.studies import Studies

__all__ = ["LiveServer", "Studies"]
