"""fastnce.torch names what is wrong with its arguments before it counts, draws or writes anything."""

from __future__ import annotations

import re

import pytest

import fastnce
from fastnce import _core

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fastnce.torch  # noqa: E402
from torch_cases import CLASSES, SAMPLED, WIDTH, assert_equal, batch, module  # noqa: E402

FUNCTIONS = (
    fastnce.torch.nce_loss,
    fastnce.torch.sampled_softmax_loss,
    fastnce.torch.negative_sampling_loss,
)
MODULES = ("NCELoss", "SampledSoftmaxLoss", "NegativeSamplingLoss")

INTEGERS = "target has dtype torch.{}: expected integers"
FLOATS = "{} has dtype torch.{}: expected float32, float64, float16 or bfloat16"
SWAPPED = INTEGERS.format("float32") + "; input comes before target"
NO_TENSOR = "{} is {}: expected a torch.Tensor"
ON_META = "{} is on device meta: expected cpu, the device of input"
TOO_LARGE = f"{{}} = {2**63}: expected an integer of at most 2^63 - 1"
SPARSE = "{} has layout torch.sparse_coo: expected torch.strided; call {}.to_dense()"

# What replaces arguments, by name, the type of the error, and how its message begins.
OF_EVERY_LOSS = [
    (lambda a: dict(input=a["target"], target=a["input"]), TypeError, SWAPPED),
    (lambda a: dict(input=a["input"].detach().numpy()), TypeError, NO_TENSOR.format("input", "an ndarray")),
    (lambda a: dict(target=a["target"].numpy()), TypeError, NO_TENSOR.format("target", "an ndarray")),
    (lambda a: dict(target=None), TypeError, NO_TENSOR.format("target", "None")),
    (lambda a: dict(target=3), TypeError, NO_TENSOR.format("target", "an int")),
    (lambda a: dict(input=[[0.5]]), TypeError, NO_TENSOR.format("input", "a list")),
    (lambda a: dict(target=a["target"].float()), TypeError, INTEGERS.format("float32")),
    (lambda a: dict(target=a["target"] > 3), TypeError, INTEGERS.format("bool")),
    (lambda a: dict(target=a["target"].cfloat()), TypeError, INTEGERS.format("complex64")),
    (lambda a: dict(input=a["input"].int()), TypeError, FLOATS.format("input", "int32")),
    (lambda a: dict(input=a["input"].cfloat()), TypeError, FLOATS.format("input", "complex64")),
    (lambda a: dict(target=a["target"].to_sparse()), TypeError, SPARSE.format("target", "target")),
    (lambda a: dict(input=a["input"].detach().to_sparse()), TypeError, SPARSE.format("input", "input")),
    (lambda a: dict(target=a["target"].to("meta")), ValueError, ON_META.format("target")),
    (lambda a: dict(input=a["input"][0]), ValueError, "inputs has shape [6]"),
    (lambda a: dict(input=a["input"][0, 0]), ValueError, "input has shape []: expected [B, D]"),
    (
        lambda a: dict(input=a["input"].double()),
        TypeError,
        "weight has dtype torch.float32 but input has dtype torch.float64: expected torch.float64, too; "
        "call input.float()",
    ),
    (lambda a: dict(input=a["input"][:, :5]), ValueError, "weights has shape [40, 6]: expected [V, D] with D = 5"),
    (lambda a: dict(input=a["input"][:6]), ValueError, "labels has shape [7]: expected [B, num_true] = [6, 1]"),
    (lambda a: dict(target=a["target"][:6]), ValueError, "labels has shape [6]: expected [B, num_true] = [7, 1]"),
    (lambda a: dict(target=a["target"][0]), ValueError, "labels has shape []"),
]
OF_MODULE = [
    (lambda a: dict(weight=torch.ones(6)), ValueError, "weight has shape [6]: expected [B] = [7]"),
    (lambda a: dict(weight=torch.ones(7, 1)), ValueError, "weight has shape [7, 1]: expected [B] = [7]"),
    (lambda a: dict(weight=2.0), TypeError, NO_TENSOR.format("weight", "a float")),
    (
        lambda a: dict(weight=torch.ones(7).cfloat()),
        TypeError,
        "weight has dtype torch.complex64: expected real",
    ),
    (lambda a: dict(weight=torch.ones(7, device="meta")), ValueError, ON_META.format("weight")),
    (lambda a: dict(input=a["target"], target=torch.ones(7), weight=a["input"]), TypeError, SWAPPED),
]
OF_FUNCTION = [
    (lambda a: dict(weight=a["bias"], bias=a["weight"]), ValueError, "weights has shape [40]"),
    (lambda a: dict(weight=a["weight"].long()), TypeError, FLOATS.format("weight", "int64")),
    (
        lambda a: dict(bias=a["bias"].double()),
        TypeError,
        "bias has dtype torch.float64 but input has dtype torch.float32: expected float32, float16 or bfloat16; "
        "call bias.float()",
    ),
    (lambda a: dict(ignore_index=2**63), ValueError, TOO_LARGE.format("ignore_index")),
    (lambda a: dict(bias=a["bias"].long()), TypeError, FLOATS.format("bias", "int64")),
    (lambda a: dict(weight=a["weight"].detach().to("meta")), ValueError, ON_META.format("weight")),
    (lambda a: dict(weight=None), TypeError, NO_TENSOR.format("weight", "None")),
    (lambda a: dict(example_weight=torch.ones(6)), ValueError, "example_weight has shape [6]: expected [B] = [7]"),
    (lambda a: dict(example_weight=[1.0]), TypeError, NO_TENSOR.format("example_weight", "a list")),
    (lambda a: dict(reduction="average"), ValueError, "reduction = 'average': expected 'mean', 'sum' or 'none'"),
    (lambda a: dict(precision="tf32"), ValueError, "precision = 'tf32': expected 'highest', 'high' or 'medium'"),
    (lambda a: dict(ignore_index=1.5), TypeError, "ignore_index is a float: expected an integer"),
]
OF_SAMPLES = [
    (lambda a: dict(sampled_values=None), TypeError, "sampled_values is None: expected three tensors"),
    (lambda a: dict(sampled_values=a["target"]), TypeError, "sampled_values is a Tensor: expected three tensors"),
    (lambda a: dict(sampled_values=()), ValueError, "sampled_values has 0 values: expected three tensors"),
    (lambda a: dict(sampled_values=(1, 2, 3, 4)), ValueError, "sampled_values has 4 values: expected three tensors"),
    (lambda a: dict(sampled_values=(1, 2, 3)), TypeError, NO_TENSOR.format("sampled_candidates", "an int")),
    (
        lambda a: dict(sampled_values=a["sampled_values"][::-1]),
        TypeError,
        "sampled_candidates has dtype torch.float32: expected integers",
    ),
    (
        lambda a: dict(sampled_values=(a["sampled_values"][0], a["input"], a["sampled_values"][2])),
        ValueError,
        "true_expected_count requires a gradient, which the loss does not have: pass true_expected_count.detach()",
    ),
    (
        lambda a: dict(sampled_values=(a["sampled_values"][0], None, a["sampled_values"][2])),
        TypeError,
        NO_TENSOR.format("true_expected_count", "None"),
    ),
]
OF_NEGATIVE_SAMPLING = [
    (lambda a: dict(sampled_candidates=None), TypeError, NO_TENSOR.format("sampled_candidates", "None")),
    (lambda a: dict(sampled_candidates=a["input"]), TypeError, "sampled_candidates has dtype torch.float32: expected"),
    (lambda a: dict(positive_weight="1"), TypeError, "positive_weight is a str: expected a number"),
    (lambda a: dict(negative_weight=float("inf")), ValueError, "negative_weight = inf: expected a finite number"),
    (lambda a: dict(negative_weight=10**400), ValueError, "negative_weight is an integer too large for a float"),
    (lambda a: dict(positive_weight=1e300), ValueError, "positive_weight = 1e+300: expected a finite number"),
    (lambda a: dict(positive_weight=torch.ones(6)), ValueError, "positive_weight has shape [6]: expected [B] = [7]"),
    (
        lambda a: dict(negative_weight=torch.ones(7, requires_grad=True)),
        ValueError,
        "negative_weight requires a gradient, which the loss does not have: pass negative_weight.detach()",
    ),
    (
        lambda a: dict(negative_weight=torch.ones(7, device="meta")),
        ValueError,
        ON_META.format("negative_weight"),
    ),
]
OF_SAMPLER = [
    (lambda a: dict(target=5), TypeError, NO_TENSOR.format("target", "an int")),
    (lambda a: dict(target=a["input"]), TypeError, INTEGERS.format("float32")),
    (lambda a: dict(num_sampled=a["target"], target=5), TypeError, NO_TENSOR.format("target", "an int")),
    (lambda a: dict(num_sampled=2.5), TypeError, "num_sampled is a float: expected an integer"),
    (lambda a: dict(num_classes="40"), TypeError, "num_classes is a str: expected an integer"),
    (lambda a: dict(num_classes=5, num_sampled=40), ValueError, "num_sampled = 40"),
    (lambda a: dict(seed="one"), TypeError, "seed is a str: expected an integer"),
    (lambda a: dict(num_sampled=2**63), ValueError, TOO_LARGE.format("num_sampled")),
    (lambda a: dict(num_classes=2**63), ValueError, TOO_LARGE.format("num_classes")),
    (lambda a: dict(calls=2**63), ValueError, TOO_LARGE.format("calls")),
    (lambda a: dict(calls=-(2**64)), ValueError, f"calls = {-(2**64)}: expected an integer of at least -2^63"),
    (lambda a: dict(target=a["target"][0]), ValueError, "true_classes has shape []"),
    (lambda a: dict(target=a["target"][0].to("meta")), ValueError, "true_classes has shape []"),
    (lambda a: dict(calls=-1), ValueError, "calls = -1: expected at least 0"),
    (lambda a: dict(calls=1.5), TypeError, "calls is a float: expected an integer"),
    (lambda a: dict(calls=torch.tensor(1.5)), TypeError, "calls has dtype torch.float32: expected integers"),
    (lambda a: dict(calls=torch.tensor([1, 2])), ValueError, "calls has shape [2]: expected a scalar"),
    (
        lambda a: dict(calls=torch.tensor(1, device="meta")),
        ValueError,
        "calls is on device meta: expected cpu, the device of target",
    ),
]
OF_CONSTRUCTOR = [
    (lambda a: dict(num_classes=2.0), TypeError, "num_classes is a float: expected an integer"),
    (lambda a: dict(embedding_dim="6"), TypeError, "embedding_dim is a str: expected an integer"),
    (lambda a: dict(num_classes=2**63), ValueError, TOO_LARGE.format("num_classes")),
    (lambda a: dict(embedding_dim=2**63), ValueError, TOO_LARGE.format("embedding_dim")),
    (lambda a: dict(ignore_index=2**63), ValueError, TOO_LARGE.format("ignore_index")),
    (lambda a: dict(seed=(1, 2**64)), ValueError, f"seed[1] = {2**64}: expected a 64-bit integer"),
    (lambda a: dict(embedding_dim=-1), ValueError, "embedding_dim = -1: expected at least 0"),
    (lambda a: dict(num_sampled=2.5), TypeError, "num_sampled is a float: expected an integer"),
    (lambda a: dict(num_classes=5, num_sampled=40), ValueError, "num_sampled = 40"),
    (lambda a: dict(num_true=1.0), TypeError, "num_true is a float: expected an integer"),
    (lambda a: dict(ignore_index="pad"), TypeError, "ignore_index is a str: expected an integer"),
    (lambda a: dict(seed=0.5), TypeError, "seed is a float: expected an integer"),
    (
        lambda a: dict(dtype=torch.int64),
        TypeError,
        "dtype is torch.int64: expected float32, float64,",
    ),
    (lambda a: dict(precision="hihg"), ValueError, "precision = 'hihg': expected 'highest', 'high' or 'medium'"),
    (lambda a: dict(true_target="two"), ValueError, "true_target = 'two': expected 'mean' or 'one'"),
]


