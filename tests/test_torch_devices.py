"""fastnce.torch where the default device is not the CPU, and on tensors without values: "meta" and fake ones."""

from __future__ import annotations

import ast
import contextlib
import pathlib

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils._device import _device_constructors  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import fastnce  # noqa: E402
import fastnce.torch  # noqa: E402
from torch_cases import BATCH, CLASSES, SAMPLED, WIDTH, assert_equal, batch, module, step  # noqa: E402

# PyTorch's own use of what it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

LOSSES = [{}, {"sparse": False}, {"reduction": "none"}, {"ignore_index": None}]
OPTIONS = pytest.mark.parametrize("options", LOSSES, ids=str)


@contextlib.contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


DEFAULTS = pytest.mark.parametrize("default", [torch.device, default_device], ids=["context", "default"])


def three_steps(criterion, call, x, target):
    """The second with an ignored example."""
    some = target.clone()
    if criterion.ignore_index is not None:
        some[2] = criterion.ignore_index
    return [step(call(x, classes).sum(), criterion, x) for classes in (target, some, target)]


@OPTIONS
@DEFAULTS
@pytest.mark.parametrize("mode", ["eager", "checkpoint", "aot_eager", "inductor"])
def test_on_the_cpu_the_default_device_does_not_matter(mode, default, options):
    torch.compiler.reset()
    plain, criterion, (x, target) = module(**options), module(**options), batch()
    expected = three_steps(plain, plain, x, target)
    call = criterion
    if mode == "checkpoint":

        def call(*arguments):
            return checkpoint(criterion, *arguments, use_reentrant=False)

    elif mode != "eager":
        call = torch.compile(criterion, fullgraph=True, backend=mode)
    with default("meta"):
        results = three_steps(criterion, call, x, target)
    for one, other in zip(results, expected, strict=True):
        assert_equal(one, other)
    assert criterion.calls == 3


@DEFAULTS
def test_the_functions_and_the_state_do_not_depend_on_the_default_device(default):
    criterion, (x, target) = module(), batch()
    tables = criterion.weight, criterion.bias
    expected = fastnce.torch.log_uniform_candidates(target, SAMPLED, CLASSES, seed=3, calls=2)
    loss = fastnce.torch.nce_loss(x, target, *tables, expected)
    with default("meta"):
        sampled = fastnce.torch.log_uniform_candidates(target, SAMPLED, CLASSES, seed=3, calls=2)
        assert torch.equal(fastnce.torch.nce_loss(x, target, *tables, sampled), loss)
        state = criterion.state_dict()
        criterion.load_state_dict(state)
        criterion.reset_parameters()
    assert_equal(sampled, expected)
    assert state["_extra_state"].device.type == "cpu"


@DEFAULTS
def test_an_empty_batch_does_not_depend_on_the_default_device(default):
    criterion, (x, target) = module(), batch(0)
    with default("meta"):
        assert all(not part.any() for part in step(criterion(x, target), criterion, x))


@DEFAULTS
def test_parameters_are_made_on_the_default_device(default):
    with default("meta"):
        criterion = fastnce.torch.NCELoss(CLASSES, WIDTH, SAMPLED)
    assert {tensor.device.type for tensor in criterion.state_dict().values()} == {"meta", "cpu"}
    assert criterion.weight.is_meta and criterion.bias.is_meta and criterion.calls.is_meta


def test_modules_may_be_made_without_memory_first():
    with torch.device("meta"):
        criterion = module()
    criterion.to_empty(device="cpu").reset_parameters()
    assert criterion.calls == 0
    torch.testing.assert_close(criterion(*batch()), module()(*batch()), rtol=0.2, atol=0)  # other weights


@contextlib.contextmanager
def meta():
    with torch.device("meta"):
        yield


@OPTIONS
@pytest.mark.parametrize("place", [meta, FakeTensorMode])
@pytest.mark.parametrize("num_true", [1, 2])
def test_without_values_results_have_their_shapes(place, options, num_true):
    with place():
        criterion = fastnce.torch.NCELoss(CLASSES, WIDTH, SAMPLED, num_true=num_true, **options)
        x, target = torch.randn(BATCH, WIDTH, requires_grad=True), torch.zeros(BATCH, num_true, dtype=torch.int64)
        sampled = fastnce.torch.log_uniform_candidates(target, SAMPLED, CLASSES)
        assert [tuple(part.shape) for part in sampled] == [(SAMPLED,), (BATCH, num_true), (SAMPLED,)]
        given = {name: value for name, value in options.items() if name != "ignore_index"}
        for loss in (
            criterion(x, target),
            criterion(x, target, torch.ones(BATCH)),
            fastnce.torch.nce_loss(x, target, criterion.weight, criterion.bias, sampled, **given),
        ):
            assert loss.shape == ((BATCH,) if options.get("reduction") == "none" else ())
            assert (loss.dtype, loss.device) == (torch.float32, x.device)
            gradients = torch.autograd.grad(loss.sum(), [x, criterion.weight, criterion.bias])
            assert [tuple(part.shape) for part in gradients] == [(BATCH, WIDTH), (CLASSES, WIDTH), (CLASSES,)]
            if criterion.sparse:  # padded: the number of rows depends on values
                rows = BATCH * num_true + SAMPLED
                assert [part._values().shape[0] for part in gradients[1:]] == [rows, rows]
            assert [part.layout == torch.sparse_coo for part in gradients[1:]] == [criterion.sparse] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:, :5], y), r"weights has shape \[40, 6\]: expected \[V, D\] with D = 5"),
        (lambda x, y: (x[:6], y), r"labels has shape \[7\]: expected \[B, num_true\] = \[6, 1\]"),
        (lambda x, y: (x[0], y), r"inputs has shape \[6\]: expected \[B, D\]"),
        (lambda x, y: (x, torch.stack([y, y], 1)), r"labels has shape \[7, 2\]: expected \[B, num_true\] = \[7, 1\]"),
    ],
)
@pytest.mark.parametrize("place", [meta, FakeTensorMode])
def test_without_values_wrong_shapes_are_refused(place, change, message):
    with place():
        criterion = fastnce.torch.NCELoss(CLASSES, WIDTH, SAMPLED)
        with pytest.raises(ValueError, match=message):
            criterion(*change(torch.randn(BATCH, WIDTH), torch.zeros(BATCH, dtype=torch.int64)))


def factory_calls(source):
    """``(line, name, whether it names a device)`` of every call of a function of torch that makes a tensor."""
    factories = {function.__name__ for function in _device_constructors() if hasattr(function, "__name__")}
    for node in ast.walk(ast.parse(source)):
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if name.startswith("torch.") and name.removeprefix("torch.") in factories:
            yield node.lineno, name, any(keyword.arg == "device" for keyword in node.keywords)


def test_every_new_tensor_names_its_device():
    package = pathlib.Path(fastnce.__file__).parent
    found = []
    for path in [*package.glob("*.py"), *package.glob("torch/*.py")]:
        for line, name, has_device in factory_calls(path.read_text()):
            assert has_device, f"{path.name}:{line}: {name} without device="
            found.append(name)
    assert {"torch.tensor", "torch.empty", "torch.randint", "torch.sparse_coo_tensor"} <= set(found)
    assert [has_device for *_, has_device in factory_calls("torch.zeros(3)\ntorch.ones(1, device=d)")] == [False, True]
