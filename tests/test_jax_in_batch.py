"""The in-batch softmax in JAX: against the float64 twin, transformed."""

from __future__ import annotations

import numpy as np
import pytest

jax = pytest.importorskip("jax", minversion="0.5", reason="fastnce.jax needs jax 0.5 or newer")
import jax.numpy as jnp  # noqa: E402

import fastnce.jax  # noqa: E402
from fastnce import Ragged, reference  # noqa: E402
from test_in_batch import problem  # noqa: E402
from tolerances import IN_BATCH_RELATIVE, relative_error  # noqa: E402


def loss_of(arguments):
    """The weighted sum of the losses as a function of the embeddings: inputs, items, extra items."""
    fixed = {name: arguments[name] for name in ("item_ids", "log_q", "temperature")}
    fixed["exclude"] = arguments.get("exclude")
    _, *extra = arguments.get("extra", (None,))

    def loss(x, items, more):
        given = (more, *extra) if extra else None
        return fastnce.jax.in_batch_softmax_loss(x, items, extra=given, **fixed) @ arguments["grad_loss"]

    return loss, (arguments["inputs"], arguments["items"], arguments["extra"][0] if extra else None)


@pytest.mark.parametrize("sizes", [(2, 8, 0), (65, 33, 0), (130, 16, 70)], ids=str)
@pytest.mark.parametrize("options", [dict(), dict(ids=True, log_q=True, excluded=True, temperature=0.05)], ids=str)
@pytest.mark.parametrize("compiled", [False, True])
def test_loss_and_gradients_are_the_twins(sizes, options, compiled):
    arguments = problem(*sizes, **options)
    losses, *gradients = reference.in_batch_softmax_loss_and_grad(**arguments)
    loss, embeddings = loss_of(arguments)
    both = jax.value_and_grad(loss, argnums=tuple(range(len(gradients))))
    value, found = (jax.jit(both) if compiled else both)(*embeddings)
    limit = IN_BATCH_RELATIVE["float32"]
    assert relative_error(value, losses @ arguments["grad_loss"]) <= 5 * limit
    for got, truth in zip(found, gradients, strict=True):
        assert relative_error(np.asarray(got), truth) <= limit


def test_vmap_is_a_loop():
    batches = [problem(9, 4, 0, ids=True, log_q=True) for _ in range(2)]
    stacked = [np.stack([one[name] for one in batches]) for name in ("inputs", "items", "item_ids", "log_q")]

    def loss(x, items, ids, log_q):
        return fastnce.jax.in_batch_softmax_loss(x, items, ids, log_q=log_q)

    found = jax.vmap(loss)(*stacked)
    for i, own in enumerate(zip(*stacked, strict=True)):
        np.testing.assert_allclose(found[i], loss(*own), rtol=1e-6)


def test_a_learned_temperature_divides_the_inputs():
    arguments = problem(20, 8, 0)
    x, items = arguments["inputs"], arguments["items"]

    def ours(temperature):
        return fastnce.jax.in_batch_softmax_loss(x / temperature, items).mean()

    def theirs(temperature):
        logits = x @ items.T / temperature
        return -jnp.diag(jax.nn.log_softmax(logits)).mean()

    np.testing.assert_allclose(jax.grad(ours)(0.3), jax.grad(theirs)(0.3), rtol=1e-4)


def test_an_empty_batch_has_no_losses():
    empty = jnp.zeros((0, 4))
    assert fastnce.jax.in_batch_softmax_loss(empty, empty).shape == (0,)


X, IDS = np.zeros((5, 6), np.float32), np.arange(5)
LISTS = Ragged(IDS, np.arange(6))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"items": X[:4]}, ValueError, ["items has shape [4, 6]", "[5, 6]"]),
        ({"items": X.astype("f2"), "inputs": X.astype("i4")}, TypeError, ["inputs", "int32"]),
        ({"item_ids": IDS[:4]}, ValueError, ["item_ids has shape [4]", "[5]"]),
        ({"item_ids": IDS + 2**40}, ValueError, ["item_ids", "jax_enable_x64"]),
        ({"item_ids": None}, ValueError, ["exclude is given but item_ids is None"]),
        ({"log_q": IDS[:2]}, ValueError, ["log_q has shape [2]"]),
        ({"extra": (X[:2], None, None)}, ValueError, ["item_ids is given but item_ids of extra is None"]),
        ({"extra": (X[:2, :3], IDS[:2], None)}, ValueError, ["items of extra has shape [2, 3]", "D = 6"]),
        ({"extra": (X[:2].astype("f2"), IDS[:2], None)}, TypeError, ["items of extra has dtype float16"]),
        ({"exclude": IDS}, TypeError, ["exclude is a ndarray", "fastnce.Ragged"]),
        ({"temperature": 0.0}, ValueError, ["temperature = 0"]),
    ],
)
def test_it_refuses(change, error, words):
    with pytest.raises(error) as raised:
        fastnce.jax.in_batch_softmax_loss(**{"inputs": X, "items": X, "item_ids": IDS, "exclude": LISTS, **change})
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_a_log_q_that_is_not_finite_is_an_error():
    log_q = np.where(IDS == 3, np.nan, 0.0)
    with pytest.raises((jax.errors.JaxRuntimeError, ValueError), match=r"log_q\[3"):
        jax.block_until_ready(fastnce.jax.in_batch_softmax_loss(X, X, log_q=log_q))
