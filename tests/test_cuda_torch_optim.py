"""fastnce.torch.optim and modules that own an optimizer, on a CUDA device: the twin's numbers, and those of the CPU."""

from __future__ import annotations

import contextlib
import copy
import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import cuda_arrays  # noqa: E402
import emulated_torch  # noqa: E402
import fastnce.torch  # noqa: E402
from conftest import forget_bad_ids  # noqa: E402
from fastnce.torch import optim  # noqa: E402
from optimizers import EVERY_RULE, RULES, Rule, Twin  # noqa: E402
from tolerances import CUDA_OPTIMIZER_RELATIVE, OPTIMIZER_RELATIVE, relative_error  # noqa: E402
from torch_cases import CLASSES, WIDTH, batch, module  # noqa: E402

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not (cuda_arrays.EMULATED or torch.cuda.is_available()), reason="PyTorch has no CUDA device"),
]
V = 60
LOSSES = ("NCELoss", "SampledSoftmaxLoss", "NegativeSamplingLoss")
HALVES = (torch.float16, torch.bfloat16)
LIMITS = {getattr(torch, dtype): limit for dtype, limit in CUDA_OPTIMIZER_RELATIVE.items()}
ADAGRAD = functools.partial(optim.Adagrad, lr=0.3, initial_accumulator_value=0.1)


@pytest.fixture(autouse=True)
def device(monkeypatch):
    if not fastnce.cuda.is_available():
        pytest.skip(f"no CUDA device: {fastnce.cuda.unavailable_reason()}")
    if cuda_arrays.EMULATED:
        emulated_torch.emulate(monkeypatch)
    forget_bad_ids()


@pytest.fixture
def without_waiting(monkeypatch):
    """A context in which PyTorch's operators may not wait for the device."""

    @contextlib.contextmanager
    def emulated():
        run = emulated_torch.HostBackedCudaTensor.__torch_dispatch__.__func__
        waits = [torch.ops.aten._local_scalar_dense, torch.ops.aten._to_copy, torch.ops.aten.nonzero]

        def dispatch(cls, function, *arguments, **options):
            assert function.overloadpacket not in waits, f"{function} waits"
            return run(cls, function, *arguments, **options)

        def refuse(*_):
            raise AssertionError("reads a tensor of the device")

        with monkeypatch.context() as patched:
            patched.setattr(emulated_torch.HostBackedCudaTensor, "__torch_dispatch__", classmethod(dispatch))
            for name in ("cpu", "tolist"):
                patched.setattr(emulated_torch.HostBackedCudaTensor, name, refuse)
            yield

    @contextlib.contextmanager
    def real():
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return emulated if cuda_arrays.EMULATED else real


def on(device, *tensors):
    return [tensor.to(device) for tensor in tensors]


def parameters(device, dim, dtype=torch.float32):
    """A table and biases, the same on every device."""
    generator = torch.Generator().manual_seed(0)
    tables = torch.randn(V, dim, generator=generator), torch.randn(V, generator=generator)
    return [torch.nn.Parameter(table.to(dtype).to(device)) for table in tables]


