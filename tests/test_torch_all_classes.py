"""What PyTorch computes over all classes: exact losses against its own, top_k and ranks against a sort."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", minversion="2.6", reason="fastnce.torch needs PyTorch 2.6 or later")

from torch.nn import functional as F  # noqa: E402

import fastnce.torch  # noqa: E402
from fastnce import Ragged, metrics, reference  # noqa: E402

B, V, D = 33, 70, 9
GENERATOR = torch.Generator().manual_seed(0)
TARGET = torch.randint(V, (B,), generator=GENERATOR)
LISTS = Ragged(torch.randint(V, (40,), generator=GENERATOR), torch.tensor([0, 0, 5, *range(6, 36), 40]))
COMPILES = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def leaves(dtype=torch.float64):
    """Input, weight and bias."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((B, D), (V, D), (V,))
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def softmax_of_pytorch(x, target, w, c, **options):
    return F.cross_entropy(x @ w.T + c, target, **options)


def sigmoid_of_pytorch(x, target, w, c, reduction="mean", ignore_index=-100):
    used = target != ignore_index
    labels = F.one_hot(target.masked_fill(~used, 0), V).to(x.dtype)
    losses = F.binary_cross_entropy_with_logits(x @ w.T + c, labels, reduction="none").sum(1) * used
    return losses if reduction == "none" else losses.sum() / (used.sum() if reduction == "mean" else 1)


LOSSES = {
    "softmax": (fastnce.torch.softmax_loss, softmax_of_pytorch, reference.softmax_loss_and_grad),
    "sigmoid": (fastnce.torch.sigmoid_loss, sigmoid_of_pytorch, reference.sigmoid_loss_and_grad),
}
EVERY_LOSS = pytest.mark.parametrize("name", LOSSES)


def with_gradients(loss, tensors, factor=1.0):
    (loss.sum() * factor).backward()
    results = [loss.detach(), *(tensor.grad for tensor in tensors)]
    for tensor in tensors:
        tensor.grad = None
    return results


@EVERY_LOSS
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("factor", [1.0, -0.3])
def test_losses_and_gradients_are_pytorchs(name, reduction, ignored, factor):
    ours, theirs, _ = LOSSES[name]
    target = TARGET.masked_fill(torch.arange(B) % 3 == 0, -100) if ignored else TARGET
    tensors = x, w, c = leaves()
    found = with_gradients(ours(x, target, w, c, reduction=reduction), tensors, factor)
    expected = with_gradients(theirs(x, target, w, c, reduction=reduction), tensors, factor)
    torch.testing.assert_close(found, expected)
    assert not found[2].is_sparse


@EVERY_LOSS
def test_lists_weights_and_exclusions_are_the_twins(name):
    ours, _, twin = LOSSES[name]
    tensors = x, w, c = leaves()
    weights = torch.rand(40, generator=GENERATOR, dtype=torch.float64)
    exclude = Ragged(torch.randint(V, (2 * B,), generator=GENERATOR), torch.arange(0, 2 * B + 1, 2))
    options = {"label_weights": weights, "exclude": exclude, "true_target": "one"}
    found = with_gradients(ours(x, LISTS, w, c, reduction="sum", **options), tensors)
    arrays = [tensor.detach().numpy() for tensor in (w, c)]
    lists, excluded = (Ragged(*(part.numpy() for part in some)) for some in (LISTS, exclude))
    options |= {"label_weights": weights.numpy(), "exclude": excluded}
    losses, grads = twin(*arrays, lists, x.detach().numpy(), **options)
    for got, truth in zip(found, (losses.sum(), grads.inputs, grads.weights, grads.biases), strict=True):
        np.testing.assert_allclose(got, truth, rtol=1e-10, atol=1e-10)


@EVERY_LOSS
def test_the_mean_counts_examples_with_a_class(name):
    x, w, c = leaves()
    each = LOSSES[name][0](x, LISTS, w, c, reduction="none")
    lengths = LISTS.offsets.diff()
    assert (each[lengths == 0] == 0).all()
    torch.testing.assert_close(LOSSES[name][0](x, LISTS, w, c), each.sum() / (lengths > 0).sum())


