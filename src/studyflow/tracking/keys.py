"""MLflow's keys for a study's names of metrics, parameters and artifacts.

A study's names may hold anything printable; MLflow accepts word characters of any script and
`_-./: `. Runner and trials both take the keys from here, so that they use the same ones. Standard
library only, as trials need it.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Final

KEY_LIMIT_CHARS: Final = 250
"""MLflow's limit for the key of a metric, parameter or tag."""

NAMES_TAG: Final = "studyflow.names"
"""Tag of a run: the names behind keys that are not the name itself; see `json_tags`."""
TAG_PIECE_BYTES: Final = 5000
"""Longest tag that every database below MLflow keeps, whether it counts characters or bytes."""

_REFUSED: Final = re.compile(r"[^/\w.\- :]")
_UNSAFE_IN_PATH: Final = re.compile(r"""[#?%&;:*<>|"'\x00-\x1f\x7f]""")
_PATH_PART_LIMIT_CHARS: Final = 60
"""A file name has at most 255 bytes, and a character takes up to 4 of them."""
_DIGEST_CHARS: Final = 8
_COMPARISONS: Final = ((" <= ", " le "), (" >= ", " ge "), (" < ", " lt "), (" > ", " gt "))


def key_for(name: str, *, limit: int = KEY_LIMIT_CHARS) -> str:
    """Return `name` when MLflow accepts it as a key, else a readable key that no other name has.

    A changed name keeps its accepted characters and ends in a digest of the original; trackers keep
    the original beside it in a tag.
    """
    if _is_accepted(name) and len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    readable = _REFUSED.sub("_", name)
    if not _is_accepted(readable):
        # Slashes and dots that a file system would fold away ("a//b", "../x"): MLflow refuses them.
        readable = readable.replace("/", "_").strip(". ")
    return f"{readable[: limit - _DIGEST_CHARS - 1]}-{digest}"


def constraint_key(name: str) -> str:
    """Return the key of a constraint's violation, such as `constraint/latency_ms le 20`."""
    for symbol, word in _COMPARISONS:
        name = name.replace(symbol, word)
    return "constraint/" + key_for(name, limit=KEY_LIMIT_CHARS - len("constraint/"))


def artifact_path(path: str) -> str:
    """Return the path of a file within a run's artifacts: relative, and safe within a URL.

    MLflow's HTTP client does not quote paths, so `#` or `?` would silently cut a file's name.
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(_artifact_part(part) for part in parts) or "_"


def digest_of(text: str) -> str:
    """Return a digest of `text`, for search filters.

    MLflow's filter language has no escape for quotes, so runs are searched by digests.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def json_tags(key: str, value: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """Return a mapping or list as tags, each of them JSON: `key`, `key.1`, `key.2` and so on.

    A tag has a limit, and JSON that is cut off is no JSON any more. An entry that is too long for
    one tag is left out.
    """
    entries = value.items() if isinstance(value, Mapping) else value
    pieces: list[list[str]] = [[]]
    size = 2  # the brackets
    for entry in entries:
        text = _json(entry) if isinstance(entry, str) else ": ".join(map(_json, entry))
        n_bytes = len(text.encode("utf-8", "surrogatepass")) + 2  # comma and space
        if n_bytes + 2 > TAG_PIECE_BYTES:
            continue
        if size + n_bytes > TAG_PIECE_BYTES:
            pieces.append([])
            size = 2
        pieces[-1].append(text)
        size += n_bytes
    first, last = "{}" if isinstance(value, Mapping) else "[]"
    return {
        _piece_key(key, number): f"{first}{', '.join(piece)}{last}"
        for number, piece in enumerate(pieces)
    }


def names_in(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the names behind a run's keys, from its tags.

    An earlier version of studyflow cut long tags off; of these, the whole entries are read.
    """
    names: dict[str, str] = {}
    number = 0
    while (text := tags.get(_piece_key(NAMES_TAG, number))) is not None:
        names |= _whole_entries(text)
        number += 1
    return names


def _piece_key(key: str, number: int) -> str:
    return key if number == 0 else f"{key}.{number}"


def _whole_entries(text: str) -> dict[str, str]:
    whole = text
    while whole:
        try:
            found = json.loads(whole)
        except ValueError:
            end = whole.rfind('", "', 0, -1)
            whole = "" if end < 0 else whole[: end + 1] + "}"
        else:
            return found if isinstance(found, dict) else {}
    return {}


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _artifact_part(part: str) -> str:
    safe = _UNSAFE_IN_PATH.sub("_", part)
    if safe == part and len(part) <= _PATH_PART_LIMIT_CHARS:
        return part
    digest = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    stem, suffix = posixpath.splitext(safe)
    suffix = suffix[:20]
    return f"{stem[: _PATH_PART_LIMIT_CHARS - len(suffix) - _DIGEST_CHARS - 1]}-{digest}{suffix}"


def _is_accepted(name: str) -> bool:
    if not name or _REFUSED.search(name) or name != name.strip():
        return False
    folded = posixpath.normpath(name)
    return folded == name and folded != "." and not folded.startswith(("..", "/"))
