"""BoTorch is imported here once, quietly, before tests turn warnings into errors."""

from __future__ import annotations

import studyflow.samplers.torch_model  # noqa: F401