@COMPILES
@EVERY_LOSS
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiled_they_are_the_same(name, reduction):
    ours = LOSSES[name][0]
    tensors = x, w, c = leaves(torch.float32)
    expected = with_gradients(ours(x, TARGET, w, c, reduction=reduction), tensors, 0.5)
    compiled = torch.compile(ours, fullgraph=True)
    torch.testing.assert_close(with_gradients(compiled(x, TARGET, w, c, reduction=reduction), tensors, 0.5), expected)


@EVERY_LOSS
def test_a_gradient_of_its_own_for_each_backward_pass(name):
    x, w, c = leaves()
    loss = LOSSES[name][0](x, TARGET, w, c)
    first, second = (torch.autograd.grad(loss, (x, w, c), retain_graph=True) for _ in range(2))
    for gradient in first:
        gradient.zero_()
    assert all(gradient.abs().sum() > 0 for gradient in second)


@EVERY_LOSS
def test_second_derivatives_are_errors(name):
    x, w, c = leaves()
    (gradient,) = torch.autograd.grad(LOSSES[name][0](x, TARGET, w, c), x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot differentiate twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_have_gradients_of_their_type(dtype):
    tensors = x, w, c = [tensor.detach().to(dtype).requires_grad_() for tensor in leaves(torch.float32)]
    found = with_gradients(fastnce.torch.softmax_loss(x, TARGET, w, c), tensors)
    wide = [tensor.detach().float().requires_grad_() for tensor in tensors]
    expected = with_gradients(softmax_of_pytorch(wide[0], TARGET, *wide[1:]), wide)
    assert [tensor.dtype for tensor in found] == [torch.float32, dtype, dtype, dtype]
    for got, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(got.float(), truth, rtol=2e-2, atol=1e-4)


def test_top_k_and_ranks_are_those_of_a_sort():
    x, w, c = leaves(torch.float32)
    scores = (x @ w.T + c).detach()
    expected, order = scores.sort(descending=True)
    best, ids = fastnce.torch.top_k(x, w, c, 5)
    torch.testing.assert_close(best, expected[:, :5])
    assert torch.equal(ids, order[:, :5]) and not best.requires_grad
    ranks = fastnce.torch.rank_of_labels(x, TARGET, w, c)
    assert torch.equal(ranks, (order == TARGET[:, None]).nonzero()[:, 1] + 1.0)
    assert metrics.hits_at_k(ranks, 5) == float((ranks <= 5).double().mean())


def test_excluded_classes_are_neither_listed_nor_counted():
    x, w, c = leaves(torch.float32)
    _, ids = fastnce.torch.top_k(x, w, c, 3)
    exclude = Ragged(ids.flatten(), torch.arange(0, 3 * B + 1, 3))
    _, others = fastnce.torch.top_k(x, w, c, 3, exclude)
    _, six = fastnce.torch.top_k(x, w, c, 6)
    assert torch.equal(others, six[:, 3:])
    ranks, free = (fastnce.torch.rank_of_labels(x, others[:, 0], w, c, some) for some in (None, exclude))
    assert (ranks == 4).all() and (free == 1).all()


@COMPILES
def test_compiled_evaluation_is_the_same():
    x, w, c = leaves(torch.float32)

    def evaluate(x, target):
        return *fastnce.torch.top_k(x, w, c, 4), fastnce.torch.rank_of_labels(x, target, w, c)

    torch.testing.assert_close(torch.compile(evaluate, fullgraph=True)(x, TARGET), evaluate(x, TARGET))


def test_ignored_targets_have_no_rank():
    x, w, c = leaves(torch.float32)
    target = TARGET.masked_fill(torch.arange(B) == 2, -100)
    ranks = fastnce.torch.rank_of_labels(x, target, w, c)
    assert ranks[2].isnan() and not ranks[torch.arange(B) != 2].isnan().any()
    lists = fastnce.torch.rank_of_labels(x, LISTS, w, c)
    assert lists.shape == (40,)


@pytest.mark.parametrize("loss", ["NCELoss", "SampledSoftmaxLoss", "NegativeSamplingLoss"])
def test_modules_evaluate_their_table(loss):
    criterion = getattr(fastnce.torch, loss)(V, D, 10)
    x, _, _ = leaves(torch.float32)
    tables = (criterion.weight, criterion.bias)
    assert torch.equal(criterion.top_k(x, 4)[1], fastnce.torch.top_k(x, *tables, 4)[1])
    assert torch.equal(criterion.rank(x, TARGET), fastnce.torch.rank_of_labels(x, TARGET, *tables))
    assert torch.equal(
        getattr(fastnce.torch, loss)(V, D, 10, bias=False).top_k(x, V)[0].argsort(1)[0], torch.arange(V).flip(0)
    )


def nested(x):
    return torch.nested.nested_tensor_from_jagged(x, torch.tensor([0, len(x)]))


X, W = torch.zeros(4, 6), torch.zeros(10, 6)
T = torch.tensor([0, 1, 2, 3])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fastnce.torch.softmax_loss(X, T[:3], W, None), ValueError, "labels has shape [3]"),
        (lambda: fastnce.torch.softmax_loss(X, T + 7, W, None), ValueError, "labels[3, 0] = 10 is outside"),
        (lambda: fastnce.torch.softmax_loss(X, T, W[:, :5], None), ValueError, "weights has shape [10, 5]"),
        (lambda: fastnce.torch.sigmoid_loss(X, T, W, None, true_target="all"), ValueError, "true_target"),
        (lambda: fastnce.torch.sigmoid_loss(X.int(), T, W, None), TypeError, "input has dtype torch.int32"),
        (lambda: fastnce.torch.softmax_loss(X, T, W, None, exclude=T), TypeError, "exclude is a Tensor"),
        (lambda: fastnce.torch.top_k(X, W, None, -1), ValueError, "k = -1"),
        (lambda: fastnce.torch.top_k(X, W, None, 2.5), TypeError, "k is a float"),
        (lambda: fastnce.torch.top_k(X, W.double(), None, 2), TypeError, "weight has dtype torch.float64"),
        (lambda: fastnce.torch.top_k(X.numpy(), W, None, 2), TypeError, "input is an ndarray: expected a torch.Tensor"),
        (lambda: fastnce.torch.top_k(nested(X), W, None, 2), TypeError, "expected torch.strided; call input.values()"),
        (lambda: fastnce.torch.softmax_loss(nested(X), T, W, None), TypeError, "call input.values()"),
        (lambda: fastnce.torch.top_k(X.to_sparse(), W, None, 2), TypeError, "call input.to_dense()"),
        (lambda: fastnce.torch.top_k(X, W, None, 2, precision="low"), ValueError, "precision = 'low'"),
        (lambda: fastnce.torch.top_k(X, W, None, 2, precision=1), ValueError, "precision = 1: expected 'highest'"),
        (lambda: fastnce.torch.rank_of_labels(X, T, W, None, precision=1), ValueError, "precision = 1"),
        (lambda: fastnce.torch.rank_of_labels(X, T.float(), W, None), TypeError, "target has dtype torch.float32"),
        (lambda: fastnce.torch.rank_of_labels(X, T - 1, W, None), ValueError, "labels[0, 0] = -1 is outside"),
    ],
)
def test_they_refuse(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value), str(raised.value)


