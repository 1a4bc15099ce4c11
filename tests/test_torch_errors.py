"""fastnce.torch refuses what the NumPy entry refuses, in the same words, and what PyTorch's idiom adds."""

from __future__ import annotations

import pytest

import fastnce

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fastnce.torch  # noqa: E402
from torch_cases import batch, module  # noqa: E402


def numpy_error(x, target, criterion, **changes):
    """What the NumPy entry says of the same arguments."""
    arguments = dict(
        weights=criterion.weight.detach().numpy(),
        biases=criterion.bias.detach().numpy(),
        labels=target.numpy(),
        inputs=x.detach().numpy(),
        num_sampled=5,
        num_classes=40,
        num_true=target.shape[1] if target.ndim == 2 else 1,
    )
    with pytest.raises((ValueError, TypeError)) as caught:
        fastnce.nce_loss_and_grad(**{**arguments, **changes})
    return caught.value


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x, y: (x, torch.where(y == y[3], 40, y)),
        lambda x, y: (x, torch.where(y == y[3], -7, y)),
        lambda x, y: (x[:, :5], y),
        lambda x, y: (x[:6], y),
        lambda x, y: (x[0], y),
        lambda x, y: (x, y[:, None, None]),
    ],
    ids=["class", "negative", "width", "batch", "rank", "labels rank"],
)
@pytest.mark.parametrize("mode", ["gradients", "none", "no_grad"])
def test_errors_are_the_numpy_entrys(spoil, mode):
    x, target = spoil(batch()[0].detach(), batch()[1])
    criterion = module(reduction="none" if mode == "none" else "mean")
    expected = numpy_error(x, target, criterion)
    with pytest.raises(type(expected)) as caught, torch.set_grad_enabled(mode != "no_grad"):
        criterion(x, target)
    assert str(caught.value) == str(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(sampler="uniform"), "sampler = 'uniform': expected 'log_uniform'"),
        (dict(reduction="average"), "reduction = 'average': expected 'mean', 'sum' or 'none'"),
        (dict(num_sampled=41), "num_sampled = 41"),
        (dict(num_sampled=0), "num_sampled = 0"),
        (dict(num_true=0), "num_true = 0: expected at least 1"),
        (dict(num_classes=0), "range_max = 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fastnce.torch.NCELoss(**{"num_classes": 40, "embedding_dim": 6, "num_sampled": 5, **options})


@pytest.mark.parametrize("num_true", [1, 3])
def test_the_number_of_true_classes_is_the_modules(num_true):
    x, _ = batch()
    target = torch.zeros(7, 4 - num_true, dtype=torch.int64)
    with pytest.raises(ValueError, match=rf"labels has shape .*expected \[B, num_true\] = \[7, {num_true}\]"):
        module(num_true=num_true)(x, target)


@pytest.mark.parametrize(
    ("calls", "error", "message"),
    [(-1, ValueError, "calls = -1: expected at least 0"), (1.5, TypeError, "calls is a float: expected an integer")],
)
def test_positions_in_the_stream_are_counts(calls, error, message):
    with pytest.raises(error, match=message):
        fastnce.torch.log_uniform_candidates(batch()[1], 5, 40, seed=1, calls=calls)


def test_an_unknown_precision_is_refused():
    x, target = batch()
    criterion = module()
    criterion.precision = "tf32"
    with pytest.raises(ValueError, match="precision = 'tf32': expected 'highest', 'high' or 'medium'"):
        criterion(x, target)


def test_a_failed_call_leaves_no_gradient():
    x, target = batch()
    criterion = module()
    target[0] = 40
    with pytest.raises(ValueError, match="outside"):
        criterion(x, target)
    assert x.grad is criterion.weight.grad is None


@pytest.mark.parametrize("count", [0.0, -2.0, float("nan")])
@pytest.mark.parametrize("mode", ["eager", "aot_eager"])
def test_expected_counts_without_a_logarithm_are_refused(count, mode):
    x, target = batch()
    criterion = module()
    sampled = fastnce.torch.log_uniform_candidates(target, 5, 40, seed=1)

    def loss(sampled):
        return fastnce.torch.nce_loss(x, target, criterion.weight, criterion.bias, sampled)

    if mode != "eager":
        torch.compiler.reset()
        loss = torch.compile(loss, fullgraph=True, backend=mode)
    for name, at, element in (("true_expected_count", (4, 0), "4, 0"), ("sampled_expected_count", (3,), "3")):
        spoilt = getattr(sampled, name).clone()
        spoilt[at] = count
        with pytest.raises(ValueError, match=rf"^{name}\[{element}\] = {count:g}: expected a positive, finite"):
            loss(sampled._replace(**{name: spoilt}))


def test_the_numpy_functions_name_fastnce_torch_for_tensors_that_require_a_gradient():
    x, target = batch()
    criterion = module()
    for name in ("weights", "biases", "inputs"):
        tensors = dict(weights=criterion.weight.detach(), biases=criterion.bias.detach(), inputs=x.detach())
        tensors[name].requires_grad_()
        for function in (fastnce.nce_loss, fastnce.nce_loss_and_grad):
            with pytest.raises(
                ValueError, match=rf"^{name} requires a gradient, .* use fastnce.torch, or pass {name}.detach"
            ):
                function(**tensors, labels=target, num_sampled=5, num_classes=40)


@pytest.mark.parametrize("name", ["nce_loss", "sampled_softmax_loss", "negative_sampling_loss"])
@pytest.mark.parametrize("flag", ["sparse", "remove_accidental_hits"])
@pytest.mark.parametrize("value", ["no", 1, None], ids=str)
def test_flags_are_bools(name, flag, value):
    (x, target), criterion = batch(), module()
    samples = (torch.arange(5), None, None)
    function = getattr(fastnce.torch, name)
    with pytest.raises(TypeError, match=rf"^{flag} is (a str|an int|None): expected a bool$"):
        function(
            *(x, target, criterion.weight, criterion.bias, samples if "neg" not in name else samples[0]),
            **{flag: value},
        )


@pytest.mark.parametrize("flag", ["bias", "sparse", "remove_accidental_hits"])
def test_flags_of_modules_are_bools(flag):
    with pytest.raises(TypeError, match=rf"^{flag} is a str: expected a bool$"):
        module(**{flag: "no"})


@pytest.mark.parametrize("value", [None, "sum"])
def test_the_target_of_a_true_class_is_mean_or_one(value):
    (x, target), criterion = batch(), module()
    samples = (torch.arange(5), None, None)
    for function in (fastnce.torch.nce_loss, fastnce.torch.sampled_softmax_loss):
        with pytest.raises(ValueError, match=f"^true_target = {value!r}: expected 'mean' or 'one'$"):
            function(x, target, criterion.weight, criterion.bias, samples, true_target=value)


@pytest.mark.parametrize("name", ["positive_weight", "negative_weight"])
@pytest.mark.parametrize(
    ("value", "got"),
    [
        (10**400, " is an integer too large for a float"),
        (-(10**400), " is an integer too large for a float"),
        (float("nan"), " = nan"),
        (1e300, r" = 1e\+300"),
        (-1e39, r" = -1e\+39"),
    ],
    ids=["integer", "negative integer", "nan", "1e300", "-1e39"],
)
def test_weights_of_terms_are_finite(name, value, got):
    (x, target), criterion = batch(), module()
    message = rf"^{name}{got}: expected a finite number of float32, at most 3\.40282e\+38 in magnitude$"
    with pytest.raises(ValueError, match=message):
        fastnce.torch.negative_sampling_loss(
            x, target, criterion.weight, criterion.bias, torch.arange(5), **{name: value}
        )
    with pytest.raises(ValueError, match=message):
        module(loss="NegativeSamplingLoss", **{name: value})


def test_weights_of_terms_are_as_wide_as_the_tables():
    x, target = batch()
    criterion = module(loss="NegativeSamplingLoss", negative_weight=1e300, dtype=torch.float64)
    assert torch.isfinite(criterion(x.detach().double(), target))
