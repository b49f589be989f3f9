"""Samplers and pruners: our BoTorch sampler, and Optuna's by name.

* `registry`: from the names of a study file to samplers and pruners; wrappers of Optuna's samplers
  in `forwarding`, `rounding` and `fallback`.
* `botorch`: our sampler as Optuna sees it; `strategy` decides each suggestion, by the levels of
  the `fallback_chain`.
* A suggestion: `history` (trials as arrays), `space` (parameters as coordinates), `models` (the
  Gaussian process), `acquisition` (what a candidate is worth), `candidates` (the search for the
  best), `explanation` (what the trial stores).

`BoTorchSampler` and `explanation_of` also serve plain Optuna; they are imported when first used,
because they need the extra `botorch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from studyflow.samplers.registry import make_pruner, make_sampler

if TYPE_CHECKING:
    from studyflow.samplers.botorch import BoTorchSampler
    from studyflow.samplers.explanation import explanation_of

__all__ = ["BoTorchSampler", "explanation_of", "make_pruner", "make_sampler"]


def __getattr__(name: str) -> Any:
    if name == "BoTorchSampler":
        from studyflow.samplers.botorch import BoTorchSampler

        return BoTorchSampler
    if name == "explanation_of":
        from studyflow.samplers.explanation import explanation_of

        return explanation_of
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
