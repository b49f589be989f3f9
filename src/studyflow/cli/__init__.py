"""The command `studyflow`."""

from studyflow.cli.main import main

__all__ = ["main"]
