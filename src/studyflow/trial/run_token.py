"""The token by which one attempt writes to its own MLflow run, and to nothing else.

Stateless: text that a runner signs and MLflow's server checks, both with one key. Whether the
attempt still lives is not in it: the server looks that up in the run (`tracking/mlflow/gate/`).

    sfrt1.PAYLOAD.SIGNATURE      both parts in base64url without padding
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import json
from dataclasses import asdict, dataclass
from typing import Final

PREFIX: Final = "sfrt1"
"""First part of every token; the digit is the version of what follows."""

MIN_KEY_CHARS: Final = 32
"""Shorter keys are refused: `k8s/new-secrets` makes one of 64 random letters and digits."""

TOKEN_LIMIT_CHARS: Final = 4096
"""Longer texts are not looked at."""

WAIT_ALLOWANCE_SECONDS: Final = 7 * 24 * 3600
"""Added to a trial's time limit: a token is made with its pod, which may wait for a GPU for days.
No protection rests on it; a token ends with its attempt, and this is the net below that."""

UNLIMITED_SECONDS: Final = 180 * 24 * 3600
"""How long the token of a trial without a time limit is good for."""

_INTEGER_FIELDS: Final = ("number", "attempt", "issued_at", "expires_at")


class TokenFault(enum.Enum):
    """Why a text is no valid token."""

    MALFORMED = "malformed"
    FORGED = "forged"
    """It was not signed with this key."""
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class RunToken:
    """What a token says: whose it is, and until when."""

    study: str
    """Name of the study."""
    run_id: str
    """MLflow run of the trial."""
    number: int
    """Number of the trial within its study."""
    attempt: int
    """The attempt that it was made for."""
    issued_at: int
    expires_at: int
    """Seconds since the epoch."""

    @classmethod
    def issued(
        cls,
        *,
        study: str,
        run_id: str,
        number: int,
        attempt: int,
        now: float,
        timeout_seconds: float | None,
    ) -> RunToken:
        """Return the token of an attempt that is about to be launched.

        Args:
            study: Name of the study.
            run_id: MLflow run of the trial.
            number: The trial.
            attempt: The attempt.
            now: Seconds since the epoch.
            timeout_seconds: The trial's time limit; `None` without one.
        """
        limit = UNLIMITED_SECONDS if timeout_seconds is None else timeout_seconds
        lasts = min(limit, UNLIMITED_SECONDS) + WAIT_ALLOWANCE_SECONDS
        return cls(study, run_id, number, attempt, int(now), int(now + lasts))

    def signed(self, key: str) -> str:
        """Return the token as text, which `read_token` reads with the same key."""
        payload = _encoded(json.dumps(asdict(self), separators=(",", ":")).encode())
        return f"{PREFIX}.{payload}.{_signature(payload, key)}"


def read_token(text: str, key: str, now: float) -> RunToken | TokenFault:
    """Return what a token says, or why it is none.

    Args:
        text: What a client sent.
        key: The key that it must be signed with.
        now: Seconds since the epoch.
    """
    parts = text.split(".")
    if len(text) > TOKEN_LIMIT_CHARS or len(parts) != 3 or parts[0] != PREFIX:
        return TokenFault.MALFORMED
    _, payload, signature = parts
    if not hmac.compare_digest(signature.encode(), _signature(payload, key).encode()):
        return TokenFault.FORGED
    try:
        fields = json.loads(_decoded(payload))
        token = RunToken(**fields)
    except (ValueError, TypeError, binascii.Error):
        return TokenFault.MALFORMED
    if not all(type(getattr(token, name)) is int for name in _INTEGER_FIELDS):
        return TokenFault.MALFORMED
    return token if now < token.expires_at else TokenFault.EXPIRED


def _signature(payload: str, key: str) -> str:
    signed = f"{PREFIX}.{payload}".encode(errors="replace")
    return _encoded(hmac.new(key.encode(), signed, hashlib.sha256).digest())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
