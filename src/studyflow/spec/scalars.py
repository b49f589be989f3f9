"""Scalars of YAML 1.2's core schema, which PyYAML, a YAML 1.1 library, does not know.

Under 1.1 a study file would hold surprises: `1e-4` is a text, `on` and `no` are booleans, `12:30`
is the number 750 and `2024-01-01` a date.
"""

from __future__ import annotations

import re
from typing import Final

NULL: Final = "tag:yaml.org,2002:null"
BOOL: Final = "tag:yaml.org,2002:bool"
INT: Final = "tag:yaml.org,2002:int"
FLOAT: Final = "tag:yaml.org,2002:float"
STR: Final = "tag:yaml.org,2002:str"
SEQ: Final = "tag:yaml.org,2002:seq"
MAP: Final = "tag:yaml.org,2002:map"

PATTERNS: Final = (
    (NULL, re.compile(r"^(null|Null|NULL|~|)\Z"), ("n", "N", "~", "")),
    (BOOL, re.compile(r"^(true|True|TRUE|false|False|FALSE)\Z"), tuple("tTfF")),
    (INT, re.compile(r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), tuple("-+0123456789")),
    (
        FLOAT,
        re.compile(
            r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
            r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"
        ),
        tuple("-+.0123456789"),
    ),
)
"""Tag, pattern and possible first characters, in the order in which they are tried."""


def read_scalar(tag: str, text: str) -> bool | int | float | str | None:
    """Return the value of a scalar.

    Raises:
        ValueError: The text is none of that tag, or a whole number of absurd length.
    """
    if tag == STR:
        return text
    pattern = next((p for known, p, _ in PATTERNS if known == tag), None)
    if pattern is None or not pattern.match(text):
        raise ValueError(text)
    if tag == NULL:
        return None
    if tag == BOOL:
        return text.lower() == "true"
    if tag == INT:
        # int() with base 0 refuses leading zeros, which core numbers may have.
        number = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        str(number)  # of 0o and 0x too, refuse what Python refuses to write out in a message
        return number
    lower = text.lower()
    return float(lower.replace(".", "") if lower.endswith(("inf", "nan")) else lower)
