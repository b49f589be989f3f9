"""The command `studyflow`."""

from studyflow.interrupt import leaving_at_once

# Its modules take seconds to import, and a person may think better of it meanwhile.
with leaving_at_once():
    from studyflow.cli.main import main

__all__ = ["main"]
