"""What the models of a study file have in common."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from studyflow.spec.values import Real

LONGEST_SECONDS: Final = 1e9
"""Longest time limit, about 31 years; Kubernetes keeps deadlines in 32 bits."""


def _text(value: Any) -> Any:
    """Return a number as text, so that `cpu: 2` is as good as `cpu: "2"`."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Text = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": ["string", "number"]})]
"""A text that may be written as a number."""

Seconds = Annotated[Real, Field(gt=0, le=LONGEST_SECONDS)]

# Kubernetes writes kilo small and knows no B: 4K and 4GB would be refused by its API.
QUANTITY: Final = r"^\d+(\.\d+)?(k|[MGTP]|[KMGTP]i)?$"
"""Pattern of an amount of memory or disk."""


class Part(BaseModel):
    """A section of a study file: frozen, and no key is silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")
