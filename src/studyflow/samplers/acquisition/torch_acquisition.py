"""BoTorch's acquisition functions behind this package's protocol."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from studyflow.samplers.arrays import FloatArray
from studyflow.samplers.deadline import NEVER, Deadline

if TYPE_CHECKING:
    from botorch.acquisition.acquisition import AcquisitionFunction


class BoTorchAcquisition:
    """Any BoTorch acquisition function for one candidate, behind this package's protocol.

    Args:
        function: Takes `b x 1 x f` and returns `b`.
        name: What the explanation calls it.
        device: Where the function's model is.
        deadline: Checked between blocks of points.
    """

    def __init__(
        self,
        function: AcquisitionFunction,
        *,
        name: str,
        device: str = "cpu",
        deadline: Deadline = NEVER,
    ) -> None:
        self._function = function
        self.name = name
        self._device = device
        self._deadline = deadline

    def value(self, features: FloatArray) -> FloatArray:
        """Return the value of each point, `b`; after the deadline, of the first block only.

        Points that there was no time for have the value -inf.
        """
        blocks = []
        with torch.no_grad():
            for start in range(0, len(features), 128):
                if start and self._deadline.is_over:
                    blocks.append(np.full(len(features) - start, -math.inf))
                    break
                x = torch.as_tensor(features[start : start + 128], device=self._device)
                blocks.append(self._function(x.unsqueeze(1)).cpu().numpy())
        return np.concatenate(blocks)

    def value_and_gradient(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return values, `b`, and gradients, `b x f`."""
        x = torch.tensor(features, device=self._device, requires_grad=True)
        values = self._function(x.unsqueeze(1))
        (gradient,) = torch.autograd.grad(values.sum(), x)
        return values.detach().cpu().numpy(), gradient.cpu().numpy()
