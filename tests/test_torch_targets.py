"""fastnce.torch with true classes as lists, also nested tensors, weights of labels, excluded classes, and groups."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastnce
from cases import EVERYTHING, Case, assert_matches_twin, targets_and_negatives
from fastnce import Ragged
from losses import EVERY_LOSS
from tolerances import Results

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.utils.checkpoint import checkpoint  # noqa: E402

import fastnce.torch  # noqa: E402
from fastnce.torch._schema import arguments_of, fields_of  # noqa: E402
from torch_cases import CLASSES, SAMPLED, assert_equal, call_of, given, leaves, module, step, tensor_of  # noqa: E402

# PyTorch's own use of what it has deprecated; its nested tensors, under inductor.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:NestedTensor does not implement:UserWarning"),
]

EVERY = pytest.mark.parametrize("loss", [loss.name for loss in EVERY_LOSS])
REDUCTION = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
LISTS = [[1, 2], [], [3, 3, 4], [-100], [5, -100], [6], []]
HAVE_A_CLASS = torch.tensor([True, False, True, False, True, True, False])
UNWANTED = [list(range(20)), [], [7], list(range(CLASSES)), [], [0, 0, 1], list(range(0, CLASSES, 2))]


@pytest.fixture(autouse=True)
def forget_graphs():
    torch.compiler.reset()


def nested(lists, dtype=torch.int64):
    return torch.nested.nested_tensor([torch.tensor(own, dtype=dtype) for own in lists], layout=torch.jagged)


def ragged(lists):
    values, offsets = [own for some in lists for own in some], np.cumsum([0, *map(len, lists)])
    return Ragged(torch.tensor(values, dtype=torch.int64), torch.from_numpy(offsets))


def hidden(size=7):
    return torch.randn(size, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()


def solution(losses, tensors):
    """Row ids and results in the order of the twin's."""
    x, weight, bias = tensors
    biases = None if bias is None else bias.grad.values().numpy()
    ids = weight.grad.indices()[0].numpy()
    return ids, Results(losses.detach().numpy(), x.grad.numpy(), weight.grad.values().numpy(), biases)


@pytest.mark.parametrize("case", targets_and_negatives(8, dim=5), ids=str)
def test_values_and_gradients_are_the_twins_for_any_upstream_factors(case):
    problem = case.problem()
    factors = np.random.default_rng(case.seed).normal(size=case.batch).astype(case.dtype)
    problem.options["grad_loss"] = factors
    tensors = leaves(problem)
    losses = call_of(problem, tensors, reduction="none")
    losses.backward(torch.from_numpy(factors))
    assert_matches_twin(solution(losses, tensors), problem)


@EVERY
@REDUCTION
def test_gradcheck(loss, reduction):
    problem = Case(batch=5, dim=3, sampled=4, dtype="float64", loss=loss, **EVERYTHING).problem()
    factors = torch.rand(5, dtype=torch.float64, requires_grad=True)

    def function(x, weight, bias, example_weight):
        return call_of(problem, (x, weight, bias), example_weight=example_weight, reduction=reduction, sparse=False)

    assert torch.autograd.gradcheck(function, [*leaves(problem), factors], fast_mode=True)


@EVERY
@REDUCTION
def test_nested_tensors_are_lists(loss, reduction):
    problem = Case(loss=loss, **EVERYTHING).problem()
    tensors, others = leaves(problem), leaves(problem)
    expected = call_of(problem, tensors, reduction=reduction)
    target, _ = given(problem)
    weights = tensor_of(problem.options["label_weights"])
    as_nested = {
        "target": torch.nested.nested_tensor_from_jagged(*target),
        "label_weights": torch.nested.nested_tensor_from_jagged(weights, target.offsets.clone()),
        "exclude": torch.nested.nested_tensor_from_jagged(*tensor_of(problem.options["exclude"])),
    }
    result = call_of(problem, others, **as_nested, reduction=reduction)
    assert_equal([result], [expected])
    expected.sum().backward()
    result.sum().backward()
    assert_equal([tensor.grad.to_dense() for tensor in others], [tensor.grad.to_dense() for tensor in tensors])


