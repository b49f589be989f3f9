"""Scripts that fail for want of a variable which their runner has and did not pass on."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from studyflow.trial import Outcome

_REFUSALS: Final[tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]] = tuple(
    (re.compile(said), re.compile(names))
    for said, names in (
        (
            r"GatedRepoError|LocalTokenNotFoundError|\b40[13]\b.*huggingface\.co\b|hf auth login",
            r"HF_TOKEN|HUGGING_FACE_HUB_TOKEN",
        ),
        (r"api_key not configured|wandb login|wandb: ERROR.*API key", r"WANDB_API_KEY"),
        (r"NoCredentialsError|Unable to locate credentials|NoAuthHandlerFound", r"AWS_.*"),
        (r"DefaultCredentialsError|default credentials were not found", r"GOOGLE_.*"),
        (r"CredentialUnavailableError|DefaultAzureCredential failed", r"AZURE_.*"),
        (r"/api/2\.0/mlflow/.*error code 40[13]", r"MLFLOW_TRACKING_(USERNAME|PASSWORD|TOKEN)"),
    )
)
"""What libraries say without a login, and the variables in which they look for one."""


def missed_variables(outcome: Outcome, log_tail: str, left_out: Collection[str]) -> tuple[str, ...]:
    """Return which variables a script that failed seems to have missed, in order.

    Args:
        outcome: How it ended, with what the script said of that.
        log_tail: The end of its output; may be torn and hold anything.
        left_out: Names of the runner's variables that it did not get.
    """
    text = f"{log_tail}\n{outcome.message}"
    missed = {name for name in left_out if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)}
    for said, names in _REFUSALS:
        if said.search(text):
            missed |= {name for name in left_out if names.fullmatch(name)}
    return tuple(sorted(missed))
