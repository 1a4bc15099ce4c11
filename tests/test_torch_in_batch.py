"""The in-batch softmax in PyTorch: against the float64 twin, through autograd, compiled, as a module."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", minversion="2.6", reason="fastnce.torch needs PyTorch 2.6 or later")

from torch.utils.checkpoint import checkpoint  # noqa: E402

import fastnce.torch  # noqa: E402
from fastnce import FrequencyEstimator, Ragged, reference  # noqa: E402
from test_in_batch import problem  # noqa: E402
from tolerances import IN_BATCH_RELATIVE, relative_error  # noqa: E402


def tensors_of(arguments):
    """The problem in tensors, with gradients to come for embeddings and for the weights of examples."""
    tensor = lambda value: None if value is None else torch.from_numpy(value)  # noqa: E731
    given = {name: tensor(arguments[name]) for name in ("inputs", "items", "item_ids", "log_q", "grad_loss")}
    given["input"], given["example_weight"] = given.pop("inputs"), given.pop("grad_loss")
    given["temperature"] = arguments["temperature"]
    if "extra" in arguments:
        given["extra"] = tuple(map(tensor, arguments["extra"]))
        given["extra"][0].requires_grad_()
    if "exclude" in arguments:
        given["exclude"] = Ragged(*map(tensor, arguments["exclude"]))
    for name in ("input", "items"):
        given[name].requires_grad_()
    return given


def gradients_of(given):
    embeddings = [given["input"], given["items"], *([given["extra"][0]] if "extra" in given else [])]
    return [tensor.grad.numpy() for tensor in embeddings]


@pytest.mark.parametrize("sizes", [(2, 8, 0), (65, 33, 0), (130, 16, 70)], ids=str)
@pytest.mark.parametrize("options", [dict(), dict(ids=True, log_q=True, excluded=True, temperature=0.05)], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss_and_gradients_are_the_twins(sizes, options, reduction):
    arguments = problem(*sizes, **options)
    weights = arguments["grad_loss"] / (sizes[0] if reduction == "mean" else 1)
    losses, *gradients = reference.in_batch_softmax_loss_and_grad(**{**arguments, "grad_loss": weights})
    given = tensors_of(arguments)
    value = fastnce.torch.in_batch_softmax_loss(**given, reduction=reduction)
    expected = losses * weights
    value.sum().backward()
    limit = IN_BATCH_RELATIVE["float32"]
    assert relative_error(value.detach().numpy(), expected if reduction == "none" else expected.sum()) <= limit * 5
    for got, truth in zip(gradients_of(given), gradients, strict=True):
        assert relative_error(got, truth) <= limit


def test_gradcheck():
    given = tensors_of(problem(6, 4, 3, "float64", ids=True, log_q=True, excluded=True, temperature=0.5))
    fixed = {name: given[name] for name in ("item_ids", "log_q", "exclude", "temperature")}
    more, more_ids, more_log_q = given["extra"]

    def loss(x, items, more):
        extra = (more, more_ids, more_log_q)
        return fastnce.torch.in_batch_softmax_loss(x, items, extra=extra, **fixed)

    assert torch.autograd.gradcheck(loss, (given["input"], given["items"], more))


def test_a_learned_temperature_divides_the_input():
    given = tensors_of(problem(20, 8, 0, "float64"))
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    loss = fastnce.torch.in_batch_softmax_loss(given["input"] / temperature, given["items"])
    loss.backward()
    logits = given["input"].detach() @ given["items"].detach().T
    again = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.cross_entropy(logits / again, torch.arange(20)).backward()
    torch.testing.assert_close(temperature.grad, again.grad)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiled_it_is_the_same():
    given = tensors_of(problem(40, 8, 20, ids=True, log_q=True, excluded=True, temperature=0.5))
    eager = fastnce.torch.in_batch_softmax_loss(**given)
    eager.backward()
    expected = gradients_of(given)
    for tensor in (given["input"], given["items"], given["extra"][0]):
        tensor.grad = None
    compiled = torch.compile(fastnce.torch.in_batch_softmax_loss, fullgraph=True)(**given)
    compiled.backward()
    torch.testing.assert_close(compiled, eager)
    for got, truth in zip(gradients_of(given), expected, strict=True):
        np.testing.assert_allclose(got, truth, rtol=1e-5, atol=1e-7)


def test_an_empty_batch_has_no_loss():
    x = torch.zeros(0, 4, requires_grad=True)
    loss = fastnce.torch.in_batch_softmax_loss(x, torch.zeros(0, 4))
    loss.backward()
    assert loss.item() == 0 and x.grad.shape == (0, 4)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("alone", ["input", "items", "extra", "example_weight", None])
def test_an_empty_batch_has_gradients_of_whatever_wants_one(reduction, alone):
    shapes = {"input": (0, 4), "items": (0, 4), "extra": (0, 4), "example_weight": (0,)}
    given = {name: torch.zeros(shape, requires_grad=alone in (None, name)) for name, shape in shapes.items()}
    loss = fastnce.torch.in_batch_softmax_loss(**{**given, "extra": (given["extra"], None, None)}, reduction=reduction)
    assert loss.shape == ((0,) if reduction == "none" else ())
    loss.sum().backward()
    assert all(tensor.grad.shape == tensor.shape for tensor in given.values() if tensor.requires_grad)


@pytest.mark.parametrize("extra", [False, True])
def test_items_of_any_strides(extra):
    x, columns, plain = torch.randn(5, 6), torch.randn(6, 5, requires_grad=True), torch.randn(5, 6, requires_grad=True)
    with torch.no_grad():
        plain.copy_(columns.T)
    more = (torch.randn(6, 3).T, None, None) if extra else None
    strided, usual = (fastnce.torch.in_batch_softmax_loss(x, items, extra=more) for items in (columns.T, plain))
    assert torch.equal(strided, usual)
    strided.backward()
    usual.backward()
    assert torch.equal(columns.grad.T, plain.grad)
    one = torch.ones((), requires_grad=True)
    fastnce.torch.in_batch_softmax_loss(x, one.expand(5, 6)).backward()  # items are all the same
    torch.testing.assert_close(one.grad, torch.zeros(()), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_of_the_loss_does_not_depend_on_the_size_of_the_batch(dtype):
    x = torch.zeros(1, 4, dtype=dtype)
    empty, one = (fastnce.torch.in_batch_softmax_loss(x[:size], x[:size]) for size in (0, 1))
    assert empty.dtype == one.dtype


def test_the_module_learns_frequencies_in_training_only():
    criterion = fastnce.torch.InBatchSoftmaxLoss(0.5, frequency=FrequencyEstimator(50, rate=0.1))
    twin = FrequencyEstimator(50, rate=0.1)
    x, items = torch.randn(2, 30, 8)
    ids = torch.randint(50, (30,))
    for _ in range(3):
        expected = fastnce.torch.in_batch_softmax_loss(x, items, ids, log_q=twin(ids), temperature=0.5)
        torch.testing.assert_close(criterion(x, items, ids), expected)
    criterion.eval()
    before = criterion.frequency.state
    log_q = twin.log_q(ids, 30)
    expected = fastnce.torch.in_batch_softmax_loss(x, items, ids, log_q=log_q, temperature=0.5)
    torch.testing.assert_close(criterion(x, items, ids), expected)
    np.testing.assert_equal(criterion.frequency.state, before)


def made(num_items=50, **options):
    return fastnce.torch.InBatchSoftmaxLoss(frequency=FrequencyEstimator(num_items, **options))


def learned():
    """A module that has learned a batch, which follows."""
    first, batch = made(), (*torch.randn(2, 30, 8), torch.randint(50, (30,)))
    first(*batch)
    return first, batch


def test_the_state_holds_what_the_module_learned(tmp_path):
    first, batch = learned()
    second = torch.nn.ModuleDict({"criterion": made()})
    torch.save({f"criterion.{name}": value for name, value in first.state_dict().items()}, tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    np.testing.assert_equal(first.frequency.state, second["criterion"].frequency.state)
    assert torch.equal(first(*batch), second["criterion"](*batch))


def test_what_a_state_dict_holds_are_tensors():
    first, _ = learned()
    state = first.state_dict()
    assert list(state) == ["frequency_examples", "frequency_last", "frequency_interval"]
    second = made()
    second.load_state_dict({name: value.clone() for name, value in state.items()})
    assert second.frequency.state.examples == 30
    first(*learned()[1])
    assert state["frequency_examples"] == 30, "a copy, not a view"
    assert not fastnce.torch.InBatchSoftmaxLoss().state_dict()


STATE = learned()[0].state_dict()


@pytest.mark.parametrize(
    ("module", "state", "words"),
    [
        (fastnce.torch.InBatchSoftmaxLoss(), STATE, 'Unexpected key(s) in state_dict: "frequency_examples"'),
        (made(), {}, 'Missing key(s) in state_dict: "frequency_examples"'),
        (made(40), STATE, "frequency: state.last has shape [1, 50]: expected [num_hashes, num_buckets] = [1, 40]"),
        (made(), {**STATE, "frequency_last": STATE["frequency_last"].half()}, "frequency_last has dtype torch.float16"),
        (made(), {**STATE, "frequency_last": [1]}, "frequency: frequency_last is a list: expected a torch.Tensor"),
        (made(), {**STATE, "frequency_interval": STATE["frequency_interval"] * math.nan}, "expected finite numbers"),
        (made(), {**STATE, "frequency_examples": torch.tensor(3)}, "state.last: expected numbers of examples"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(module, state, words):
    with pytest.raises(RuntimeError, match="in loading state_dict for InBatchSoftmaxLoss") as raised:
        module.load_state_dict(state)
    assert words in str(raised.value)
    assert module.frequency is None or module.frequency.state.examples == 0


@pytest.mark.parametrize("module", [made(), fastnce.torch.InBatchSoftmaxLoss()])
def test_a_state_without_frequencies_leaves_them_unless_strict(module):
    module.load_state_dict({}, strict=False)
    module.load_state_dict(STATE, strict=False)
    assert module.frequency is None or module.frequency.state.examples == 30


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_learns_for_itself(copied):
    first, batch = learned()
    second = copied(first)
    assert torch.equal(second(*batch), first(*batch))
    second(*batch)
    assert (first.frequency.state.examples, second.frequency.state.examples) == (60, 90)


def test_its_text_shows_the_options():
    first = made()
    assert repr(first) == (
        "InBatchSoftmaxLoss(temperature=1.0, frequency=FrequencyEstimator(num_buckets=50, num_hashes=1, rate=0.01))"
    )


X = torch.zeros(5, 6)
IDS = torch.arange(5)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"items": torch.zeros(4, 6)}, ValueError, ["items has shape [4, 6]", "[5, 6]"]),
        ({"items": torch.zeros(5, 6).double()}, TypeError, ["items has dtype torch.float64", "input"]),
        ({"items": torch.zeros(5, 6).int()}, TypeError, ["items has dtype torch.int32"]),
        ({"items": np.zeros((5, 6))}, TypeError, ["items", "ndarray"]),
        ({"item_ids": IDS[:4]}, ValueError, ["item_ids has shape [4]", "[5]"]),
        ({"item_ids": IDS.float()}, TypeError, ["item_ids has dtype torch.float32", "integers"]),
        ({"item_ids": None}, ValueError, ["exclude is given but item_ids is None"]),
        ({"log_q": IDS}, TypeError, ["log_q has dtype torch.int64"]),
        ({"log_q": torch.zeros(5, requires_grad=True)}, ValueError, ["log_q requires a gradient"]),
        ({"extra": (X[:2], None, None)}, ValueError, ["item_ids is given but item_ids of extra is None"]),
        ({"extra": (X[:2, :3], IDS[:2], None)}, ValueError, ["items of extra has shape [2, 3]", "D = 6"]),
        ({"extra": (X[:2], IDS[:2], X[:2, 0])}, ValueError, ["log_q of extra is given but log_q is None"]),
        ({"extra": X}, TypeError, ["extra is a Tensor: expected a tuple, (items [N, D], ids [N], log_q [N])"]),
        ({"extra": (X, IDS)}, ValueError, ["extra has 2 values: expected three"]),
        ({"log_q": torch.tensor([0, 0, -math.inf, 0, 0])}, ValueError, ["log_q[2] = -inf: expected a finite float32"]),
        ({"log_q": X[:, 0].double() + 1e300}, ValueError, ["log_q[0] = inf: expected a finite float32 number"]),
        (
            {"log_q": X[:, 0], "extra": (X[:3], IDS[:3], torch.tensor([0, math.nan, 0]))},
            ValueError,
            ["log_q[1] of extra = nan"],
        ),
        ({"exclude": IDS}, TypeError, ["exclude is a Tensor", "fastnce.Ragged"]),
        ({"temperature": 0.0}, ValueError, ["temperature = 0"]),
        ({"temperature": None}, TypeError, ["temperature is None: expected a number"]),
        ({"temperature": torch.ones(2)}, TypeError, ["temperature is a Tensor: expected a number"]),
        ({"temperature": torch.ones((), requires_grad=True)}, ValueError, ["temperature requires a gradient"]),
        ({"reduction": "max"}, ValueError, ["reduction", "max"]),
        ({"example_weight": torch.zeros(4)}, ValueError, ["example_weight has shape [4]"]),
    ],
)
def test_it_refuses(change, error, words):
    exclude = Ragged(IDS, torch.tensor([0, 1, 2, 3, 4, 5]))
    with pytest.raises(error) as raised:
        fastnce.torch.in_batch_softmax_loss(**{"input": X, "items": X, "item_ids": IDS, "exclude": exclude, **change})
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_ids_of_dtypes_without_a_common_one():
    x, own = torch.randn(5, 6), torch.tensor([0, 1, 1, 3, 2**63 - 1])
    expected = fastnce.torch.in_batch_softmax_loss(x, x, own, extra=(x[:3], own[2:], None))
    given = own.to(torch.uint64)
    assert torch.equal(fastnce.torch.in_batch_softmax_loss(x, x, given, extra=(x[:3], own[2:], None)), expected)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"reduction": "max"}, ValueError, "reduction = 'max': expected 'mean', 'sum' or 'none'"),
        ({"precision": "low"}, ValueError, "precision = 'low'"),
        ({"frequency": 50}, TypeError, "frequency is an int: expected a fastnce.FrequencyEstimator"),
    ],
)
def test_the_module_refuses_options_when_it_is_made(options, error, words):
    with pytest.raises(error) as raised:
        fastnce.torch.InBatchSoftmaxLoss(**options)
    assert words in str(raised.value)


@pytest.mark.parametrize("ids", [IDS.tolist(), IDS.float(), IDS[:, None], IDS[:4]], ids=str)
def test_ids_that_cannot_be_learned_are_refused(ids):
    criterion = made(9)
    with pytest.raises((TypeError, ValueError), match="item_ids"):
        criterion(X, X, ids)
    assert criterion.frequency.state.examples == 0


def test_a_call_that_fails_is_not_learned():
    criterion = fastnce.torch.InBatchSoftmaxLoss(frequency=FrequencyEstimator(9))
    criterion(X, X, IDS)
    before = criterion.frequency.state
    with pytest.raises(TypeError, match="exclude"):
        criterion(X, X, IDS, exclude=5)
    np.testing.assert_equal(criterion.frequency.state, before)


def test_under_checkpointing_a_batch_is_not_learned_twice():
    criterion = fastnce.torch.InBatchSoftmaxLoss(frequency=FrequencyEstimator(9))
    x = torch.randn(5, 6, requires_grad=True)
    loss = checkpoint(lambda x: criterion(x, X, IDS), x, use_reentrant=False)
    with pytest.raises(RuntimeError, match="expected log_q as an argument under checkpointing"):
        loss.backward()
    log_q = criterion.frequency(IDS)
    checkpoint(lambda x: criterion(x, X, IDS, log_q=log_q), x, use_reentrant=False).backward()
    assert x.grad is not None and criterion.frequency.state.examples == 10


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_module_learns_as_an_eager_one():
    made = lambda: fastnce.torch.InBatchSoftmaxLoss(0.5, frequency=FrequencyEstimator(50, rate=0.1))  # noqa: E731
    eager, compiled = made(), torch.compile(made())
    x, items, ids = *torch.randn(2, 30, 8), torch.randint(50, (30,))
    for _ in range(3):
        torch.testing.assert_close(compiled(x, items, ids), eager(x, items, ids))


def test_an_exported_program_takes_log_q():
    criterion, log_q = made(9), torch.linspace(-1, 1, 5)
    x = torch.randn(5, 6)
    with pytest.raises(NotImplementedError, match="expected log_q as an argument"):
        torch.export.export(criterion, (x, X, IDS))
    program = torch.export.export(criterion, (x, X, IDS), {"log_q": log_q}).module()
    torch.testing.assert_close(program(x, X, IDS, log_q=log_q), criterion(x, X, IDS, log_q=log_q))
    assert criterion.frequency.state.examples == 0


def test_the_module_refuses_what_it_cannot_learn():
    criterion = fastnce.torch.InBatchSoftmaxLoss(frequency=FrequencyEstimator(9))
    with pytest.raises(ValueError, match="item_ids is None: expected the id of each item"):
        criterion(X, X)
    with pytest.raises(ValueError, match="log_q is None beside extra items"):
        criterion(X, X, IDS, extra=(X, IDS, None))