@EVERY
def test_leading_axes_are_more_examples(loss):
    problem = Case(batch=6, loss=loss, **EVERYTHING).problem()
    tensors, several = leaves(problem), leaves(problem)
    expected = call_of(problem, tensors)
    for name in ("positive_weight", "negative_weight"):
        if isinstance(problem.options.get(name), np.ndarray):
            problem.options[name] = problem.options[name].reshape(2, 3)
    x = several[0].detach().reshape(2, 3, 8).requires_grad_()
    result = call_of(problem, (x, *several[1:]))
    assert torch.equal(result, expected)
    expected.backward()
    result.backward()
    assert torch.equal(x.grad.reshape(6, 8), tensors[0].grad)


@pytest.mark.parametrize(
    ("mode", "ignore_index", "weighted"),
    [*(("eager", index, weighted) for index in (-100, None) for weighted in (False, True)), ("aot_eager", -100, True)],
)
def test_a_mean_is_over_the_examples_that_have_a_class(mode, ignore_index, weighted):
    lists = [[own for own in some if own != -100 or ignore_index is not None] for some in LISTS]
    x, weight = hidden(), torch.linspace(0.5, 2, len(LISTS)) if weighted else None
    losses = module(reduction="none", ignore_index=ignore_index)(x, ragged(lists), weight)
    assert torch.equal(losses == 0, ~HAVE_A_CLASS)
    criterion = module(ignore_index=ignore_index)
    call = criterion if mode == "eager" else torch.compile(criterion, fullgraph=True, backend=mode)
    loss = call(x, ragged(lists), weight)
    torch.testing.assert_close(loss, losses.sum() / HAVE_A_CLASS.sum())
    gradients = torch.autograd.grad(losses.sum() / HAVE_A_CLASS.sum(), x)[0], torch.autograd.grad(loss, x)[0]
    torch.testing.assert_close(*gradients)
    assert not gradients[1][~HAVE_A_CLASS].any()


WITHOUT_A_CLASS = {"empty": [[]] * 7, "ignored": [[-100], [], [-100, -100], [], [], [], []]}


@pytest.mark.parametrize(
    ("mode", "reduction", "lists", "upstream"),
    [
        *(
            ("eager", reduction, lists, upstream)
            for reduction in ("mean", "sum", "none")
            for lists in WITHOUT_A_CLASS
            for upstream in (1.0, math.inf, math.nan)
        ),
        *(("aot_eager", reduction, "ignored", math.inf) for reduction in ("mean", "none")),
    ],
)
def test_without_a_class_loss_and_gradients_are_zero(mode, reduction, lists, upstream):
    x, criterion = hidden(), module(reduction=reduction)
    call = criterion if mode == "eager" else torch.compile(criterion, fullgraph=True, backend=mode)
    loss = call(x, ragged(WITHOUT_A_CLASS[lists]))
    assert torch.equal(loss, torch.zeros_like(loss))
    results = step((loss * upstream).sum(), criterion, x)
    assert_equal(results[1:], map(torch.zeros_like, results[1:]))


@REDUCTION
def test_nothing_leaks_from_an_example_without_a_class(reduction):
    results = []
    for harm in (0.0, math.inf, math.nan):
        criterion = module(reduction=reduction)
        x = torch.where(HAVE_A_CLASS.unsqueeze(1), hidden().detach(), harm).requires_grad_()
        factors = torch.where(HAVE_A_CLASS, torch.ones(7), harm).requires_grad_()
        loss = criterion(x, ragged(LISTS), factors)
        if reduction == "none":
            loss = torch.where(HAVE_A_CLASS, 1.0, harm) * loss
        results.append([*step(loss.sum(), criterion, x)[1:], factors.grad])
    assert all(part.isfinite().all() for part in results[0])
    assert_equal(results[0], results[1])
    assert_equal(results[0], results[2])


@pytest.mark.parametrize("loss", ["nce", "softmax", "weighted"])
def test_a_compiled_loss_is_the_loss(loss):
    problem = Case(loss=loss, **EVERYTHING).problem()
    tensors, compiled = leaves(problem), leaves(problem)
    expected = call_of(problem, tensors)
    expected.backward()
    result = torch.compile(lambda *tensors: call_of(problem, tensors), fullgraph=True, backend="aot_eager")(*compiled)
    result.backward()
    assert torch.equal(result, expected)
    assert_equal([one.grad.to_dense() for one in compiled], [one.grad.to_dense() for one in tensors])


