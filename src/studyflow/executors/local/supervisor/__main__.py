"""Starts the supervisor: `python -I -S` knows neither this folder nor the package around it."""

import os
import sys

if __name__ == "__main__":
    os.closerange(3, 65536)  # whatever the runner's libraries leaked: sockets, database files
    # Last, so that no module of ours hides one of the standard library.
    sys.path.append(__file__.rpartition("/supervisor/")[0])
    __package__ = "supervisor"

    from .supervision import supervise

    supervise(sys.argv[1:])
    os._exit(0)  # nothing to clean up; tearing the interpreter down takes 3 ms
