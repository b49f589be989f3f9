"""Strategic merge patches, as the API server applies them to pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from studyflow.spec.pods.looking import field_of

_MERGE_KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists whose entries are merged by a key, as the API's `patchMergeKey` says for pods. Other lists,
such as `command` or `tolerations`, are replaced as a whole."""


def strategic_merge(base: Any, patch: Any, name: str = "") -> Any:
    """Return `base` changed by a strategic merge patch, as `kubectl patch` would for a pod.

    Mappings are merged, `null` removes a key, `$patch: delete` removes an entry of a keyed list and
    `$patch: replace` puts the patch in the place of a mapping. Neither argument is changed.
    """
    if isinstance(patch, Mapping):
        changes = {key: value for key, value in patch.items() if key != "$patch"}
        keeps = isinstance(base, Mapping) and patch.get("$patch") != "replace"
        merged = dict(base) if keeps else {}
        for key, value in changes.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = strategic_merge(merged.get(key), value, key)
        return merged
    if isinstance(patch, list | tuple) and name in _MERGE_KEYS:
        return _merge_entries(base if isinstance(base, list) else [], patch, _MERGE_KEYS[name])
    return patch


def _merge_entries(base: list[Any], patch: Sequence[Any], merge_key: str) -> list[Any]:
    entries = list(base)
    for change in patch:
        own = field_of(change, merge_key)
        at = next((i for i, entry in enumerate(entries) if own == field_of(entry, merge_key)), None)
        if own is None:
            entries.append(change)  # of no form that the API takes; it says so better than we could
        elif change.get("$patch") == "delete":
            if at is not None:
                del entries[at]
        elif at is None:
            entries.append(strategic_merge(None, change))
        else:
            entries[at] = strategic_merge(entries[at], change)
    return entries
