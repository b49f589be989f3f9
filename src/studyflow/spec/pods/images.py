"""Names of container images, and the registries and folders that they lie in."""

from __future__ import annotations

import re
from typing import Final

_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST: Final = rf"{_LABEL}(?:\.{_LABEL})*(?::\d{{1,5}})?"
_FOLDER: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE: Final = re.compile(
    rf"(?P<path>(?:{_HOST}/)?{_FOLDER}(?:/{_FOLDER})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?\Z",
    re.ASCII,
)
_PREFIX: Final = re.compile(rf"(?P<host>{_HOST})(?P<rest>(?:/{_FOLDER})*)\Z", re.ASCII)

_DOCKER_HUB: Final = "docker.io"
_LONGEST: Final = 1000
"""Far beyond any name; bounds the search of the patterns."""


def repository(image: str) -> tuple[str, ...] | None:
    """Return registry and folders of an image, without tag and digest; `None` when it is none.

    `busybox:1` is `("docker.io", "library", "busybox")`, as container runtimes take it.
    """
    match = _IMAGE.match(image) if len(image) <= _LONGEST else None
    if match is None:
        return None
    parts = match["path"].split("/")
    if len(parts) == 1 or not _is_host(parts[0]):
        parts = [_DOCKER_HUB, *parts]
    host = _plain_host(parts[0])
    if host == _DOCKER_HUB and len(parts) == 2:
        parts = [host, "library", *parts[1:]]
    return (host, *parts[1:])


def prefix(text: str) -> tuple[str, ...] | None:
    """Return the registry and folders that an entry of an allow-list names; `None` for none.

    It begins with a registry's host name, and has neither tag nor digest.
    """
    match = _PREFIX.match(text) if len(text) <= _LONGEST else None
    if match is None or not _is_host(match["host"]):
        return None
    return (_plain_host(match["host"]), *match["rest"].split("/")[1:])


def lies_in(image: str, prefixes: tuple[str, ...]) -> bool:
    """Whether an image lies in one of these registries or folders: whole names are compared."""
    parts = repository(image)
    if parts is None:
        return False
    wanted = [found for text in prefixes if (found := prefix(text)) is not None]
    return any(parts[: len(one)] == one for one in wanted)


def _is_host(part: str) -> bool:
    return "." in part or ":" in part or part == "localhost"


def _plain_host(host: str) -> str:
    plain = host.lower()
    return _DOCKER_HUB if plain in ("index.docker.io", "registry-1.docker.io") else plain
