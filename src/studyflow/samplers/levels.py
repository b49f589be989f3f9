"""How a suggestion was made: the levels of the sampler's fallback chain, by their stored names.

Nothing heavy is imported here, so a report can name the levels without the sampler.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class SuggestionLevel(StrEnum):
    """How a suggestion was made, from the best to the last resort. The values are stored."""

    MODEL = "model"
    """The model with one lengthscale per parameter."""
    ISOTROPIC = "isotropic"
    """The model with one lengthscale for all: three numbers to fit."""
    PRIOR = "prior"
    """The model with its prior's hyperparameters: nothing to fit."""
    STARTUP = "startup"
    """A space-filling point, because too little is finished to model."""
    SPACE_FILLING = "space-filling"
    """A space-filling point, because every model failed or the time was up."""
    RANDOM = "random"
    """An independent draw of each parameter: the search space itself could not be read."""
    QUASI_RANDOM = "quasi-random"
    """A quasi-random point, because one of Optuna's samplers failed or did not come back."""


MODEL_LEVELS: Final = frozenset(
    {SuggestionLevel.MODEL, SuggestionLevel.ISOTROPIC, SuggestionLevel.PRIOR}
)
"""Those at which a model was asked. They take time."""

FALLBACK_LEVELS: Final = frozenset(SuggestionLevel) - {
    SuggestionLevel.MODEL,
    SuggestionLevel.STARTUP,
}
"""Those that say that something better failed."""
