"""Which of the runner's variables a script inherits: what it needs, and none of the secrets.

A script, or a library in it, may print its environment, upload it, or put it into a crash report.
So what gives access to something stays with the runner, by three marks:

- **its name**: logins of the runner's own servers, credentials of clouds and forges, and names that
  say what they hold, such as `TEAM_TOKEN` or `DB_PASSWORD`;
- **its value**: an address with a password, or a token that shows by its shape what it is;
- **the study**: the variable that holds the address of its webhook.

All others are inherited: a script may need any of them, from PATH and CUDA_VISIBLE_DEVICES to one
that only its author knows. `trial.inherit_env` names those that are inherited all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from studyflow.redaction import Redactor, secrets_of

_OWN: Final = frozenset(
    {
        *("STUDYFLOW_STORAGE", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
        *("KUBECONFIG", "SSH_AUTH_SOCK", "GPG_AGENT_INFO"),
    }
)
"""Variables by which the runner, or whoever started it, gets access to something."""

_FAMILIES: Final = ("AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "GITLAB_")
"""How the variables of clouds and forges begin: a login is spread over several of them."""

_PLACES: Final = re.compile(
    r"_(REGION|PROJECT|CA_BUNDLE|CA_CERTS_FILE)$|_ENDPOINT_URL(_|$)", re.IGNORECASE
)
"""What such a family says beside its login."""

_ESSENTIAL: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "LANG", "TERM", "TMPDIR"),
        *("PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "STUDYFLOW_HOME"),
    }
)
"""Inherited even where a value is a secret's by chance: a user may be called like a password."""

_NAMES: Final = re.compile(
    r"SECRET"
    r"|(TOKEN|TOKEN_KEY|PASSWORDS?|PASSWD|PASSPHRASE|CREDENTIALS?|COOKIES?|JWT|BEARER|SSHPASS|WEBHOOK)$"
    r"|(^|_)(PASS|PAT|AUTH|DSN|SAS)$|_PWD$|HEADERS$|WEBHOOK_UR[IL]$|AUTH(_CONFIG|_STRING)?$"
    r"|CONNECTION_(STRING|UR[IL])$"
    r"|(API|ACCESS|PRIVATE|ENCRYPTION|SIGNING|ACCOUNT|MASTER|FERNET|AUTH|SERVICE|SHARED"
    r"|SUBSCRIPTION|STORAGE|LICENSE|DEPLOY|ADMIN|HMAC|SSH)_?KEYS?(_ID)?$",
    re.IGNORECASE,
)
"""Names that say what they hold. Anchored at their end: TOKENIZERS_PARALLELISM holds no token."""

_PLAIN: Final = re.compile(r"\s*(\d{0,5}|true|false|yes|no|on|off|none)\s*", re.IGNORECASE)
"""Values that are no secret whatever their name, such as that of MAX_TOKEN."""

_PROXY: Final = re.compile(r"[a-z]+_proxy", re.IGNORECASE)
_LOGIN: Final = re.compile(r"(://|^)[^/@\s]*@")

_find_tokens: Final = Redactor().spans
"""Finds secrets by their shape."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a script gets of its runner's variables."""

    variables: Mapping[str, str]
    left_out: tuple[str, ...]
    """Names of those that look like secrets, in order. A proxy's address is among them that lost
    its login and is inherited otherwise."""


def inherited(
    runner: Mapping[str, str], named: Collection[str] = (), withheld: Collection[str] = ()
) -> Inherited:
    """Return what a script inherits.

    Args:
        runner: The runner's variables.
        named: Names and patterns such as `WANDB_*`: what fits one is inherited as it is.
        withheld: Names that are not, unless `named` has them.
    """
    return _judge(tuple(runner.items()), tuple(named), tuple(withheld))


@lru_cache(maxsize=4)
def _judge(
    runner: tuple[tuple[str, str], ...], named: tuple[str, ...], withheld: tuple[str, ...]
) -> Inherited:
    """Return what a script inherits. Kept: every trial asks, and the variables rarely change."""
    secrets = secrets_of(dict(runner))
    variables: dict[str, str] = {}
    left_out: list[str] = []
    for name, value in runner:
        if is_named(name, named) or not (
            name in withheld or _is_secret_name(name, value) or _is_secret(name, value, secrets)
        ):
            variables[name] = value
            continue
        left_out.append(name)
        if _PROXY.fullmatch(name):
            # Without its address a script would wait for servers that no direct way leads to.
            variables[name] = _LOGIN.sub(r"\1", value, count=1)
    return Inherited(MappingProxyType(variables), tuple(sorted(left_out)))


def left_out(
    runner: Mapping[str, str],
    given: Collection[str],
    named: Collection[str] = (),
    withheld: Collection[str] = (),
) -> tuple[str, ...]:
    """Return which of the runner's variables scripts do not get, as they look like secrets.

    Args:
        runner: The runner's variables.
        given: Names of those that the study file sets itself.
        named: See `inherited`.
        withheld: See `inherited`.
    """
    found = inherited(runner, named, withheld).left_out
    return tuple(name for name in found if name not in given)


def is_named(name: str, patterns: Collection[str]) -> bool:
    """Return whether a variable is one of those that are named, as such or by a pattern."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_secret_name(name: str, value: str) -> bool:
    if name in _OWN:
        return True
    if name.upper().startswith(_FAMILIES):
        return not _PLACES.search(name)
    return _NAMES.search(name) is not None and not _PLAIN.fullmatch(value)


def _is_secret(name: str, value: str, secrets: Collection[str]) -> bool:
    return name not in _ESSENTIAL and (value in secrets or bool(_find_tokens(value)))


class LeftOutNotice:
    """Says once which variables scripts do not get, when one of them seems to be missed.

    Args:
        tell: Hears of it.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._is_told = False

    def give(self, left_out: Collection[str]) -> None:
        """Say it, unless it was said."""
        if self._is_told:
            return
        self._is_told = True
        self._tell(
            f"Trials do not get these variables of the runner, which look like secrets: "
            f"{', '.join(left_out)}. Hint: name those that the script needs in the study file, "
            "such as `trial: {inherit_env: [HF_TOKEN, WANDB_*]}`."
        )
