"""The losses as modules that own the class table."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fastnce.torch._arguments import require_number
from fastnce.torch._kind import NCEKind, NegativeSamplingKind, SampledSoftmaxKind
from fastnce.torch._module import SampledLoss


class _Normalised(SampledLoss):
    """A loss whose scores are log-probabilities of the classes, up to a constant of the example."""

    def log_prob(self, input: Tensor) -> Tensor:
        """The exact log-probabilities of all classes, ``[..., V]`` for ``[..., D]``: for evaluation.

        In plain PyTorch operations, with all logits in memory: ``log_softmax(input @ weight.T + bias)``.
        """
        table = self.weight[: self.num_embeddings]
        scores = input.to(table.dtype) @ table.T
        if self.bias is not None:
            scores = scores + self.bias[: self.num_embeddings]
        return scores.log_softmax(-1)


class NCELoss(NCEKind, _Normalised):
    """Noise-contrastive estimation over a table of class embeddings that the module owns: :func:`fastnce.nce_loss`.

    >>> criterion = fastnce.torch.NCELoss(num_classes=50_000, embedding_dim=128, num_sampled=64)
    >>> loss = criterion(hidden, target)          # hidden [B, 128], target [B]
    >>> loss.backward()                           # criterion.weight.grad is sparse: at most B + 64 rows

    Every call samples afresh, by default log-uniformly: classes should then be sorted by falling frequency. The bias
    starts at ``-log(num_classes)``, so that a model whose logits are still small is normalised: NCE learns the
    log-probability of a class as ``input . weight[k] + bias[k]``. ``log_prob`` normalises these scores exactly.
    ``criterion.weight = embedding.weight`` ties tables. ``eval()`` does not change the loss: every call samples.

    Args:
        num_classes: Number of classes, V.
        embedding_dim: Width, D.
        num_sampled: Classes to sample in each call, S.
        num_true: True classes per example, T.
        bias: Whether classes have a bias; ``False``: ``module.bias`` is ``None``.
        sampler: ``"log_uniform"`` (uniquely); a sampler of fastnce for the module's sizes, whose stream the module goes
            on with and saves in ``state_dict``, as what it has learned; or any callable that takes classes ``[B, T]``
            (``[n, 1]`` for lists of them) and returns ``SampledValues`` of ``num_sampled`` classes.
        remove_accidental_hits: Leave out sampled classes that are true classes of the example. ``None``: the default of
            the loss, which is not to for ``NCELoss`` and ``NegativeSamplingLoss``, and to for ``SampledSoftmaxLoss``.
        true_target: ``"mean"``: each true class has target 1 / T. ``"one"``: 1. ``None``: the default of the loss,
            ``"one"`` for ``NegativeSamplingLoss``, else ``"mean"``.
        sparse: Gradients of weight and bias are sparse COO tensors, which ``SGD``, ``Adagrad`` and ``SparseAdam`` take.
            ``Adam``, ``AdamW`` and ``clip_grad_norm_`` need dense gradients: ``sparse=False``.
        reduction: ``"mean"`` over the examples that have a true class, ignored ones not counted (whatever their
            weights), ``"sum"``, or ``"none"``.
        ignore_index: A class that is left out, each by itself: T counts the others. Examples without another class have
            a loss of 0 and gradients of 0. If all examples are such, the mean is 0, too. ``None`` disables this, which
            saves work in compiled graphs and on a CUDA device.
        precision: ``"highest"``, ``"high"`` or ``"medium"``; ``None`` uses the setting of
            :func:`fastnce.set_precision`.
        seed: Seed for sampling; see :func:`fastnce.log_uniform_candidate_sampler`. A sampler has its own.
        optimizer: A class of :mod:`fastnce.torch.optim`, or ``functools.partial`` of one and its options: ``backward``
            then updates weight and bias in one pass that makes no gradient tensors: ``weight.grad`` stays ``None``.
            What is made is ``module.optimizer``, for schedulers; its ``step()`` has nothing to do.
            Every backward pass is a step with its upstream factor, so that losses of two calls cannot share one, and
            neither clipping nor ``GradScaler`` comes in between. ``eval()`` and ``torch.no_grad()`` leave the table as
            it is. Compiled graphs break.
        device: Device of the parameters.
        dtype: Dtype of the parameters: float32, float64, float16 or bfloat16.

    Attributes:
        weight: ``[V, D]``, initialised uniformly in ``[-1 / sqrt(D), 1 / sqrt(D)]``.
        bias: ``[V]``, initialised to ``-log(V)``, or ``None``.
        optimizer: What was made of the argument, or ``None``. ``state_dict`` holds what it keeps, and its rate, as
            ``optimizer.*``.
        calls: Number of times the module has sampled: a buffer, saved with the seed in ``state_dict``, so that a
            resumed run draws the same samples. In eager mode a call that fails is not counted; under ``torch.compile``
            a call that fails while its graph runs is counted.

    Raises:
        ValueError: Sizes or options out of range.
        TypeError: Sizes that are not integers, an ``optimizer`` that makes none.
        RuntimeError: In a backward pass that would update the table twice, or after it was changed.
    """


class SampledSoftmaxLoss(SampledSoftmaxKind, _Normalised):
    """Sampled softmax over a table of class embeddings that the module owns: :func:`fastnce.sampled_softmax_loss`.

    >>> criterion = fastnce.torch.SampledSoftmaxLoss(num_classes=50_000, embedding_dim=128, num_sampled=64)
    >>> criterion(hidden, target).backward()
    >>> criterion.log_prob(hidden)                # [B, V], exact: for evaluation

    Arguments and attributes are those of :class:`NCELoss`. Accidental hits are removed by default, and the bias starts
    at 0. ``eval()`` does not change the loss: every call samples.
    """


class NegativeSamplingLoss(NegativeSamplingKind, SampledLoss):
    """word2vec's negative sampling over a table that the module owns: :func:`fastnce.negative_sampling_loss`.

    >>> criterion = fastnce.torch.NegativeSamplingLoss(num_classes=50_000, embedding_dim=128, num_sampled=5, bias=False)

    Logits are not corrected by log Q, so scores are no log-probabilities: they approach the log-odds of a class against
    the sampler. Every true class has target 1, and the bias starts at 0. ``eval()`` does not change the loss: every
    call samples.

    Args:
        positive_weight: Factor of the terms of true classes; of ``fastnce.gbce_weight`` it makes the loss gBCE.
        negative_weight: Factor of the terms of sampled classes.

    The other arguments and the attributes are those of :class:`NCELoss`.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        num_sampled: int,
        *,
        positive_weight: float = 1.0,
        negative_weight: float = 1.0,
        **options: Any,
    ) -> None:
        """Initialise the parameters and the stream of samples; see the class for the arguments."""
        super().__init__(num_classes, embedding_dim, num_sampled, **options)
        self.positive_weight = require_number("positive_weight", positive_weight, self.weight)
        self.negative_weight = require_number("negative_weight", negative_weight, self.weight)

    def _options(self) -> dict[str, Any]:
        weights = {"positive_weight": self.positive_weight, "negative_weight": self.negative_weight}
        return {**super()._options(), **{name: value for name, value in weights.items() if value != 1}}

    def _own_options(self) -> dict[str, tuple[Any, Any]]:
        return {"positive_weight": (self.positive_weight, 1.0), "negative_weight": (self.negative_weight, 1.0)}
