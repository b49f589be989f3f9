"""Why an HTTP request got no answer."""

from __future__ import annotations

import urllib.error


def why_no_answer(error: Exception) -> str:
    """Return why a request failed, in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    return str(error.reason if isinstance(error, urllib.error.URLError) else error)
