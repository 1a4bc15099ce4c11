"""The losses in JAX's own idiom: under ``jit``, ``grad``, ``vmap`` and ``scan``, with ids from a JAX key.

    >>> import fastnce.jax
    >>> loss, dinputs, rows = fastnce.jax.nce_value_and_rows(weights, biases, labels, inputs, S, V, key=key)
    >>> weights, biases = fastnce.jax.sgd_rows(weights, biases, rows, 0.1)

No function writes to its arguments, unless you donate them to a ``jit`` of yours: then ``sgd_rows`` and
``adagrad_rows``, and the optimizers of ``fastnce.jax.optim``, update their memory in place.
"""

from fastnce import _core

try:
    import jax
except ImportError as error:
    raise ImportError("fastnce.jax needs JAX, which is not installed: pip install jax") from error

if not hasattr(jax, "ffi"):
    raise ImportError(
        f"fastnce.jax needs jax 0.5 or newer, and jax {jax.__version__} is installed: pip install --upgrade jax"
    )

for _platform, _by_name in _core.jax_handlers.items():
    for _name, _handler in _by_name.items():
        jax.ffi.register_ffi_target(_name, _handler, platform=_platform)

from fastnce.jax import optim  # noqa: E402
from fastnce.jax._all_classes import rank_of_labels, sigmoid_loss, softmax_loss, top_k  # noqa: E402
from fastnce.jax._in_batch import in_batch_softmax_loss  # noqa: E402
from fastnce.jax._losses import (  # noqa: E402
    nce_loss,
    nce_value_and_rows,
    negative_sampling_loss,
    negative_sampling_value_and_rows,
    sampled_softmax_loss,
    sampled_softmax_value_and_rows,
)
from fastnce.jax._rows import adagrad_rows, sgd_rows  # noqa: E402
from fastnce.jax._sampler import log_uniform_candidate_sampler  # noqa: E402

__all__ = [
    "adagrad_rows",
    "in_batch_softmax_loss",
    "log_uniform_candidate_sampler",
    "nce_loss",
    "nce_value_and_rows",
    "negative_sampling_loss",
    "negative_sampling_value_and_rows",
    "optim",
    "rank_of_labels",
    "sampled_softmax_loss",
    "sampled_softmax_value_and_rows",
    "sgd_rows",
    "sigmoid_loss",
    "softmax_loss",
    "top_k",
]
