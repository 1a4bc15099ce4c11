"""fastnce.torch.optim: the steps of the twins and of torch.optim, gradients, states, what is refused."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fastnce.torch  # noqa: E402
from emulated_torch import HostBackedCudaTensor  # noqa: E402
from fastnce.torch import optim  # noqa: E402
from fastnce.torch.optim import _base as base  # noqa: E402
from optimizers import EVERY_RULE, RULES, Twin  # noqa: E402
from tolerances import OPTIMIZER_RELATIVE, relative_error  # noqa: E402

V, D = 60, 9
HALVES = [torch.float16, torch.bfloat16]


def tables(dtype=torch.float32, dim=D):
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(V, dim, generator=generator), torch.randn(V, generator=generator)]
    return [torch.nn.Parameter(table.to(dtype)) for table in draw]


def sparse(ids, values, shape=(V, D)):
    return torch.sparse_coo_tensor(ids.unsqueeze(0), values, shape, check_invariants=False)


def give_gradients(params, seed, rows=25, every=False):
    """Sparse gradients of all parameters: ids in any order, some of them several times; ``every``: each class at least
    once. Returns the ids and their gradients."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(V, (rows,), generator=generator)
    if every:
        ids = torch.cat([torch.arange(V), ids])
    given = [ids]
    for param in params:
        values = torch.randn(len(ids), *param.shape[1:], generator=generator).to(param.dtype)
        param.grad = sparse(ids, values, param.shape)
        given.append(values)
    return given


def make(rule, params, **options):
    return getattr(optim, rule.optimizer.__name__)(params, **rule.options | options)


def states_of(optimizer, param):
    return {name: value for name, value in optimizer.state[param].items() if name != "step"}


def assert_same(first, second):
    """That two optimizers have the same parameters and states, bit for bit."""
    groups = zip(first.param_groups, second.param_groups, strict=True)
    for a, b in ((a, b) for one, two in groups for a, b in zip(one["params"], two["params"], strict=True)):
        assert torch.equal(a, b)
        assert first.state[a].keys() == second.state[b].keys()
        assert all(torch.equal(value, second.state[b][name]) for name, value in first.state[a].items())


