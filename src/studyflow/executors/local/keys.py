"""The keys of a study's attempts on this machine; `studyflow.trial.seals` says what for."""

from __future__ import annotations

import json
import logging
import os
import secrets
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from studyflow.executors.local.files import (
    read_document,
    replace_file,
    version_of,
    write_new,
)
from studyflow.executors.protocol import AttemptId
from studyflow.trial.seals import SECRET_BYTES, attempt_key
from studyflow.trial.user_files import NotAFileError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Secret:
    """What the keys of all attempts are made of."""

    value: str
    """In hexadecimal."""
    unsealed: frozenset[str] = frozenset()
    """Attempts of an earlier version of studyflow, which have no key."""

    def to_json(self) -> str:
        return json.dumps({"secret": self.value, "unsealed": sorted(self.unsealed)})

    @classmethod
    def from_json(cls, text: bytes) -> _Secret:
        """Return what `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError, RecursionError: It is something else.
        """
        document = json.loads(text)
        value = str(document["secret"])
        if len(bytes.fromhex(value)) != SECRET_BYTES:
            raise ValueError("not a secret of this length")
        return cls(value, frozenset(map(str, document["unsealed"])))


_NOT_ONE: Final = (ValueError, KeyError, TypeError, RecursionError, NotAFileError)


class AttemptKeys:
    """The keys of one study's attempts on this machine, kept in one file.

    A runner holds them in memory and puts the file back as it was when something changed it.

    Args:
        path: Where the file is.
        unsealed: Returns the attempts of an earlier version; asked when there is no file yet.
        tell: Hears that the file was changed.
    """

    def __init__(
        self,
        path: Path,
        unsealed: Callable[[], Collection[AttemptId]],
        tell: Callable[[str], None],
    ) -> None:
        self._path = path
        self._unsealed = unsealed
        self._tell = tell
        self._secret: _Secret | None = None
        self._version: tuple[int, int] | None = None

    def of(self, attempt: AttemptId) -> str | None:
        """Return the key of an attempt; `None` for one of an earlier version.

        Raises:
            OSError: The disk refuses.
        """
        if self._secret is None:
            self._secret = self._read() or self._make()
            self._version = version_of(self._path)
        return _key_of(self._secret, attempt)

    def known(self, attempt: AttemptId) -> str | None:
        """Return the key of an attempt if there is one; never makes one.

        Raises:
            OSError: The disk does not answer.
        """
        secret = self._secret or self._read()
        return None if secret is None else _key_of(secret, attempt)

    def restore(self) -> None:
        """Put the file back if it is not what it was.

        Raises:
            OSError: The disk refuses.
        """
        if self._secret is None or version_of(self._path) == self._version:
            return
        if self._version is not None:
            self._tell(f"{self._path} was changed by another process, and is put back as it was.")
        replace_file(self._path, self._secret.to_json())
        self._version = version_of(self._path)

    def _read(self) -> _Secret | None:
        try:
            return _Secret.from_json(read_document(self._path))
        except FileNotFoundError:
            return None
        except _NOT_ONE:
            logger.warning("%s is damaged", self._path)
            return None

    def _make(self) -> _Secret:
        # Beside a file that was damaged, an attempt without a seal proves nothing.
        unsealed: Collection[AttemptId] = ()
        if os.path.lexists(self._path):
            self._tell(f"{self._path} was damaged by another process: running attempts begin anew.")
        else:
            unsealed = self._unsealed()
        found = _Secret(secrets.token_hex(SECRET_BYTES), frozenset(map(str, unsealed)))
        part = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}.part")
        write_new(part, found.to_json())
        try:
            os.link(part, self._path)  # another executor may be as far
        except FileExistsError:
            other = self._read()
            if other is not None:
                return other
            part.replace(self._path)
        except OSError:  # a file system without hard links
            part.replace(self._path)
        finally:
            with suppress(FileNotFoundError):
                part.unlink()
        return found


def _key_of(secret: _Secret, attempt: AttemptId) -> str | None:
    if str(attempt) in secret.unsealed:
        return None
    return attempt_key(secret.value, attempt.number, attempt.attempt)
