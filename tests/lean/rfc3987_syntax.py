"""Stands before a package that processes of tests are to be without, as those of users are.

The check of a bill of materials needs it, in the process of that test. Wherever it is installed,
jsonschema imports it, and so does each process that imports Prefect; that takes a second.
"""

raise ImportError("hidden by tests/lean")
