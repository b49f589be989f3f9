"""Rules for where variables and files of a pod come from: Secrets, ConfigMaps, its own fields."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from studyflow.spec.pods.walking import (
    Rule,
    Table,
    View,
    allowed_name,
    anything,
    flag,
    items,
    mapping,
    refuse,
    show,
    text,
    whole,
)
from studyflow.spec.problems import BrokenRule, Path

SECRET: Final = allowed_name("Secret", "secrets")
"""The name of a Secret that trials may use."""

CONFIG_MAP_KEY: Final = mapping({"name": text, "key": text, "optional": flag}, "a ConfigMap's key")

HARMLESS_FIELD: Final = (
    r"metadata\.(name|namespace|uid|labels|annotations|labels\['[^']+'\]|annotations\['[^']+'\])"
    r"|status\.podIPs?"
)
"""Pattern of the fields that a trial may learn of its pod; the admission policy has the same."""

_HARMLESS_FIELD: Final = re.compile(HARMLESS_FIELD)


def _field_path(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:  # noqa: ARG001
    if not isinstance(value, str) or _HARMLESS_FIELD.fullmatch(value) is None:
        yield refuse(
            path,
            "a trial must learn of its pod only name, namespace, uid, labels, annotations and "
            f"address, but this is {show(value)}",
            "write metadata.name, metadata.labels['...'] or status.podIP; MLflow shows the node",
        )


FIELD: Final = mapping({"fieldPath": _field_path, "apiVersion": text}, "a pod's field")
RESOURCE_FIELD: Final = mapping(
    {"resource": text, "containerName": text, "divisor": anything}, "a container's resource"
)


def path_within(hint: str) -> Rule:
    """Return the rule for a path that does not lead out of its volume."""

    def rule(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:  # noqa: ARG001
        if not isinstance(value, str) or value.startswith("/") or ".." in value.split("/"):
            message = f"must be a path within the volume, without '..', but it is {show(value)}"
            yield refuse(path, message, hint)

    return rule


_FILE_PATH: Final = path_within("name a file below the volume's top")
MODE: Final = whole(0, at_most=0o777)
KEYS: Final = items(mapping({"key": text, "path": _FILE_PATH, "mode": MODE}, "a file"))
"""Files of a ConfigMap's or Secret's keys."""
POD_FIELDS: Final = items(
    mapping(
        {"path": _FILE_PATH, "fieldRef": FIELD, "resourceFieldRef": RESOURCE_FIELD, "mode": MODE},
        "a file",
    )
)
"""Files of a pod's own fields."""


def one_source(table: Table, what: str) -> Rule:
    """Return the rule for a mapping that holds exactly one of some fields."""
    inner = mapping(table, what)

    def rule(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
        yield from inner(value, path, view)
        if isinstance(value, Mapping) and len(value) != 1:
            listed = ", ".join(map(str, value)) or "nothing"
            hint = f"name one of {', '.join(table)}"
            yield refuse(path, f"{what} must be one, but it is {listed}", hint)

    return rule
