"""Requests with a trial's token: read as MLflow's server reads them, and written anew.

MLflow's protocol messages have two names for each field, take numbers as texts, and pass over what
they do not know. So that the gate judges what the server will do, a request is read into such a
message here, and the server gets what this message holds, and nothing else of the request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from studyflow.tracking.mlflow.gate.holder import CallRefused
from studyflow.tracking.mlflow.gate.rules import Fields

BODY_LIMIT_BYTES: Final = 8 << 20
"""Largest body that is no file: MLflow itself takes batches of 1 MB."""

_KEPT_HEADERS: Final = frozenset({b"host", b"accept", b"accept-encoding", b"user-agent"})
_KEPT_OF_FILES: Final = frozenset({b"content-type", b"content-length"})

Headers = list[tuple[bytes, bytes]]


def read_body(proto: str, body: bytes) -> Fields:
    """Return the fields of a body, by the names and in the form that MLflow's server uses.

    Raises:
        CallRefused: It is no such message.
    """
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise _not_understood("The body is not JSON.") from error
    if not isinstance(document, dict):
        raise _not_understood("The body is not a JSON object.")
    return _canonical(proto, document)


def read_query(proto: str, query: bytes) -> Fields:
    """Return the fields of a query, by the names and in the form that MLflow's server uses.

    Raises:
        CallRefused: It is no such message, or a field stands twice.
    """
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise _not_understood("The query is not in order.") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _not_understood("A field of the query stands twice.")
    return _canonical(proto, fields)


def forwarded_headers(
    headers: Headers, identity: bytes, *, body: bytes | None, is_file: bool
) -> Headers:
    """Return the headers of the request that the server gets.

    Args:
        headers: Those of the client.
        identity: The `Authorization` by which the server knows the gate.
        body: What is sent; `None` where there is none, and for a file.
        is_file: Whether the body is a file.
    """
    names = _KEPT_HEADERS | (_KEPT_OF_FILES if is_file else frozenset())
    kept = [(name, value) for name, value in headers if name in names]
    kept.append((b"authorization", identity))
    if body is not None:
        kept.append((b"content-type", b"application/json"))
        kept.append((b"content-length", str(len(body)).encode()))
    return kept


def query_of(fields: Mapping[str, Any]) -> bytes:
    """Return fields as a query."""
    return urlencode(fields).encode("ascii")


def _canonical(proto: str, document: Mapping[str, Any]) -> Fields:
    # Imported here: reading the rules needs no MLflow.
    from google.protobuf.json_format import ParseDict, ParseError
    from mlflow.protos import mlflow_artifacts_pb2, service_pb2
    from mlflow.utils.proto_json_utils import message_to_json

    protos, _, name = proto.rpartition(".")
    read: Any = getattr(mlflow_artifacts_pb2 if protos else service_pb2, name)()
    try:
        ParseDict(document, read, ignore_unknown_fields=True)
    except (ParseError, ValueError, TypeError, RecursionError) as error:
        raise _not_understood(f"The request is no {name} of MLflow's.") from error
    fields: Fields = json.loads(message_to_json(read, pretty=False))
    return fields


def _not_understood(text: str) -> CallRefused:
    return CallRefused(text, error_code="INVALID_PARAMETER_VALUE", status=400)