def assert_refused(function, arguments, changes, error, message):
    with pytest.raises(error, match="^" + re.escape(message)) as caught:
        function(**{**arguments, **changes(arguments)})
    assert type(caught.value) is error


@pytest.mark.parametrize(("changes", "error", "message"), OF_EVERY_LOSS + OF_MODULE)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction": "none"},
        {"ignore_index": None},
        {"loss": "SampledSoftmaxLoss"},
        {"loss": "NegativeSamplingLoss"},
    ],
    ids=str,
)
def test_of_the_module(changes, error, message, options):
    x, target = batch()
    criterion = module(**options)
    state = torch.get_rng_state()
    assert_refused(criterion, {"input": x, "target": target}, changes, error, message)
    assert criterion.calls == 0
    if not message.split(" ")[0].endswith("s"):  # else the library refuses it, under its own names
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("function", FUNCTIONS[:2])
@pytest.mark.parametrize(("changes", "error", "message"), OF_EVERY_LOSS + OF_FUNCTION + OF_SAMPLES)
def test_of_the_function(changes, error, message, function):
    assert_refused(function, arguments_of_a_function(), changes, error, message)


@pytest.mark.parametrize(("changes", "error", "message"), OF_EVERY_LOSS + OF_FUNCTION + OF_NEGATIVE_SAMPLING)
def test_of_negative_sampling(changes, error, message):
    arguments = arguments_of_a_function()
    arguments["sampled_candidates"] = arguments.pop("sampled_values")[0]
    assert_refused(fastnce.torch.negative_sampling_loss, arguments, changes, error, message)