@pytest.mark.parametrize("dim", [1, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_50_steps_are_those_of_the_twin(rule, dtype, dim):
    params = tables(dtype, dim)
    twin = Twin(rule, *(param.detach().numpy().copy() for param in params))
    optimizer = make(rule, params)
    for step in range(50):
        twin.update_rows(*(array.numpy() for array in give_gradients(params, step)))
        optimizer.step()
    for param, (name, expected) in zip(params, twin.tables.items(), strict=True):
        limit = OPTIMIZER_RELATIVE[str(dtype).removeprefix("torch.")]
        assert relative_error(param.detach().numpy(), expected) <= limit
        assert optimizer.state[param]["step"] == 50
        for state, values in twin.states[name].items():
            assert relative_error(optimizer.state[param][state].numpy(), values) <= limit, state


@pytest.mark.parametrize(
    ("ours", "theirs", "options", "every"),
    [
        (optim.SGD, torch.optim.SGD, {"lr": 0.1}, False),
        (optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, True),
        (optim.Adagrad, torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.2}, False),
        (optim.Adam, torch.optim.SparseAdam, {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6}, False),
    ],
    ids=["SGD", "momentum", "Adagrad", "SparseAdam"],
)
def test_50_steps_are_those_of_torch_optim(ours, theirs, options, every):
    """Whose momentum goes on moving rows without a gradient: there, every row has one."""
    params, expected = tables()[:1], tables()[:1]
    optimizer, other = ours(params, **options), theirs(expected, **options)
    for step in range(50):
        give_gradients(params, step, every=every)
        give_gradients(expected, step, every=every)
        optimizer.step()
        other.step()
    assert relative_error(params[0].detach().numpy(), expected[0].detach().numpy()) <= OPTIMIZER_RELATIVE["float32"]
    states = states_of(optimizer, params[0])
    assert states.keys() == {name for name, value in states_of(other, expected[0]).items() if value is not None}
    for name, state in states.items():
        theirs_of_state = other.state[expected[0]][name].to_dense()
        assert relative_error(state.numpy(), theirs_of_state.numpy()) <= OPTIMIZER_RELATIVE["float32"]


def test_defaults_are_those_of_torch_optim():
    for ours, theirs in ((optim.SGD, "SGD"), (optim.Adagrad, "Adagrad"), (optim.Adam, "SparseAdam")):
        other = getattr(torch.optim, theirs)(tables()[:1]).defaults
        defaults = ours(tables()[:1]).defaults
        assert {name: other[name] for name in defaults if name in other} == {
            name: value for name, value in defaults.items() if name in other
        }


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_rows_without_a_gradient_stay_as_they_are(rule):
    params = tables()
    optimizer = make(rule, params)
    give_gradients(params, 1, every=True)
    optimizer.step()
    before = copy.deepcopy([(param.detach(), states_of(optimizer, param)) for param in params])
    ids, *_ = give_gradients(params, 2)
    optimizer.step()
    others = np.setdiff1d(np.arange(V), ids.numpy())
    for param, (old, old_states) in zip(params, before, strict=True):
        assert torch.equal(param[others], old[others]) and not torch.equal(param, old)
        assert all(torch.equal(optimizer.state[param][name][others], old_states[name][others]) for name in old_states)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_a_dense_gradient_has_all_rows(rule):
    params, same = tables(), tables()
    dense, rows = make(rule, params), make(rule, same)
    for step in range(3):
        give_gradients(same, step, rows=0, every=True)
        for param, other in zip(params, same, strict=True):
            param.grad = other.grad.to_dense()
            other.grad = other.grad.coalesce()
        dense.step()
        rows.step()
    assert_same(dense, rows)


def test_a_model_with_dense_gradients_of_any_shape_trains_as_with_torch_optim():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 4 * 4, 5), torch.nn.PReLU()]
    model = torch.nn.Sequential(*layers)
    model.register_parameter("scale", torch.nn.Parameter(torch.tensor(2.0)))
    model.register_parameter("nothing", torch.nn.Parameter(torch.empty(0, 3)))
    for ours, theirs in (
        (lambda params: optim.SGD(params, momentum=0.9), lambda params: torch.optim.SGD(params, momentum=0.9)),
        (optim.Adagrad, torch.optim.Adagrad),
        (lambda params: optim.Adam(params, weight_decay=0.01, eps_corrected=True), torch.optim.AdamW),
    ):
        models = [copy.deepcopy(model) for _ in range(2)]
        made = [ours(models[0].parameters()), theirs(models[1].parameters())]
        for step in range(20):
            x = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(step))
            for one, optimizer in zip(models, made, strict=True):
                optimizer.zero_grad()
                (one(x).square().mean() * one.scale + one.nothing.sum()).backward()
                optimizer.step()
        for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_gradients_that_are_coalesced_or_not_give_the_same_step(rule):
    params, same = tables(), tables()
    optimizer, other = make(rule, params), make(rule, same)
    give_gradients(params, 3)
    give_gradients(same, 3)
    for param in same:
        assert not param.grad.is_coalesced()
        param.grad = param.grad.coalesce()
    optimizer.step()
    other.step()
    for param, expected in zip(params, same, strict=True):
        torch.testing.assert_close(param, expected, rtol=1e-5, atol=1e-6)


def test_values_of_gradients_may_be_expanded_transposed_and_of_no_rows():
    param, same = tables()[0], tables()[0]
    optimizer, other = optim.Adagrad([param], lr=0.1), optim.Adagrad([same], lr=0.1)
    ids = torch.tensor([5, 2, 5])
    for values in (torch.ones(1, 1).expand(3, D), torch.randn(D, 3).t(), torch.randn(3, D + 2)[:, 1:-1]):
        param.grad, same.grad = sparse(ids, values), sparse(ids, values.contiguous())
        optimizer.step()
        other.step()
    assert torch.equal(param, same)
    param.grad = sparse(ids[:0], torch.empty(0, D))
    optimizer.step()
    assert torch.equal(param, same) and optimizer.state[param]["step"] == 4


