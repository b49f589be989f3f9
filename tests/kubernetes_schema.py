"""Manifests against the schemas of Kubernetes' versions."""

from __future__ import annotations

import functools
from typing import Any

from kubernetes_validate import utils

# A version's definitions are a megabyte, which the package reads anew for each manifest.
utils.schema_contents = functools.cache(utils.schema_contents)


def validate(manifest: dict[str, Any], version: str) -> None:
    """Raise an error if a version of Kubernetes refuses a manifest, or does not know a field."""
    utils.validate(manifest, version, strict=True)
