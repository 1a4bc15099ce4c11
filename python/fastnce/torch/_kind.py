"""Which loss a module is, and how its table begins: the same for a table in one process and for one over several."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor, nn

from fastnce.torch._arguments import TrueTarget


class LossKind:
    """A loss that is data: what its modules set, and the fields of the request that follow."""

    true_target: TrueTarget
    remove_accidental_hits: bool

    _family: ClassVar[str] = "logistic"
    _true_target: ClassVar[TrueTarget] = "mean"
    """The default, as of the next."""
    _removes_hits: ClassVar[bool] = False
    _corrects: ClassVar[bool] = True
    """Whether logits are corrected by log Q."""

    def _options(self) -> dict[str, Any]:
        """Fields of the request that make it this loss."""
        return {
            "family": self._family,
            "true_target": self.true_target,
            "remove_accidental_hits": self.remove_accidental_hits,
        }

    def _initial_bias(self, num_classes: int) -> float:
        return 0.0

    def _initialise(self, weight: Tensor, bias: Tensor | None, num_classes: int) -> None:
        bound = 1 / math.sqrt(max(weight.shape[1], 1))
        nn.init.uniform_(weight, -bound, bound)
        if bias is not None:
            nn.init.constant_(bias, self._initial_bias(num_classes))


class NCEKind(LossKind):
    """Noise-contrastive estimation: normalised from the start."""

    def _initial_bias(self, num_classes: int) -> float:
        return -math.log(num_classes)


class SampledSoftmaxKind(LossKind):
    """Sampled softmax."""

    _family = "softmax"
    _removes_hits = True


class NegativeSamplingKind(LossKind):
    """word2vec's negative sampling."""

    _true_target = "one"
    _corrects = False