@pytest.mark.parametrize(
    ("backend", "kind", "options"),
    [
        ("aot_eager", ragged, {"reduction": "none"}),
        ("aot_eager", nested, {}),
        ("inductor", ragged, {"sparse": False, "ignore_index": None}),
        ("inductor", nested, {}),
    ],
)
def test_a_module_is_compiled_once_for_lists_of_any_length(backend, kind, options):
    eager, criterion, x = module(**options), module(**options), hidden(4)
    compiled = torch.compile(criterion, fullgraph=True, backend=backend, dynamic=True)

    def check(*lengths):
        lists = [list(range(start, start + length)) for start, length in enumerate(lengths)]
        unwanted = [own[:1] for own in reversed(lists)] if sum(lengths) > 6 else [[*own, 3] for own in lists]
        results = []
        for owner, call in ((eager, eager), (criterion, compiled)):
            loss = call(x, kind(lists), exclude=kind(unwanted))
            results.append(step(loss.sum(), owner, x))
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other)

    with torch.compiler.set_stance("default"):
        check(2, 3, 4, 5)
        check(3, 2, 6, 2)
        with torch.compiler.set_stance("fail_on_recompile"):
            check(4, 2, 2, 3)
            check(2, 9, 2, 2)


def test_pytorchs_operator_checks_pass():
    criterion, x, (labels, offsets), (excluded, exclude_offsets) = module(), hidden(), ragged(LISTS), ragged(UNWANTED)
    operators = torch.ops.fastnce
    for sparse in (True, False):
        fields = fields_of(
            weights=criterion.weight,
            biases=criterion.bias,
            labels=labels,
            label_offsets=offsets,
            label_weights=torch.rand(len(labels)),
            inputs=x,
            exclude=excluded,
            exclude_offsets=exclude_offsets,
            class_keys=torch.arange(CLASSES),
            temperature=0.5,
            calls=torch.tensor(2),
            num_sampled=SAMPLED,
            num_classes=CLASSES,
            seed=torch.tensor([1, 2]),
            padding=-100,
            sparse=sparse,
            pad_rows=not sparse,
        )
        for losses in (operators.sampled_loss, operators.sampled_losses):
            torch.library.opcheck(losses, arguments_of(fields))
        for total in (operators.sampled_total, operators.sampled_loss_and_grad):
            torch.library.opcheck(total, (*arguments_of(fields), None, True, [True, True, True]))


SAMPLERS = {
    "default": lambda: "log_uniform",
    "log_uniform": lambda: fastnce.LogUniformSampler(CLASSES, SAMPLED, num_true=3, seed=7),
    "unigram": lambda: fastnce.UnigramSampler.from_counts(np.arange(1, CLASSES + 1), SAMPLED, num_true=3, seed=7),
    "learned": lambda: fastnce.LearnedUnigramSampler(CLASSES, SAMPLED, seed=7),
    "mixed": lambda: fastnce.MixedSampler([(fastnce.UniformSampler(CLASSES, SAMPLED, seed=7), SAMPLED)]),
    "callable": lambda: (
        lambda classes: (
            torch.arange(SAMPLED),
            (classes + 1) / CLASSES,
            torch.full((SAMPLED,), 0.5),
        )
    ),
}


@pytest.mark.parametrize(
    ("mode", "name", "loss"),
    [
        *(
            ("eager", name, loss)
            for name in SAMPLERS
            for loss in ("NCELoss", "SampledSoftmaxLoss", "NegativeSamplingLoss")
        ),
        *(("aot_eager", name, "NCELoss") for name in ("default", "unigram", "callable")),
    ],
)
def test_a_module_draws_for_lists(mode, name, loss):
    num_true = 3 if name in ("default", "log_uniform", "unigram") else 1
    criterion = module(7 if name == "default" else None, loss, sampler=SAMPLERS[name](), num_true=num_true)
    function = {
        "NCELoss": fastnce.torch.nce_loss,
        "SampledSoftmaxLoss": fastnce.torch.sampled_softmax_loss,
        "NegativeSamplingLoss": fastnce.torch.negative_sampling_loss,
    }[loss]
    sampler = SAMPLERS[name]()
    if name in ("default", "log_uniform"):
        sampler = fastnce.LogUniformSampler(CLASSES, SAMPLED, seed=7)
    elif name == "unigram":
        sampler = fastnce.UnigramSampler.from_counts(np.arange(1, CLASSES + 1), SAMPLED, seed=7)
    x, target = hidden(), ragged([[own for own in some if own != -100] for some in LISTS])
    call = criterion if mode == "eager" else torch.compile(criterion, fullgraph=True, backend=mode)
    for _ in range(2):
        ids, true_count, sampled_count = sampler(target.values.unsqueeze(1))
        samples = ids if loss == "NegativeSamplingLoss" else (ids, true_count.reshape(-1), sampled_count)
        expected = function(x, target, criterion.weight, criterion.bias, samples)
        torch.testing.assert_close(call(x, target), expected)
    assert criterion.calls == 2


