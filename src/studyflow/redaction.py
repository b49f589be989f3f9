"""Takes secrets out of text that comes from a trial or goes to a person, a log or a server.

Three rules, applied everywhere alike: values that this process holds as secrets, passwords within
addresses, and tokens that show by their shape what they are. The shapes are few and precise: a log
is full of hashes, paths and numbers, and none of them may be lost.

Standard library only: training scripts use it too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import BinaryIO, Final

MASK: Final = "***"
"""What stands in place of a secret."""

MIN_SECRET_CHARS: Final = 6
"""A shorter value would be found in ordinary words and numbers."""

MIN_DIGITS: Final = 12
"""The same for a value of digits alone, which could be a metric or a step."""

LINE_LIMIT_CHARS: Final = 1 << 16
"""A line longer than this is redacted in pieces, which bounds the memory of a stream."""

PIECE_BYTES: Final = 1 << 18
"""How much of a file is looked at in one go."""

TOKEN_LIMIT_CHARS: Final = 4096
KEY_LIMIT_CHARS: Final = 1 << 14
"""Longest token and longest private key, so that a piece of a line can be known to hold no half."""

_SECRET_NAME: Final = re.compile(
    r"(TOKEN|TOKEN_KEY|PASSWORD|PASSWD|PASSPHRASE|SECRET|API_?KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY"
    r"|CREDENTIALS?)$",
    re.IGNORECASE,
)
"""Anchored at the end: TOKENIZERS_PARALLELISM and AWS_ACCESS_KEY_ID hold no secret."""

_PATH: Final = re.compile(r"~?\.{0,2}/[^\s=+]*$")
"""GOOGLE_APPLICATION_CREDENTIALS names a file."""

_COMMON_WORDS: Final = frozenset(
    {
        *("changeme", "default", "disabled", "enabled", "minioadmin", "optional", "passwd"),
        *("password", "postgres", "required", "secret", "studyflow", "undefined"),
    }
)
"""Values of variables for secrets that are words of any log."""

_NO_WORD_BEFORE: Final = r"(?<![A-Za-z0-9_])"

_ADDRESS: Final = re.compile(r"://[^\s/:@'\"<>]{0,256}:([^\s/'\"<>]{1,1024})@")

_SHAPES: Final[tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]] = (
    (("://",), _ADDRESS),
    (
        ("assw", "ASSW", "pwd="),
        re.compile(r"(?:password|passwd|[?&]pwd)=([^\s&#;'\",)<>\]}]{1,1024})", re.IGNORECASE),
    ),
    (
        ("uthorization", "UTHORIZATION"),
        re.compile(
            r"authorization['\"]?\s{0,4}[:=]\s{0,4}[b'\"]{0,2}(?:bearer|basic|token)\s{1,4}"
            rf"([A-Za-z0-9._~+/=-]{{6,{TOKEN_LIMIT_CHARS}}})",
            re.IGNORECASE,
        ),
    ),
    (
        ("earer ", "EARER "),
        # A digit tells a token from "bearer characteristics".
        re.compile(
            rf"{_NO_WORD_BEFORE}bearer ((?=[A-Za-z._~+/=-]{{0,64}}[0-9])"
            rf"[A-Za-z0-9._~+/=-]{{16,{TOKEN_LIMIT_CHARS}}})",
            re.IGNORECASE,
        ),
    ),
    # As gitleaks and detect-secrets know them.
    (("AKIA", "ASIA"), re.compile(rf"{_NO_WORD_BEFORE}((?:AKIA|ASIA)[A-Z2-7]{{16}})(?![A-Z0-9])")),
    (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        re.compile(rf"{_NO_WORD_BEFORE}(gh[pousr]_[A-Za-z0-9]{{36,255}})"),
    ),
    (("github_pat_",), re.compile(rf"{_NO_WORD_BEFORE}(github_pat_[A-Za-z0-9_]{{36,255}})")),
    (("glpat-",), re.compile(rf"{_NO_WORD_BEFORE}(glpat-[A-Za-z0-9_-]{{20,255}})")),
    (("hf_",), re.compile(rf"{_NO_WORD_BEFORE}(hf_[A-Za-z0-9]{{34,255}})")),
    (
        ("sfrt1.",),  # the token of an attempt: studyflow.trial.run_token
        re.compile(
            rf"{_NO_WORD_BEFORE}(sfrt1\.[A-Za-z0-9_-]{{16,{TOKEN_LIMIT_CHARS}}}"
            rf"\.[A-Za-z0-9_-]{{1,{TOKEN_LIMIT_CHARS}}})"
        ),
    ),
    (("xox",), re.compile(rf"{_NO_WORD_BEFORE}(xox[abeoprs]-[A-Za-z0-9-]{{20,255}})")),
    (("AIza",), re.compile(rf"{_NO_WORD_BEFORE}(AIza[A-Za-z0-9_-]{{35}})(?![A-Za-z0-9_-])")),
    (
        ("eyJ",),
        re.compile(
            rf"{_NO_WORD_BEFORE}(eyJ[A-Za-z0-9_-]{{10,{TOKEN_LIMIT_CHARS}}}"
            rf"\.eyJ[A-Za-z0-9_-]{{10,{TOKEN_LIMIT_CHARS}}}\.[A-Za-z0-9_-]{{0,{TOKEN_LIMIT_CHARS}}})"
        ),
    ),
    (
        ("PRIVATE KEY",),
        # Where its last line is missing, as much as can be a key's.
        re.compile(
            r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----"
            rf"(?:[\s\S]{{0,{KEY_LIMIT_CHARS}}}?-----END [A-Z ]{{0,40}}PRIVATE KEY-----"
            rf"|[A-Za-z0-9+/=\s\\:,.-]{{0,{KEY_LIMIT_CHARS}}}))"
        ),
    ),
)
"""Words, one of which stands in every match, and the expression whose first group is the secret. A
text without such a word is not searched."""

_REACH_CHARS: Final = max(3 * TOKEN_LIMIT_CHARS, KEY_LIMIT_CHARS) + 256
"""No match of a shape is longer."""


def secrets_of(environment: Mapping[str, str], addresses: Iterable[str] = ()) -> frozenset[str]:
    """Return what is secret in variables, by their names, and in addresses.

    Args:
        environment: Variables; the passwords of addresses among their values count too.
        addresses: URLs that may hold a password.
    """
    found = {
        value
        for name, value in environment.items()
        if _SECRET_NAME.search(name) and not _PATH.match(value)
    }
    for text in (*addresses, *environment.values()):
        if "://" in text:
            found.update(match[1] for match in _ADDRESS.finditer(text))
    return frozenset(filter(_is_secret, found))


def _is_secret(value: str) -> bool:
    plain = value.strip()
    if len(plain) < MIN_SECRET_CHARS or plain.lower() in _COMMON_WORDS or not plain.strip("*"):
        return False
    return not plain.isdigit() or len(plain) >= MIN_DIGITS


class Redactor:
    """Puts `MASK` in place of secrets.

    Args:
        secrets: Values that are secret wherever they stand, such as those of `secrets_of`. They are
            found as they are, and as an address, a JSON document or Python's `repr` writes them; of
            a value of several lines, each line is one. Short ones are left out.
    """

    def __init__(self, secrets: Collection[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        self._secrets = sorted(forms)
        self.reach_chars = max(_REACH_CHARS, *map(len, self._secrets), 0)
        """No secret is longer as it is looked for."""

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        return _masked(text, self.spans(text))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where secrets stand in a text, first to last, none touching another."""
        shapes = (match.span(1) for match in _shapes_in(text) if match[1] != MASK)
        return _merged([*self._values_in(text), *shapes])

    def pieces(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield a log without secrets, wherever it is cut into pieces.

        Whole lines are passed on at once. Memory is bounded by a piece and a line, and of a line
        that does not end, by `LINE_LIMIT_CHARS`.
        """
        rest = b""
        for piece in pieces:
            done, rest = self.ready(rest + piece)
            if done:
                yield done
        if rest:
            yield _encoded(self(_decoded(rest)))

    def tail(self, file: BinaryIO, limit_bytes: int) -> Iterator[bytes]:
        """Yield the end of a log without secrets, and without half of one where the end begins.

        Args:
            file: The log; what is written to it meanwhile is left out.
            limit_bytes: How much of the log is wanted. What comes is shorter where secrets were.
        """
        size = file.seek(0, os.SEEK_END)
        wanted = max(size - limit_bytes, 0)
        # A secret that begins before what is wanted is seen as a whole, and left out with all that
        # stands before.
        begin = max(wanted - self.reach_chars, 0)
        file.seek(begin)
        n_left_out = wanted - begin
        for piece in self.pieces(_read(file, size - begin)):
            if kept := piece[n_left_out:]:
                yield kept
            n_left_out = max(n_left_out - len(piece), 0)

    def ready(self, content: bytes) -> tuple[bytes, bytes]:
        """Return what nothing that follows can change, without secrets, and the rest as it is.

        What comes first is whole lines, and no secret is cut in two.
        """
        text = _decoded(content)
        cut = max(text.rfind("\n"), text.rfind("\r")) + 1  # a progress bar rewrites its line
        if len(text) - cut > LINE_LIMIT_CHARS + self.reach_chars:
            cut = len(text) - self.reach_chars
        # What makes a secret known belongs together with it: "password=" is not cut off.
        shapes = [match.span() for match in _shapes_in(text)]
        whole = _merged([*self._values_in(text), *shapes])
        for start, end in whole:
            if start < cut < end or (start < cut and end == len(text)):
                cut = start
        if not cut and len(text) > 2 * (LINE_LIMIT_CHARS + self.reach_chars):
            cut = whole[0][1]  # one secret after the other, for as long as that
        return _encoded(self(text[:cut])), _encoded(text[cut:])

    def _values_in(self, text: str) -> Iterator[tuple[int, int]]:
        for secret in self._secrets:
            begin = end = 0
            start = text.find(secret)
            while start >= 0:
                if start > end:
                    yield begin, end
                    begin = start
                end = start + len(secret)
                start = text.find(secret, start + 1)
            yield begin, end


def _read(file: BinaryIO, n_bytes: int) -> Iterator[bytes]:
    while n_bytes > 0 and (piece := file.read(min(PIECE_BYTES, n_bytes))):
        n_bytes -= len(piece)
        yield piece


def _shapes_in(text: str) -> Iterator[re.Match[str]]:
    for words, shape in _SHAPES:
        if any(word in text for word in words):
            yield from shape.finditer(text)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _forms(secret: str) -> Iterator[str]:
    from urllib.parse import quote, quote_plus, unquote

    for line in (line.strip() for line in secret.splitlines()):
        if len(line) < MIN_SECRET_CHARS:
            continue
        yield line
        yield quote(line, safe="")
        yield quote(line)
        yield quote_plus(line)
        yield json.dumps(line)[1:-1]
        yield json.dumps(line, ensure_ascii=False)[1:-1]
        yield repr(line)[1:-1]
        if _is_secret(unquote(line)):
            yield unquote(line)


def _masked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    kept: list[str] = []
    position = 0
    for start, end in spans:
        kept += (text[position:start], MASK)
        position = end
    return "".join((*kept, text[position:])) if position else text


def _decoded(content: bytes) -> str:
    return content.decode(errors="surrogateescape")


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