def arguments_of_a_function():
    x, target = batch()
    criterion = module()
    sampled = fastnce.torch.log_uniform_candidates(target, SAMPLED, CLASSES, seed=1)
    return dict(input=x, target=target, weight=criterion.weight, bias=criterion.bias, sampled_values=sampled)


@pytest.mark.parametrize(("changes", "error", "message"), OF_SAMPLER)
def test_of_the_sampler(changes, error, message):
    arguments = dict(target=batch()[1], num_sampled=SAMPLED, num_classes=CLASSES, seed=1)

    def sample(input=None, **arguments):
        return fastnce.torch.log_uniform_candidates(**arguments)

    assert_refused(sample, {**arguments, "input": batch()[0]}, changes, error, message)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(("changes", "error", "message"), OF_CONSTRUCTOR)
def test_of_the_constructor(changes, error, message, name):
    arguments = dict(num_classes=CLASSES, embedding_dim=WIDTH, num_sampled=SAMPLED)
    assert_refused(getattr(fastnce.torch, name), arguments, changes, error, message)


@pytest.mark.parametrize("name", ["positive_weight", "negative_weight"])
@pytest.mark.parametrize(("value", "error"), [("1", TypeError), (True, TypeError), (float("nan"), ValueError)])
def test_weights_of_a_module_are_numbers(name, value, error):
    with pytest.raises(error, match=f"^{name} .*: expected a (number$|finite number of float32)"):
        fastnce.torch.NegativeSamplingLoss(CLASSES, WIDTH, SAMPLED, **{name: value})


