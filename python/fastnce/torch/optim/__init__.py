"""Optimizers for PyTorch's parameters that take sparse gradients and update the rows that these have, in place.

    >>> optimizer = fastnce.torch.optim.Adagrad(criterion.parameters(), lr=0.1)
    >>> criterion(hidden, target).backward()
    >>> optimizer.step()

They are ``torch.optim.Optimizer``s: parameter groups, ``state_dict``, hooks and learning-rate schedulers are PyTorch's,
and so are names, defaults and numerics, but for weight decay, which is decoupled. A module with ``optimizer=`` updates
its table in the backward pass; see :class:`fastnce.torch.NCELoss`.
"""

from fastnce.torch.optim._adagrad import Adagrad
from fastnce.torch.optim._adam import Adam
from fastnce.torch.optim._base import Optimizer
from fastnce.torch.optim._rowwise_adagrad import RowwiseAdagrad
from fastnce.torch.optim._sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "Optimizer", "RowwiseAdagrad"]
