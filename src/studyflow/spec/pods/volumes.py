"""Rules for the volumes of a trial's pod: a few kinds, none of which reaches the node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from studyflow.spec.pods.ours import is_own_volume
from studyflow.spec.pods.sources import (
    KEYS,
    MODE,
    POD_FIELDS,
    SECRET,
    one_source,
)
from studyflow.spec.pods.walking import (
    Table,
    View,
    allowed_name,
    flag,
    items,
    mapping,
    named_items,
    one_of,
    part_name,
    quantity,
    refuse,
    refused,
    text,
)
from studyflow.spec.problems import BrokenRule, Path

CLAIM: Final = allowed_name("claim", "claims")
"""The name of a claim that trials may mount."""

_NAME: Final = part_name("a volume")

_TOKEN: Final = refused(
    "a trial's pod must not get a service account's token",
    "remove it; what a script may do with a key of its own stands in a Secret (secret_env)",
)

_PROJECTED: Final = mapping(
    {
        "sources": items(
            one_source(
                {
                    "configMap": mapping(
                        {"name": text, "items": KEYS, "optional": flag}, "a ConfigMap"
                    ),
                    "secret": mapping(
                        {"name": SECRET, "items": KEYS, "optional": flag}, "a Secret"
                    ),
                    "downwardAPI": mapping({"items": POD_FIELDS}, "a pod's fields"),
                    "serviceAccountToken": _TOKEN,
                    "podCertificate": _TOKEN,
                },
                "a source of files",
            )
        ),
        "defaultMode": MODE,
    },
    "a volume of several sources",
)

VOLUME_KINDS: Final[Table] = {
    "emptyDir": mapping(
        {"medium": one_of(("", "Memory")), "sizeLimit": quantity}, "an empty folder"
    ),
    "persistentVolumeClaim": mapping({"claimName": CLAIM, "readOnly": flag}, "a claim"),
    "configMap": mapping(
        {"name": text, "items": KEYS, "defaultMode": MODE, "optional": flag}, "a ConfigMap"
    ),
    "secret": mapping(
        {"secretName": SECRET, "items": KEYS, "defaultMode": MODE, "optional": flag}, "a Secret"
    ),
    "downwardAPI": mapping({"items": POD_FIELDS, "defaultMode": MODE}, "a pod's fields"),
    "projected": _PROJECTED,
}
"""The kinds of volumes that a trial's pod may have, each with the rule for its fields."""


def _kind_refused(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:  # noqa: ARG001
    yield refuse(
        path,
        f"a volume must be one of {', '.join(VOLUME_KINDS)}, but it is {str(path[-1])[:60]}",
        "mount a claim: what lies on the node, or behind a driver, is the platform's to offer",
        is_about_key=True,
    )


def _name(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    problems = list(_NAME(value, path, view))
    yield from problems
    if not problems and is_own_volume(value) and not view.is_finished:
        yield refuse(
            path,
            f"volumes that every trial's pod has must stay as they are, but {value!r} is one",
            "use another name; scratch, shared_memory, checkpoints and volumes set those",
        )


def _volume(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    if not isinstance(value, Mapping):
        yield from mapping(VOLUME_KINDS, "a volume")(value, path, view)
        return
    # A kind that Kubernetes adds later is as foreign as those of today.
    others = {
        key: _kind_refused
        for key in value
        if isinstance(key, str) and not key.startswith("$") and key not in ("name", *VOLUME_KINDS)
    }
    yield from mapping({"name": _name, **VOLUME_KINDS, **others}, "a volume")(value, path, view)
    kinds = [key for key in value if key in VOLUME_KINDS]
    if not others and len(kinds) != 1:
        yield refuse(
            path,
            f"a volume must have one kind, but it has {', '.join(kinds) or 'none'}",
            f"name one of {', '.join(VOLUME_KINDS)}",
        )


VOLUMES: Final = named_items(_volume)
"""The rule for a pod's volumes."""
