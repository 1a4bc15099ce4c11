"""Optimizers of class tables: sparse, exact, in place.

    >>> optimizer = fastnce.optim.Adagrad(weights, biases, lr=0.1)
    >>> loss, grads = fastnce.nce_loss_and_grad(weights, biases, labels, inputs, num_sampled, num_classes)
    >>> optimizer.update_rows(*grads.rows)

or, in one pass that holds no gradient rows in memory, :func:`fastnce.train_step`. Names, defaults and numerics are
PyTorch's; docs/training.md has a table of them.
"""

from fastnce.optim._adagrad import Adagrad
from fastnce.optim._adam import Adam
from fastnce.optim._base import Optimizer
from fastnce.optim._rowwise_adagrad import RowwiseAdagrad
from fastnce.optim._sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "Optimizer", "RowwiseAdagrad"]