@pytest.mark.cuda
def test_on_a_cuda_device_the_results_are_the_cpus():
    if not torch.cuda.is_available() or not fastnce.cuda.is_available():
        pytest.skip(f"no CUDA device: {fastnce.cuda.unavailable_reason()}")
    on_cpu = leaves(torch.float32)
    on_gpu = [tensor.detach().cuda().requires_grad_() for tensor in on_cpu]
    for ours, _, _ in LOSSES.values():
        for reduction in ("mean", "none"):
            expected = with_gradients(ours(on_cpu[0], TARGET, *on_cpu[1:], reduction=reduction), on_cpu)
            results = with_gradients(ours(on_gpu[0], TARGET.cuda(), *on_gpu[1:], reduction=reduction), on_gpu)
            for result, true in zip(results, expected, strict=True):
                torch.testing.assert_close(result.cpu(), true, rtol=1e-5, atol=1e-6)
    lists = Ragged(*(tensor.cuda() for tensor in LISTS))
    ranks = fastnce.torch.rank_of_labels(on_cpu[0], TARGET, *on_cpu[1:], LISTS)
    assert torch.equal(fastnce.torch.rank_of_labels(on_gpu[0], TARGET.cuda(), *on_gpu[1:], lists).cpu(), ranks)
    scores, ids = fastnce.torch.top_k(on_gpu[0], *on_gpu[1:], 7, lists)
    expected_scores, expected_ids = fastnce.torch.top_k(on_cpu[0], *on_cpu[1:], 7, LISTS)
    assert torch.equal(ids.cpu(), expected_ids)
    torch.testing.assert_close(scores.cpu(), expected_scores)