def gradients(dim, seed, rows=25):
    """Ids in any order, some of them several times, gradients of their rows and of their biases."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(V, (rows,), generator=generator)
    return ids, torch.randn(rows, dim, generator=generator), torch.randn(rows, generator=generator)


def sparse(ids, values, size):
    return torch.sparse_coo_tensor(ids.unsqueeze(0), values, size, device=values.device, check_invariants=False)


def give(params, ids, *values):
    for param, own in zip(params, values, strict=True):
        param.grad = sparse(*on(param.device, ids, own.to(param.dtype)), param.shape)


def make(rule, params, **options):
    return getattr(optim, rule.optimizer.__name__)(params, **rule.options | options)


def bits(tensor):
    return tensor.detach().cpu().view(torch.int16)


def assert_near(ours, expected, limit, name=""):
    error = relative_error(ours.detach().cpu().float().numpy(), expected.detach().float().numpy())
    assert error <= limit, f"{name} is off by {error}"


def assert_alike(there, here):
    """That parameters of an optimizer there, and its states, are those of one here."""
    params = zip(there.param_groups[0]["params"], here.param_groups[0]["params"], strict=True)
    for ours, expected in params:
        assert ours.device.type == "cuda"
        assert_near(ours, expected, LIMITS[expected.dtype], "a table")
        assert there.state[ours].keys() == here.state[expected].keys()
        for name, state in here.state[expected].items():
            assert there.state[ours][name].device.type == ("cpu" if name == "step" else "cuda")
            assert_near(there.state[ours][name], state, LIMITS[expected.dtype], name)


# ---- steps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 8, 33])
@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_steps_are_those_of_the_twin(rule, dim):
    params = parameters("cuda", dim)
    twin = Twin(rule, *(param.detach().cpu().numpy() for param in params))
    optimizer = make(rule, params)
    for step in range(3):
        given = gradients(dim, step)
        give(params, *given)
        optimizer.step()
        twin.update_rows(*(array.numpy() for array in given))
    for param, (name, expected) in zip(params, twin.tables.items(), strict=True):
        assert relative_error(param.detach().cpu().numpy(), expected) <= OPTIMIZER_RELATIVE["float32"]
        assert optimizer.state[param]["step"] == 3
        for state, values in twin.states[name].items():
            assert optimizer.state[param][state].device.type == "cuda"
            own = optimizer.state[param][state].cpu().numpy()
            assert relative_error(own, values) <= OPTIMIZER_RELATIVE["float32"], state


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("dim", [1, 8, 9])
def test_tables_of_16_bits_are_rounded_as_on_the_cpu(dim, stochastic, dtype):
    """By a rule whose steps are exact, so that bits are the same."""
    rule = Rule("power", fastnce.optim.SGD, lambda: None, {"lr": 0.5})
    here, there = parameters("cpu", dim, dtype), parameters("cuda", dim, dtype)
    optimizers = [make(rule, params, stochastic_rounding=stochastic, seed=4) for params in (here, there)]
    for step in range(2):
        _, *values = gradients(dim, step, rows=V)
        for params, optimizer in zip((here, there), optimizers, strict=True):
            give(params, torch.arange(V), *values)
            optimizer.step()
    for ours, expected in zip(there, here, strict=True):
        assert torch.equal(bits(ours), bits(expected))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_steps_of_16_bit_tables_are_the_cpus(rule, dtype):
    here, there = parameters("cpu", 9, dtype), parameters("cuda", 9, dtype)
    optimizers = [make(rule, params) for params in (here, there)]
    for params, optimizer in zip((here, there), optimizers, strict=True):
        for step in range(2):
            give(params, *gradients(9, step))
            optimizer.step()
    assert_alike(*reversed(optimizers))


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_a_dense_gradient_has_all_rows(rule):
    here, there = parameters("cpu", 5), parameters("cuda", 5)
    optimizers = [make(rule, params) for params in (here, there)]
    for step in range(2):
        for params, optimizer in zip((here, there), optimizers, strict=True):
            for param, values in zip(params, gradients(5, step, V)[1:], strict=True):
                param.grad = values.to(param.device)
            optimizer.step()
    assert_alike(*reversed(optimizers))


def test_parameters_may_lie_on_different_devices():
    here, there, expected = (parameters(device, 5)[:1] for device in ("cpu", "cuda", "cpu"))
    ids, values, _ = gradients(5, 1)
    for params in (here, there, expected):
        give(params, ids, values)
    optim.Adam(here + there).step()
    optim.Adam(expected).step()
    assert torch.equal(here[0], expected[0])
    assert_near(there[0], expected[0], LIMITS[torch.float32])


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values[:1].expand(25, 8),
        lambda values: values[:, :1].expand(25, 8),
        lambda values: values.t().contiguous().t(),
        lambda values: torch.cat([values, values], 1)[:, :8],
    ],
    ids=["one row", "one column", "columns", "rows of a wider array"],
)
def test_gradients_lie_in_memory_as_autograd_left_them(change):
    here, there = parameters("cpu", 8)[:1], parameters("cuda", 8)[:1]
    ids, values, _ = gradients(8, 1)
    for params in (here, there):
        own_ids, own = on(params[0].device, ids, values)
        params[0].grad = sparse(own_ids, change(own), (V, 8))
    optimizers = [optim.Adagrad(params) for params in (here, there)]
    for optimizer in optimizers:
        optimizer.step()
    assert_alike(*reversed(optimizers))


def test_rows_of_a_wider_table_are_updated_in_place():
    wide, expected = torch.ones(V, 9).to("cuda"), torch.ones(V, 9)
    param = torch.nn.Parameter(wide[:, 2:7])
    param.grad = sparse(*on("cuda", torch.tensor([3, 50, 3]), torch.ones(3, 5)), (V, 5))
    optim.SGD([param], lr=0.25).step()
    expected[3, 2:7], expected[50, 2:7] = 0.5, 0.75
    assert torch.equal(wide.cpu(), expected)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_a_gradient_without_rows_is_a_step_that_changes_nothing(rule):
    params = parameters("cuda", 5)
    before = [param.detach().cpu() for param in params]
    give(params, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 5), torch.zeros(0))
    optimizer = make(rule, params)
    optimizer.step()
    for param, old in zip(params, before, strict=True):
        assert torch.equal(param.detach().cpu(), old) and optimizer.state[param]["step"] == 1


def test_a_step_does_not_wait_for_the_device(without_waiting):
    params = parameters("cuda", 8)
    optimizer = optim.Adam(params)
    give(params, *gradients(8, 1))
    optimizer.step()  # the first one makes the states
    with without_waiting():
        optimizer.step()
    assert optimizer.state[params[0]]["step"] == 2


def test_ids_out_of_range_are_left_out_and_reported():
    (param, _) = parameters("cuda", 5)
    expected = param.detach().cpu()
    expected[3] -= 0.5
    param.grad = sparse(*on("cuda", torch.tensor([3, V, -1]), torch.ones(3, 5)), (V, 5))
    optim.SGD([param], lr=0.5).step()
    assert torch.equal(param.detach().cpu(), expected)
    with pytest.raises(ValueError, match=r"ids\[\d\] = (60|-1) is outside \[0, num_classes = 60\)"):
        fastnce.cuda.check()


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_a_saved_state_goes_on_on_another_device(rule):
    here, there = parameters("cpu", 5), parameters("cuda", 5)
    optimizers = [make(rule, params) for params in (here, there)]
    give(here, *gradients(5, 1))
    optimizers[0].step()
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    with torch.no_grad():
        for mine, other in zip(there, here, strict=True):
            mine.copy_(other.detach().to("cuda"))
    for params, optimizer in zip((here, there), optimizers, strict=True):
        give(params, *gradients(5, 2))
        optimizer.step()
    assert_alike(*reversed(optimizers))


def test_what_the_device_cannot_update_is_refused_and_changes_nothing():
    params = [*parameters("cuda", 5)[:1], torch.nn.Parameter(torch.ones(4, dtype=torch.float64).to("cuda"))]
    before = params[0].detach().cpu()
    for param in params:
        param.grad = torch.ones(param.shape, dtype=param.dtype).to("cuda")
    with pytest.raises(TypeError, match=r"a parameter on device cuda:0 has dtype torch.float64: expected float32, flo"):
        optim.SGD(params).step()
    assert torch.equal(params[0].detach().cpu(), before)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_fastnce_optim_takes_tensors_of_a_device_that_is_not_current(rule):
    weights, biases = (table.detach() for table in parameters("cuda", 5))
    twin = Twin(rule, weights.cpu().numpy(), biases.cpu().numpy())
    optimizer = rule.make(weights, biases)
    given = gradients(5, 1)
    optimizer.update_rows(*on("cuda", *given))
    twin.update_rows(*(array.numpy() for array in given))
    for name, table in (("weights", weights), ("biases", biases)):
        assert relative_error(table.cpu().numpy(), twin.tables[name]) <= OPTIMIZER_RELATIVE["float32"]


# ---- modules -----------------------------------------------------------------------------------------------


def calls_of(count=2, size=9):
    generator = torch.Generator().manual_seed(4)
    return [
        (torch.randn(size, WIDTH, generator=generator), torch.randint(CLASSES, (size,), generator=generator))
        for _ in range(count)
    ]


def moved(value, device):
    if isinstance(value, fastnce.Ragged):
        return fastnce.Ragged(*on(device, *value))
    return value.to(device)


def train(criterion, device, calls):
    """Losses and gradients of inputs; ``calls``: the arguments of each, the last of them by name."""
    results = []
    for x, *arguments in calls:
        named = arguments.pop() if isinstance(arguments[-1], dict) else {}
        leaf = x.clone().to(criterion.weight.dtype).to(device).requires_grad_()
        named = {name: moved(value, device) for name, value in named.items()}
        loss = criterion(leaf, *(moved(value, device) for value in arguments), **named)
        upstream = torch.linspace(0.5, 2.0, max(loss.numel(), 1)).view(loss.shape).to(device)
        loss.backward(upstream)
        results += [loss, leaf.grad]
    return results


def assert_trained_alike(calls, make=ADAGRAD, prepare=lambda criterion: None, **options):
    here, there = module(optimizer=make, **options), module(optimizer=make, device="cuda", **options)
    there.load_state_dict(here.state_dict())
    for criterion in (here, there):
        prepare(criterion)
    limit = LIMITS[here.weight.dtype]
    for ours, expected in zip(train(there, "cuda", calls), train(here, "cpu", calls), strict=True):
        assert_near(ours, expected, limit, "a loss or a gradient of inputs")
    assert there.weight.grad is None and (there.bias is None or there.bias.grad is None)
    assert_alike(there.optimizer, here.optimizer)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_module_that_owns_an_optimizer_trains_as_on_the_cpu(loss, reduction):
    assert_trained_alike(calls_of(), loss=loss, reduction=reduction)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_a_module_trains_with_every_optimizer_as_on_the_cpu(rule):
    assert_trained_alike(calls_of(), functools.partial(getattr(optim, rule.optimizer.__name__), **rule.options))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_module_of_16_bits_trains_as_on_the_cpu(loss, dtype):
    make = functools.partial(optim.RowwiseAdagrad, lr=0.1, stochastic_rounding=False)
    assert_trained_alike(calls_of(), make, loss=loss, dtype=dtype)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_module_trains_on_lists_of_labels_weights_and_exclusions_as_on_the_cpu(loss):
    def lists(*lengths):
        offsets = torch.tensor([0, *lengths]).cumsum(0)
        return fastnce.Ragged((torch.arange(int(offsets[-1])) * 7) % CLASSES, offsets)

    x, _ = batch(5)
    more = {"label_weights": torch.linspace(0.5, 2.0, 7), "exclude": lists(1, 4, 0, 2, 0)}
    call = (x.detach(), lists(2, 0, 1, 3, 1), torch.tensor([1.0, 2.0, 0.5, 0.0, 3.0]), more)
    assert_trained_alike([call] * 2, loss=loss)


@pytest.mark.parametrize("frozen", ["weight", "bias"])
@pytest.mark.parametrize("rule", ["sgd_decay", "adam_decay"])
def test_what_is_frozen_is_not_updated(rule, frozen):
    make = functools.partial(getattr(optim, RULES[rule].optimizer.__name__), **RULES[rule].options)
    here, there = module(optimizer=make), module(optimizer=make, device="cuda")
    there.load_state_dict(here.state_dict())
    before = getattr(here, frozen).detach().clone()
    for criterion, device in ((here, "cpu"), (there, "cuda")):
        getattr(criterion, frozen).requires_grad_(False)
        train(criterion, device, calls_of())
    assert torch.equal(getattr(there, frozen).cpu(), before)
    other = "bias" if frozen == "weight" else "weight"
    assert_near(getattr(there, other), getattr(here, other), LIMITS[torch.float32])


def test_a_module_without_biases_trains_as_on_the_cpu():
    assert_trained_alike(calls_of(), bias=False)


def test_ignored_examples_and_empty_batches_train_as_on_the_cpu():
    (x, target), _ = calls_of()
    target[2] = target[5] = -100
    ignored = torch.full_like(target, -100)
    assert_trained_alike([(x, target), (x, ignored), (x[:0], target[:0]), (x, target)])


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_backward_pass_that_updates_does_not_wait_for_the_device(reduction, without_waiting):
    criterion = module(optimizer=ADAGRAD, device="cuda", reduction=reduction)
    x, target = on("cuda", *calls_of()[0])
    criterion(x.requires_grad_(), target).sum().backward()
    loss = criterion(x, target).sum()
    with without_waiting():
        loss.backward()
    assert criterion.optimizer.state[criterion.weight]["step"] == 2


def test_training_goes_on_from_the_state_dict_of_the_cpu():
    here = module(optimizer=ADAGRAD)
    train(here, "cpu", calls_of(1))
    there = module(optimizer=ADAGRAD, device="cuda", seed=99)
    there.load_state_dict(here.state_dict())
    train(here, "cpu", calls_of())
    train(there, "cuda", calls_of())
    assert_alike(there.optimizer, here.optimizer)
    assert np.array_equal(there.calls.cpu(), here.calls)
