"""Seals: what an attempt or its runner wrote is told from what another process put in its place.

Attempts on one machine run as the same user, and each can write to the files of all others. So each
has a key of its own, which reaches its script in the `Trial` and nobody else, and what the script
says carries a seal: a keyed digest of its content. A document without it was written by another
process, or changed by one.

A script that writes a document without `studyflow.sdk` puts the key itself in the seal's place.

Standard library only: this module is part of every trial image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

try:  # what hashlib gives too, after it has loaded OpenSSL: every trial would pay for that
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

SECRET_BYTES: Final = 32
_KEY_BYTES: Final = 16
_SEAL_BYTES: Final = 8
"""Chance decides against 18 quintillion; nobody can try more than a few."""


def attempt_key(secret: str, number: int, attempt: int) -> str:
    """Return the key of one attempt.

    Args:
        secret: The study's on this machine, in hexadecimal.
        number: Number of the trial.
        attempt: Number of the attempt.
    """
    return _digest(secret, f"attempt {number}-{attempt}", _KEY_BYTES)


def seal_of(key: str, kind: str, text: str) -> str:
    """Return the seal of a text.

    Args:
        key: The attempt's.
        kind: What the text is: no seal of one kind is one of another.
        text: What is sealed.
    """
    return _digest(key, f"{kind}\0{text}", _SEAL_BYTES)


def is_seal(seal: object, key: str, kind: str, text: str) -> bool:
    """Return whether something is the seal of a text, or the key itself in its place."""
    return seal in (seal_of(key, kind, text), key)


def sealed(document: Mapping[str, Any], key: str, kind: str, more: str = "") -> dict[str, Any]:
    """Return a JSON document with its seal.

    Args:
        document: The document; NaN and infinities are none of its values.
        key: The attempt's.
        kind: What the document is.
        more: Text beside it that the seal covers too.
    """
    return {**document, "seal": seal_of(key, kind, _canonical(document) + more)}


def has_seal(document: object, key: str, kind: str, more: str = "") -> bool:
    """Return whether a JSON document, as it was read, is one that `sealed` made with this key."""
    if not isinstance(document, dict):
        return False
    content = {name: value for name, value in document.items() if name not in ("seal", "key")}
    try:
        text = _canonical(content) + more
    except (ValueError, RecursionError):  # 1e999 is read as infinity
        return False
    return document.get("key") == key or is_seal(document.get("seal"), key, kind, text)


def _canonical(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(key: str, text: str, size: int) -> str:
    encoded = text.encode(errors="surrogatepass")
    return blake2b(encoded, key=bytes.fromhex(key), digest_size=size).hexdigest()