def test_every_public_name_is_in_a_table():
    functions = [function.__name__ for function in FUNCTIONS]
    of_other_arguments = ["InBatchSoftmaxLoss", "in_batch_softmax_loss", "rank_of_labels", "top_k"]
    over_all_classes = ["sigmoid_loss", "softmax_loss"]
    others = [*of_other_arguments, *over_all_classes, "log_uniform_candidates", "optim"]
    assert sorted(fastnce.torch.__all__) == sorted([*functions, *MODULES, *others])


def test_a_module_on_another_device_is_named():
    x, target = batch()
    criterion = module()
    criterion.weight = torch.nn.Parameter(criterion.weight.to("meta"))
    with pytest.raises(ValueError, match=r"^weight is on device meta: expected cpu, the device of input$"):
        criterion(x, target)
    criterion = module()
    criterion.calls = criterion.calls.to("meta")
    with pytest.raises(ValueError, match=r"^calls is on device meta: expected cpu, the device of input$"):
        criterion(x, target)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_a_call_that_fails_is_not_counted(monkeypatch, error, reduction):
    x, target = batch()
    criterion, other = module(reduction=reduction), module(reduction=reduction)
    criterion(x, target)
    other(x, target)

    def fail(fields):
        raise error

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(_core, "compute_loss", fail)
        criterion(x, target)
    assert criterion.calls == 1
    assert_equal([criterion(x, target)], [other(x, target)])


def test_a_class_out_of_range_is_not_counted():
    x, target = batch()
    criterion = module()
    target[2] = CLASSES
    with pytest.raises(ValueError, match=r"labels\[2, 0\] = 40 is outside"):
        criterion(x, target)
    assert criterion.calls == 0


def test_a_failed_call_does_not_take_back_another_threads_count(monkeypatch):
    x, target = batch()
    criterion = module()

    def fail(fields):
        criterion.calls.add_(1)  # as another thread's call does in the meantime
        raise ValueError

    with monkeypatch.context() as patch, pytest.raises(ValueError):
        patch.setattr(_core, "compute_loss", fail)
        criterion(x, target)
    assert criterion.calls == 2


def test_a_checkpoint_that_fails_in_the_backward_pass_takes_no_count_back(monkeypatch):
    x, target = batch()
    criterion = module()
    loss = torch.utils.checkpoint.checkpoint(criterion, x, target, use_reentrant=False)

    def fail(fields):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_core, "compute_loss", fail)
        loss.backward()
    assert criterion.calls == 1


def test_swapped_arguments_of_a_compiled_module_are_named():
    torch.compiler.reset()
    x, target = batch()
    criterion = module()
    with pytest.raises(TypeError, match=f"^{SWAPPED}$"):
        torch.compile(criterion, backend="aot_eager")(target, x)
    assert criterion.calls == 0


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:, :5], y), "weights has shape"),
        (lambda x, y: (x[:6], y), "labels has shape"),
        (lambda x, y: (x[0], y), "inputs has shape"),
        (lambda x, y: (x, torch.stack([y, y], 1)), "labels has shape"),
    ],
)
def test_wrong_shapes_of_a_compiled_module_are_not_counted(change, message, backend):
    torch.compiler.reset()
    criterion, (x, target) = module(), batch()
    with pytest.raises(Exception, match=message):
        torch.compile(criterion, backend=backend)(*change(x.detach(), target))
    assert criterion.calls == 0