@pytest.mark.parametrize(
    ("loss", "compiled"),
    [("NCELoss", False), ("SampledSoftmaxLoss", False), ("NegativeSamplingLoss", False), ("NCELoss", True)],
)
def test_gradients_of_the_losses_are_taken(loss, compiled):
    torch.manual_seed(0)
    criteria = [getattr(fastnce.torch, loss)(V, D, 8, seed=3) for _ in range(2)]
    criteria[1].load_state_dict(criteria[0].state_dict())
    made = [optim.Adagrad(criteria[0].parameters(), 0.1), torch.optim.Adagrad(criteria[1].parameters(), 0.1)]
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        x, target = torch.randn(12, D, generator=generator), torch.randint(V, (12,), generator=generator)
        for criterion, optimizer in zip(criteria, made, strict=True):
            optimizer.zero_grad()
            call = torch.compile(criterion, backend="aot_eager") if compiled else criterion
            call(x, target).backward()
            optimizer.step()
    for a, b in zip(criteria[0].parameters(), criteria[1].parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("rounding", [False, True], ids=["nearest", "stochastic"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_16_bits_are_rounded_as_fastnce_optim_rounds_them(rule, dtype, rounding):
    param, same = tables(dtype)[0], tables(dtype)[0]
    optimizer = make(rule, [param], stochastic_rounding=rounding, seed=7)
    other = rule.make(same.detach(), stochastic_rounding=rounding, seed=7)
    for step in range(3):
        ids, values = give_gradients([param], step)
        optimizer.step()
        other.update_rows(ids, values)
    assert torch.equal(param, same)
    for name, state in states_of(optimizer, param).items():
        assert state.dtype == torch.float32 and np.array_equal(state.numpy(), other.state[f"weights.{name}"])


def test_parameters_of_one_optimizer_are_rounded_by_other_bits():
    params = [torch.nn.Parameter(torch.ones(V, D, dtype=torch.bfloat16)) for _ in range(2)]
    for param in params:
        param.grad = torch.full((V, D), 1e-3, dtype=torch.bfloat16)
    optim.SGD(params, lr=1.0).step()
    assert not torch.equal(*params)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_training_goes_on_from_a_state_dict(rule, dtype):
    params, resumed = tables(dtype), tables(dtype)
    optimizer = make(rule, params)
    for step in range(3):
        give_gradients(params, step)
        optimizer.step()
    file = io.BytesIO()
    torch.save({"params": params, "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = getattr(optim, rule.optimizer.__name__)(resumed, lr=0.7)
    other.load_state_dict(saved["optimizer"])
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    for param, value in zip(resumed, saved["params"], strict=True):
        param.data.copy_(value)
    assert_same(optimizer, other)
    for step in range(3, 6):
        for group in (params, resumed):
            give_gradients(group, step)
        optimizer.step()
        other.step()
    assert_same(optimizer, other)


def test_an_optimizer_may_be_copied_with_its_parameters():
    params = tables()
    optimizer = make(RULES["adam"], params)
    give_gradients(params, 0)
    optimizer.step()
    copied, other = copy.deepcopy((params, optimizer))
    for group in (params, copied):
        give_gradients(group, 1)
    optimizer.step()
    other.step()
    assert_same(optimizer, other)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (optim.SGD, lambda params: torch.optim.SGD(params, momentum=0.9)),
        (optim.Adagrad, torch.optim.Adagrad),
        (optim.Adam, torch.optim.SparseAdam),
    ],
    ids=["momentum", "Adagrad", "SparseAdam"],
)
def test_training_goes_on_from_a_state_dict_of_torch_optim(ours, theirs):
    params, same = tables()[:1], tables()[:1]
    other = theirs(same)
    for step in range(3):
        give_gradients(same, step, every=True)
        other.step()
    params[0].data.copy_(same[0].data)
    optimizer = ours(params)
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    for step in range(3, 6):
        for group in (params, same):
            give_gradients(group, step, every=True)
        optimizer.step()
        other.step()
    torch.testing.assert_close(params[0], same[0], rtol=1e-5, atol=1e-6)


def test_options_of_torch_optim_that_change_the_step_are_not_loaded():
    other = torch.optim.SGD(tables(), momentum=0.9, nesterov=True)
    optimizer = optim.SGD(tables(), momentum=0.5)
    with pytest.raises(ValueError, match=r"state_dict has nesterov = True: SGD has not"):
        optimizer.load_state_dict(other.state_dict())
    assert optimizer.param_groups[0]["momentum"] == 0.5


def test_weight_decay_of_torch_optim_is_loaded_where_it_is_decoupled():
    ours = optim.Adam(tables())
    ours.load_state_dict(torch.optim.AdamW(tables(), weight_decay=0.1).state_dict())
    assert ours.param_groups[0]["weight_decay"] == 0.1
    with pytest.raises(ValueError, match=r"state_dict has weight_decay = 0.2 of an optimizer of torch.optim"):
        ours.load_state_dict(torch.optim.Adam(tables(), weight_decay=0.2).state_dict())
    assert ours.param_groups[0]["weight_decay"] == 0.1
    ours.load_state_dict(ours.state_dict())  # its own is decoupled


def test_schedulers_set_the_rate_of_each_group():
    weight, bias = tables()
    before = [param.detach().clone() for param in (weight, bias)]
    groups = [{"params": [weight]}, {"params": [bias], "lr": 0.25}]
    optimizer = optim.SGD(groups, lr=torch.tensor(0.5))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        for param in (weight, bias):
            param.grad = torch.ones_like(param)
        optimizer.step()
        scheduler.step()
    torch.testing.assert_close(weight.detach(), before[0] - 0.5 * 1.75)
    torch.testing.assert_close(bias.detach(), before[1] - 0.25 * 1.75)


def test_closures_hooks_and_named_parameters_are_pytorch_s():
    param = tables()[0]
    optimizer = optim.SGD([("table", param)], lr=0.1)
    calls = []
    optimizer.register_step_post_hook(lambda *_: calls.append("hook"))

    def closure():
        optimizer.zero_grad()
        loss = param.sum()
        loss.backward()
        calls.append("closure")
        return loss

    before = param.detach().clone()
    assert torch.equal(optimizer.step(closure), before.sum())
    assert calls == ["closure", "hook"]
    torch.testing.assert_close(param.detach(), before - 0.1)


def test_a_graph_that_saved_a_parameter_sees_that_it_was_updated():
    param = tables()[0]
    loss = param.square().sum()
    param.grad = torch.ones_like(param)
    optim.SGD([param]).step()
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation"):
        loss.backward()


def test_a_parameter_may_change_its_dtype_between_steps():
    param = tables()[0]
    optimizer = optim.Adagrad([param])
    give_gradients([param], 0)
    optimizer.step()
    param.data = param.data.double()
    give_gradients([param], 1)
    optimizer.step()
    assert optimizer.state[param]["sum"].dtype == torch.float64 and optimizer.state[param]["step"] == 2


def test_a_step_counts_if_ctrl_c_comes_once_it_is_made(monkeypatch):
    params = tables()
    optimizer = optim.Adagrad(params)
    made = base.update_rows

    def interrupted(*arguments):
        made(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(base, "update_rows", interrupted)
    give_gradients(params, 0)
    versions = [param._version for param in params]
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    assert [int(optimizer.state[param]["step"]) for param in params] == [1, 0]
    assert [param._version - version for param, version in zip(params, versions, strict=True)] == [1, 0]


def test_a_step_is_refused_before_the_first_parameter_is_updated():
    params = tables()
    before = [param.detach().clone() for param in params]
    optimizer = optim.Adagrad([{"params": [param]} for param in params])
    give_gradients(params, 0)
    optimizer.param_groups[1]["lr"] = float("nan")
    with pytest.raises(ValueError, match="lr = nan: expected a finite number"):
        optimizer.step()
    optimizer.param_groups[1]["lr"] = 0.1
    optimizer.state[params[1]]["sum"] = torch.zeros(7)
    with pytest.raises(ValueError, match=r"sum of a parameter of shape \[60\] has shape \[7\]: expected \[60\]"):
        optimizer.step()
    assert all(map(torch.equal, params, before))
    assert all(optimizer.state[param]["step"] == 0 for param in params)


def _step_with(grad=None, param=None):
    def step(params):
        target = params[1] if param is None else param
        target.grad = grad(params[1]) if callable(grad) else grad
        optimizer = optim.Adagrad([params[0], target])
        params[0].grad = torch.ones_like(params[0])
        optimizer.step()

    return step


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda p: optim.SGD(p, lr=-1.0), ValueError, "lr = -1: expected a finite number, at least 0"),
        (lambda p: optim.SGD(p, lr=lambda step: 1.0), TypeError, "lr is a function: expected a number, which torch"),
        (lambda p: optim.SGD(p, lr=None), TypeError, "lr is None: expected a number"),
        (lambda p: optim.Adagrad(p, lr="0.1"), TypeError, "lr is a str: expected a number"),
        (lambda p: optim.SGD(p, lr=torch.ones(2)), TypeError, "lr is a Tensor: expected a number"),
        (lambda p: optim.Adam(p, betas=0.9), TypeError, r"betas = 0\.9: expected two numbers"),
        (lambda p: optim.Adam(p, betas=(0.9, None)), TypeError, r"betas\[1\] is None: expected a number"),
        (lambda p: optim.SGD(p, momentum=-0.1), ValueError, "momentum = -0.1: expected a finite number"),
        (lambda p: optim.SGD(p, weight_decay=-1), ValueError, "weight_decay = -1: expected a finite number"),
        (lambda p: optim.Adam(p, betas=(0.9, 1.0)), ValueError, r"betas\[1\] = 1: expected a number in \[0, 1\)"),
        (lambda p: optim.Adagrad(p, lr_decay=-1), ValueError, "lr_decay = -1: expected a finite number, at least 0"),
        (
            lambda p: optim.RowwiseAdagrad(p, initial_accumulator_value=-1),
            ValueError,
            "initial_accumulator_value = -1: expected a finite number, at least 0",
        ),
        (lambda p: optim.SGD([{"params": p, "lr": -1.0}]), ValueError, "lr = -1: expected a finite number"),
        (lambda p: optim.SGD([]), ValueError, "empty parameter list"),
        (
            lambda p: optim.SGD([torch.nn.Parameter(torch.zeros(3, dtype=torch.complex64))]),
            TypeError,
            "a parameter has dtype torch.complex64: expected float32, float64, float16 or bfloat16",
        ),
        (
            _step_with(lambda p: torch.ones_like(p).to_sparse(2)),
            ValueError,
            "a gradient has layout torch.sparse_coo with 2 sparse axes: expected a dense one, or torch.sparse_coo with",
        ),
        (
            _step_with(torch.ones(D, V).t(), torch.nn.Parameter(torch.ones(D, V).t())),
            ValueError,
            r"a parameter of shape \[60, 9\] has strides \[1, 60\]: expected contiguous rows; call contiguous\(\)",
        ),
        (
            _step_with(torch.ones(4, 3), torch.nn.Parameter(torch._neg_view(torch.ones(4, 3)))),
            ValueError,
            r"a parameter is a negative view: expected one in memory; call resolve_neg\(\)",
        ),
        (
            _step_with(torch.ones(3, device="meta"), torch.nn.Parameter(torch.ones(3, device="meta"))),
            NotImplementedError,
            "a parameter is on device meta: expected the CPU or a CUDA device; use an optimizer of torch.optim",
        ),
    ],
)
def test_what_is_not_supported_is_refused_and_changes_nothing(act, error, message):
    params = [tables()[0], torch.nn.Parameter(torch.ones(4, 3))]
    before = params[0].detach().clone()
    with pytest.raises(error, match=message):
        act(params)
    assert torch.equal(params[0], before)


@pytest.mark.skipif(fastnce.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_its_parameters_are_refused_before_any_is_updated():
    params = [tables()[0], torch.nn.Parameter(HostBackedCudaTensor(torch.ones(4, 3)))]
    before = params[0].detach().clone()
    for param in params:
        param.grad = torch.ones_like(param)
    with pytest.raises(NotImplementedError, match=r"is on device cuda:0: expected the CPU, since .*; use an"):
        optim.SGD(params).step()
    assert torch.equal(params[0], before)


def test_a_group_that_is_refused_is_not_added():
    optimizer = optim.Adam(tables()[:1])
    with pytest.raises(ValueError, match=r"eps = -1: expected a finite number, at least 0"):
        optimizer.add_param_group({"params": tables()[1:], "eps": -1.0})
    assert len(optimizer.param_groups) == 1


def test_ids_out_of_range_are_refused():
    param = tables()[0]
    before = param.detach().clone()
    param.grad = sparse(torch.tensor([V]), torch.ones(1, D))
    with pytest.raises(ValueError, match=r"ids\[0\] = 60 is outside \[0, num_classes = 60\)"):
        optim.SGD([param]).step()
    assert torch.equal(param, before)


def test_a_compiled_step_breaks_the_graph_and_is_made():
    param, same = tables()[0], tables()[0]
    optimizer, other = optim.Adagrad([param]), optim.Adagrad([same])

    @torch.compile(backend="eager")
    def train():
        param.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(2):
        train()
        same.square().sum().backward()
        other.step()
        other.zero_grad()
    assert_same(optimizer, other)