@pytest.mark.parametrize("name", ["default", "learned"])
def test_ignored_classes_of_lists_are_not_drawn_for(name):
    losses = []
    for lists in (LISTS, [[own for own in some if own != -100] for some in LISTS]):
        criterion = module(7 if name == "default" else None, sampler=SAMPLERS[name](), reduction="none")
        losses.append([criterion(hidden(), kind(lists)) for kind in (ragged, nested)])
    assert_equal(*losses)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_repeats_the_samples(use_reentrant):
    plain, criterion, x, target = module(), module(), hidden(), ragged(LISTS)

    def again(x):
        return checkpoint(lambda x: criterion(x, target, exclude=nested(UNWANTED)), x, use_reentrant=use_reentrant)

    for _ in range(2):
        assert_equal(step(again(x), criterion, x), step(plain(x, target, exclude=ragged(UNWANTED)), plain, x))
    assert criterion.calls == 2


def test_an_exported_module_is_the_module_for_lists_of_any_length():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.criterion = module()

        def forward(self, x, values, offsets):
            return self.criterion(x, Ragged(values, offsets))

    dynamic = ({0: torch.export.Dim("B")}, {0: torch.export.Dim("n")}, {0: torch.export.Dim("ends")})
    program = torch.export.export(Model(), (hidden().detach(), *ragged(LISTS)), dynamic_shapes=dynamic).module()
    eager = module()
    for lists in (LISTS, LISTS[:4]):
        x = hidden(len(lists)).detach()
        assert torch.equal(program(x, *ragged(lists)), eager(x, ragged(lists)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_labels_are_of_any_dtype(dtype):
    target, weights = ragged(LISTS), torch.tensor([0.5, 1, 1, 2, 1, 4, 1, 0.25, 1])
    expected = module()(hidden(), target, label_weights=weights)
    assert torch.equal(module()(hidden(), target, label_weights=weights.to(dtype)), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module()(hidden(), target, label_weights=weights.to(dtype)), expected)


HOLES = torch.nested.narrow(
    torch.arange(28).reshape(7, 4),
    1,
    torch.tensor([0, 1, 2, 0, 0, 0, 0]),
    torch.tensor([1, 2, 1, 0, 0, 0, 4]),
    layout=torch.jagged,
)
GOOD = ragged(LISTS)
REFUSED = {
    "exclude-kind": ({"exclude": [[1], [2]]}, TypeError, "^exclude is a list: expected a list of classes for each"),
    "exclude-tensor": ({"exclude": torch.arange(7)}, TypeError, "^exclude is a Tensor: expected a list of classes"),
    "exclude-dtype": ({"exclude": nested([[1.0]] * 7, torch.float32)}, TypeError, "^exclude has dtype torch.float32"),
    "exclude-length": ({"exclude": ragged(LISTS[:3])}, ValueError, r"^exclude.offsets has shape \[4\].* \[8\]"),
    "exclude-class": ({"exclude": nested([[1, -1]] * 7)}, ValueError, r"^exclude.values\[1\] = -1 is outside"),
    "nested-holes": (
        {"target": HOLES},
        ValueError,
        r"^target is a nested tensor with holes: .* call target.contiguous",
    ),
    "nested-weights": (
        {"target": torch.arange(7), "label_weights": nested([[1.0]] * 7, torch.float32)},
        ValueError,
        "^label_weights is a nested tensor: expected a tensor of the shape of target",
    ),
    "other-offsets": (
        {"label_weights": torch.nested.nested_tensor_from_jagged(torch.ones(9), GOOD.offsets.flip(0).neg() + 9)},
        ValueError,
        "^label_weights has other offsets than target",
    ),
    "weights-count": ({"label_weights": torch.ones(4)}, ValueError, r"^label_weights has shape \[4\]: .*\[n\] = \[9\]"),
    "weights-kind": ({"label_weights": 2.0}, TypeError, "^label_weights is a float: expected a torch.Tensor"),
    "weights-grad": (
        {"label_weights": torch.ones(9, requires_grad=True)},
        ValueError,
        "^label_weights requires a grad",
    ),
    "weights-bool": ({"label_weights": torch.ones(9).bool()}, TypeError, "^label_weights has dtype torch.bool"),
    "weights-complex": (
        {"label_weights": torch.ones(9).cfloat()},
        TypeError,
        "^label_weights has dtype torch.complex64",
    ),
    "offsets-kind": (
        {"target": GOOD._replace(offsets=[0] * 8)},
        TypeError,
        "^target.offsets is a list: expected a torch",
    ),
    "offsets-dtype": (
        {"target": GOOD._replace(offsets=GOOD.offsets.float())},
        TypeError,
        "^target.offsets has dtype torch.float32: expected integers",
    ),
    "offsets-device": (
        {"target": GOOD._replace(offsets=GOOD.offsets.to("meta"))},
        ValueError,
        "^target.offsets is on device meta: expected cpu, the device of target.values",
    ),
    "offsets-length": ({"target": ragged(LISTS[:3])}, ValueError, r"^labels.offsets has shape \[4\].* \[8\]"),
    "offsets-fall": (
        {"target": GOOD._replace(offsets=torch.tensor([0, 2, 1, 5, 6, 8, 9, 9]))},
        ValueError,
        r"^labels.offsets\[2\] = 1: expected at least the offset before it, 2",
    ),
    "offsets-end": (
        {"target": GOOD._replace(offsets=torch.tensor([0, 2, 2, 5, 6, 8, 9, 99]))},
        ValueError,
        r"^labels.offsets\[7\] = 99: expected the number of values, 9",
    ),
    "values-kind": ({"target": Ragged([1], [0, 1])}, TypeError, "^target.values is a list: expected a torch.Tensor"),
    "values-dtype": (
        {"target": GOOD._replace(values=GOOD.values.float())},
        TypeError,
        "^target has dtype torch.float32",
    ),
    "values-rank": (
        {"target": GOOD._replace(values=GOOD.values[:, None])},
        ValueError,
        r"^labels.values has shape \[9, 1\]",
    ),
    "class": (
        {"target": GOOD._replace(values=torch.tensor([1, 2, 3, 3, 40, -100, 5, -100, 6]))},
        ValueError,
        r"^labels.values\[4\] = 40 is outside \[0, num_classes = 40\)",
    ),
}


@pytest.mark.parametrize(("change", "error", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("way", ["module", "mean", "none"])
def test_what_is_refused(way, change, error, message):
    criterion = module()
    arguments = {"target": GOOD, **change}

    def call():
        if way == "module":
            return criterion(hidden(), **arguments)
        samples = (torch.arange(5), None, None)
        tables = {"weight": criterion.weight, "bias": criterion.bias, "sampled_values": samples}
        return fastnce.torch.nce_loss(hidden(), **arguments, **tables, reduction=way)

    with pytest.raises(error, match=message):
        call()
    assert criterion.calls == 0


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_of_the_older_layout_are_refused():
    older = torch.nested.nested_tensor([torch.tensor([1])] * 7)
    with pytest.raises(
        TypeError, match=r"^target is a nested tensor of layout torch.strided: expected layout torch.jagg"
    ):
        module()(hidden(), older)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_what_lists_hold_is_refused_in_a_compiled_function(reduction):
    compiled = torch.compile(module(reduction=reduction), fullgraph=True, backend="aot_eager")
    for name in ("offsets-fall", "offsets-end", "class"):
        change, error, message = REFUSED[name]
        with pytest.raises(error, match=message):
            compiled(hidden(), **change)


def test_function_transforms_and_second_derivatives_are_refused():
    x, target = hidden(), ragged(LISTS)
    with pytest.raises((RuntimeError, ValueError)):
        torch.func.vmap(lambda x: module()(x, target))(torch.stack([x, x]))
    (gradient,) = torch.autograd.grad(module()(x, target), x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot differentiate twice"):
        gradient.sum().backward()
