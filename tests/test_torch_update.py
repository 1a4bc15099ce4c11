"""Modules that update their tables in the backward pass: the step, when it is made, what is refused, checkpoints."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import torch.distributed as dist  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import fastnce.torch  # noqa: E402
from fastnce.torch import optim  # noqa: E402
from optimizers import EVERY_RULE, RULES  # noqa: E402
from tolerances import OPTIMIZER_RELATIVE, relative_error  # noqa: E402
from torch_cases import CLASSES, WIDTH, assert_equal, batch, module  # noqa: E402

LOSSES = ("NCELoss", "SampledSoftmaxLoss", "NegativeSamplingLoss")
ADAGRAD = functools.partial(optim.Adagrad, lr=0.3, initial_accumulator_value=0.1)
ADAM = functools.partial(optim.Adam, lr=0.05, weight_decay=0.02)


def maker(rule, **options):
    return functools.partial(getattr(optim, rule.optimizer.__name__), **rule.options | options)


def pair(make=ADAGRAD, **options):
    """A module that updates itself, and the same one beside its optimizer."""
    alone = module(**options)
    return module(optimizer=make, **options), alone, make(list(alone.parameters()))


def tables_of(criterion):
    return [table for table in (criterion.weight, criterion.bias) if table is not None]


def assert_trained_alike(own, alone, optimizer, dtype="float32"):
    for mine, other in zip(tables_of(own), tables_of(alone), strict=True):
        assert mine.grad is None
        assert relative_error(mine.detach().numpy(), other.detach().numpy()) <= OPTIMIZER_RELATIVE[dtype]
        for name, state in optimizer.state[other].items():
            assert relative_error(own.optimizer.state[mine][name].numpy(), state.numpy()) <= OPTIMIZER_RELATIVE[dtype]


def train_both(own, alone, optimizer, calls, factor=None, dtype="float32"):
    """Steps of both; ``calls``: the arguments of each. Asserts that losses and gradients of inputs are the same."""
    for number, (x, *arguments) in enumerate(calls):
        results = []
        for criterion in (own, alone):
            leaf = x.detach().clone().requires_grad_()
            loss = criterion(leaf, *arguments[:2], **(arguments[2] if len(arguments) > 2 else {}))
            upstream = torch.linspace(0.5, 2.0, max(loss.numel(), 1), dtype=loss.dtype).view(loss.shape)
            optimizer.zero_grad()
            loss.backward(upstream * (1.0 if factor is None else factor))
            results.append((loss.detach(), leaf.grad))
        optimizer.step()
        for mine, other in zip(*results, strict=True):
            assert relative_error(mine.numpy(), other.numpy()) <= 4 * OPTIMIZER_RELATIVE[dtype], number
    assert_trained_alike(own, alone, optimizer, dtype)


def calls_of(count=3, dtype=torch.float32, size=9):
    generator = torch.Generator().manual_seed(4)
    return [
        (torch.randn(size, WIDTH, generator=generator).to(dtype), torch.randint(CLASSES, (size,), generator=generator))
        for _ in range(count)
    ]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_is_loss_gradients_and_optimizer(loss, reduction):
    train_both(*pair(loss=loss, reduction=reduction), calls_of(), factor=0.7)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_a_step_of_every_optimizer(rule):
    train_both(*pair(maker(rule)), calls_of())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_in_float64_and_without_biases(loss, bias):
    calls = calls_of(dtype=torch.float64)
    train_both(*pair(loss=loss, bias=bias, dtype=torch.float64), calls, dtype="float64")


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_on_lists_of_labels_weights_and_exclusions(loss, reduction):
    def lists(*lengths):
        offsets = torch.tensor([0, *lengths]).cumsum(0)
        return fastnce.Ragged((torch.arange(int(offsets[-1])) * 7) % CLASSES, offsets)

    x, _ = batch(5)
    labels, weights = lists(2, 0, 1, 3, 1), torch.tensor([1.0, 2.0, 0.5, 0.0, 3.0])
    more = {"label_weights": torch.linspace(0.5, 2.0, 7), "exclude": lists(1, 4, 0, 2, 0)}
    train_both(*pair(loss=loss, reduction=reduction), [(x, labels, weights, more)] * 3)


def test_a_step_on_several_axes_of_examples_and_ignored_ones():
    x = torch.randn(3, 4, WIDTH, generator=torch.Generator().manual_seed(2))
    target = torch.arange(12).view(3, 4)
    target[0, 1] = target[2] = -100
    train_both(*pair(), [(x, target)] * 2)
    train_both(*pair(num_true=2), [(x, torch.stack([target, target.flip(0)], -1))] * 2)


def test_a_step_of_factors_that_are_learned():
    own, alone, optimizer = pair()
    x, target = batch()
    gradients = []
    for criterion in (own, alone):
        factors = torch.linspace(0.5, 2.0, len(x)).requires_grad_()
        criterion(x.detach(), target, factors).backward()
        gradients.append(factors.grad)
    optimizer.step()
    torch.testing.assert_close(*gradients)
    assert_trained_alike(own, alone, optimizer)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_tables_of_16_bits_are_rounded_once(dtype):
    """To the neighbours that the steps of the library take: gradients of rows are never of 16 bits."""
    own = module(optimizer=functools.partial(optim.Adagrad, lr=0.3, seed=11), dtype=dtype)
    weights, biases = (table.detach().clone() for table in tables_of(own))
    theirs = fastnce.optim.Adagrad(weights, biases, lr=0.3, seed=11)
    for number, (x, target) in enumerate(calls_of(3, dtype)):
        samples = fastnce.torch.log_uniform_candidates(target, own.num_sampled, CLASSES, seed=7, calls=number)
        samples = tuple(values.numpy() for values in samples)
        arguments = (target.numpy()[:, None], x, own.num_sampled, CLASSES)
        _, grads = fastnce.nce_loss_and_grad(
            weights, biases, *arguments, sampled_values=samples, grad_loss=1 / len(x), grad_dtype="float32"
        )
        theirs.update_rows(*grads.rows)
        own(x, target).backward()
        assert torch.equal(own.weight, weights) and torch.equal(own.bias, biases)
    assert own.optimizer.state[own.weight]["sum"].dtype == torch.float32


def test_nothing_is_updated_but_in_a_backward_pass():
    own = module(optimizer=ADAGRAD)
    x, target = batch()
    before = copy.deepcopy(own.state_dict())

    def same():
        now = own.state_dict()
        return all(torch.equal(now[name], value) for name, value in before.items() if name != "calls")

    own(x, target)
    with torch.no_grad():
        own(x, target)
    own.top_k(x, 3)
    own.log_prob(x)
    assert same()
    own.eval()
    own(x, target).backward()
    assert same() and x.grad is not None and own.weight.grad is None
    own.train()
    own(x, target).backward()
    assert not same() and own.optimizer.state[own.weight]["step"] == 1


def test_inputs_need_no_gradient():
    own, alone, optimizer = pair()
    x, target = batch()
    own(x.detach(), target).backward()
    alone(x.detach(), target).backward()
    optimizer.step()
    assert_trained_alike(own, alone, optimizer)


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_what_is_frozen_stays(frozen):
    own, alone, optimizer = pair()
    for criterion in (own, alone):
        getattr(criterion, frozen).requires_grad_(False)
    before = getattr(own, frozen).clone()
    for x, target in calls_of():
        for criterion in (own, alone):
            criterion(x, target).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(getattr(own, frozen), before)
    other = {"weight": "bias", "bias": "weight"}[frozen]
    torch.testing.assert_close(getattr(own, other), getattr(alone, other))


@pytest.mark.parametrize("frozen", [["weight"], ["bias"], ["weight", "bias"]], ids=" and ".join)
def test_what_is_frozen_between_loss_and_backward_pass_stays(frozen):
    own, alone, optimizer = pair()
    x, target = batch()
    for criterion in (own, alone):
        loss = criterion(x, target)
        for name in frozen:
            getattr(criterion, name).requires_grad_(False)
        loss.backward()
    optimizer.step()
    for name in ("weight", "bias"):
        torch.testing.assert_close(getattr(own, name), getattr(alone, name))
        assert own.state_dict()[f"optimizer.{name}.step"] == (name not in frozen)


def test_what_was_frozen_when_the_loss_was_computed_stays():
    own = module(optimizer=ADAGRAD)
    before = own.weight.detach().clone()
    own.weight.requires_grad_(False)
    loss = own(*batch())
    own.weight.requires_grad_(True)
    loss.backward()
    assert torch.equal(own.weight, before)
    assert [int(own.state_dict()[f"optimizer.{name}.step"]) for name in ("weight", "bias")] == [0, 1]


def test_an_update_counts_if_ctrl_c_comes_once_it_is_made(monkeypatch):
    own = module(optimizer=ADAGRAD)
    loss = own(*batch())
    made = fastnce.torch._kernels.update

    def interrupted(*arguments):
        made(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fastnce.torch._kernels, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loss.backward(retain_graph=True)
    assert [int(own.state_dict()[f"optimizer.{name}.step"]) for name in ("weight", "bias")] == [1, 1]
    with pytest.raises(RuntimeError, match="the table was changed after the loss was computed"):
        loss.backward()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_backward_pass_is_refused(reduction):
    own = module(optimizer=ADAGRAD, reduction=reduction)
    x, target = batch()
    loss = own(x, target).sum()
    loss.backward(retain_graph=True)
    before = copy.deepcopy(own.state_dict())
    with pytest.raises(RuntimeError, match=r"has updated the table already: expected one backward pass for each call"):
        loss.backward()
    loss = own(x, target).sum()
    with pytest.raises(
        RuntimeError, match=r"cannot differentiate twice: expected create_graph=False where the backward"
    ):
        torch.autograd.grad(loss, x, create_graph=True)
    now = own.state_dict()
    assert all(torch.equal(now[name], value) for name, value in before.items() if name != "calls")


def test_a_table_that_was_changed_since_the_loss_is_refused():
    own = module(optimizer=ADAGRAD)
    x, target = batch()
    both = own(x, target) + own(x, target)
    with pytest.raises(
        RuntimeError, match=r"the table was changed after the loss was computed, by another backward pass"
    ):
        both.backward()
    loss = own(x, target)
    with torch.no_grad():
        own.bias.zero_()
    with pytest.raises(RuntimeError, match=r"expected loss\.backward\(\) before the module is called again"):
        loss.backward()


def test_a_table_that_was_replaced_since_the_loss_is_refused():
    own = module(optimizer=ADAGRAD)
    saved = copy.deepcopy(own.state_dict())
    loss = own(*batch())
    own.load_state_dict(saved, assign=True)
    with pytest.raises(RuntimeError, match="the module has another table than when the loss was computed"):
        loss.backward()
    assert torch.equal(own.weight, saved["weight"]) and len(own.optimizer.state) == 2


def test_a_tensor_that_saved_the_table_sees_that_it_was_updated():
    own = module(optimizer=ADAGRAD)
    penalty = own.weight.square().sum()
    x, target = batch()
    own(x, target).backward()
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation"):
        penalty.backward()


def test_other_gradients_of_the_table_are_left_to_step():
    own = module(optimizer=functools.partial(optim.SGD, lr=0.5))
    x, target = batch()
    own(x, target).backward()
    before = own.weight.detach().clone()
    own.optimizer.step()
    assert torch.equal(own.weight, before)
    own.weight.sum().backward()
    own.optimizer.step()
    torch.testing.assert_close(own.weight.detach(), before - 0.5)


@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])
def test_checkpointing_makes_the_same_step_once(reentrant):
    plain, own = module(optimizer=ADAM), module(optimizer=ADAM)
    for x, target in calls_of():
        gradients = []
        for call in (plain, lambda *given: checkpoint(own, *given, use_reentrant=reentrant)):
            leaf = x.clone().requires_grad_()
            call(leaf, target).backward()
            gradients.append(leaf.grad)
        assert_equal(gradients[:1], gradients[1:])
    assert_equal(plain.state_dict().values(), own.state_dict().values())


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # which PyTorch looks at, and means to hide
def test_a_compiled_module_breaks_the_graph_and_makes_the_same_step():
    plain, own = module(optimizer=ADAM), module(optimizer=ADAM)
    torch.manual_seed(0)
    body = torch.nn.Linear(WIDTH, WIDTH)
    compiled = torch.compile(lambda x, target: own(body(x), target) * 2, backend="aot_eager")
    for x, target in calls_of():
        (plain(body(x), target) * 2).backward()
        compiled(x, target).backward()
    assert_equal(plain.state_dict().values(), own.state_dict().values())
    with pytest.raises(Exception, match=r"function marked as skipped"):
        torch.compile(own, backend="aot_eager", fullgraph=True)(x, target)
    own.eval()
    torch.compile(own, backend="aot_eager", fullgraph=True)(x, target)


def test_a_function_with_the_backward_pass_in_it_may_be_compiled():
    plain = module(optimizer=ADAM)
    compiled = copy.deepcopy(plain)

    def step(criterion, x, target):
        criterion(x, target).backward()

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Dynamo does not trace the core
        warnings.filterwarnings("ignore", message="The .grad attribute")  # which PyTorch looks at, and means to hide
        for x, target in calls_of():
            step(plain, x, target)
            torch.compile(step, backend="eager")(compiled, x, target)
    assert_equal(plain.state_dict().values(), compiled.state_dict().values())


def test_tracers_are_refused():
    own = module(optimizer=ADAGRAD)
    x, target = batch()
    with pytest.raises(Exception, match=r"optimizer: expected eager mode, or torch.compile"):
        torch.export.export(own, (x.detach(), target), strict=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_training_goes_on_from_the_state_dict_of_the_module(rule, dtype):
    first, other = module(optimizer=maker(rule), dtype=dtype), module(optimizer=maker(rule), dtype=dtype, seed=99)
    calls = calls_of(6, dtype)
    for x, target in calls[:3]:
        first(x, target).backward()
    first.optimizer.param_groups[0]["lr"] = 0.17
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.optimizer.param_groups[0]["lr"] == 0.17
    for x, target in calls[3:]:
        for criterion in (first, other):
            criterion(x, target).backward()
    assert_equal(first.state_dict().values(), other.state_dict().values())


def test_training_goes_on_in_copies():
    first = module(optimizer=ADAM)
    calls = calls_of(3)
    first(*calls[0]).backward()
    others = [copy.deepcopy(first), pickle.loads(pickle.dumps(first)), module(optimizer=ADAM)]
    others[2].load_state_dict(copy.deepcopy(first.state_dict()), assign=True)
    with torch.device("meta"):
        meta = module(optimizer=ADAM)
    meta.to_empty(device="cpu").load_state_dict(first.state_dict())
    for x, target in calls[1:]:
        for criterion in (first, *others, meta):
            criterion(x, target).backward()
    for other in (*others, meta):
        assert_equal(first.state_dict().values(), other.state_dict().values())


def test_the_optimizer_s_own_state_dict_goes_on_too():
    first, other = module(optimizer=ADAM), module(optimizer=ADAM)
    calls = calls_of(3)
    first(*calls[0]).backward()
    other.load_state_dict(first.state_dict(), strict=False)
    other.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    for x, target in calls[1:]:
        for criterion in (first, other):
            criterion(x, target).backward()
    assert_equal(first.state_dict().values(), other.state_dict().values())


def test_the_state_dict_has_what_these_options_need_and_no_more():
    own = module(optimizer=functools.partial(optim.SGD, lr=0.1, momentum=0.9))
    own(*batch()).backward()
    own.optimizer.param_groups[0]["momentum"] = 0.0
    module(optimizer=functools.partial(optim.SGD, lr=0.1)).load_state_dict(own.state_dict())
    assert "optimizer.weight.momentum_buffer" not in own.state_dict()


def test_state_dicts_that_do_not_fit_are_refused_and_leave_the_optimizer():
    own, plain = module(optimizer=ADAGRAD), module()
    own(*batch()).backward()
    before = copy.deepcopy(own.state_dict())
    with pytest.raises(RuntimeError, match=r'Unexpected key.* "optimizer.lr", "optimizer.weight.step"'):
        plain.load_state_dict(before)
    with pytest.raises(RuntimeError, match=r'Missing key.* "optimizer.lr", "optimizer.weight.step"'):
        own.load_state_dict(plain.state_dict())
    for name, value, message in (
        ("optimizer.weight.sum", torch.ones(3), r"optimizer.weight.sum: shape \[3\]: expected \[40, 6\]"),
        ("optimizer.bias.step", torch.tensor(-1.0), r"optimizer.bias.step: .*: expected a number of steps, at least 0"),
        ("optimizer.lr", torch.tensor(float("nan")), "the learning rate = nan: expected a finite number, at least 0"),
    ):
        with pytest.raises(RuntimeError, match=message):
            own.load_state_dict({**before, name: value})
        assert_equal(own.state_dict().values(), before.values())


def test_states_follow_the_table_to_another_dtype_and_from_new_parameters():
    own = module(optimizer=ADAGRAD)
    x, target = batch()
    own(x, target).backward()
    own.double()
    own(x.double(), target).backward()
    assert own.optimizer.state[own.weight]["sum"].dtype == torch.float64
    sums = own.optimizer.state[own.weight]["sum"].clone()
    own.weight = torch.nn.Parameter(torch.zeros(CLASSES, WIDTH, dtype=torch.float64))
    own(x.double(), target).backward()
    assert own.optimizer.param_groups[0]["params"] == [own.weight, own.bias]
    assert own.weight.any() and (own.optimizer.state[own.weight]["sum"] >= sums).all()
    own.reset_parameters()
    assert not own.optimizer.state


def test_schedulers_set_the_rate_without_a_call_of_step():
    """And without the warning that step() was not called, which would be an error here."""
    own = module(optimizer=functools.partial(optim.SGD, lr=1.0))
    alone = module()
    scheduler = torch.optim.lr_scheduler.StepLR(own.optimizer, 1, gamma=0.5)
    optimizer = optim.SGD(alone.parameters(), lr=1.0)
    for number, (x, target) in enumerate(calls_of()):
        optimizer.param_groups[0]["lr"] = 0.5**number
        optimizer.zero_grad()
        for criterion in (own, alone):
            criterion(x, target).backward()
        optimizer.step()
        scheduler.step()
    assert scheduler.get_last_lr() == [0.125]
    assert_trained_alike(own, alone, optimizer)


def test_distributed_data_parallel_is_refused(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        own = module(optimizer=ADAGRAD)
        parallel = torch.nn.parallel.DistributedDataParallel(own)
        with pytest.raises(
            RuntimeError, match=r"expected no DistributedDataParallel around NCELoss, since each process"
        ):
            parallel(*batch())
    finally:
        dist.destroy_process_group()


def test_the_optimizer_is_shown():
    assert "optimizer='Adam'" in repr(module(optimizer=optim.Adam))
    assert "optimizer" not in repr(module())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (0.1, TypeError, "optimizer is a float: expected None, or what makes one: functools.partial"),
        (
            torch.optim.Adagrad,
            TypeError,
            "optimizer made a torch.optim.adagrad.Adagrad: expected None, or what makes one",
        ),
        (functools.partial(optim.SGD, lr=-1.0), ValueError, "lr = -1: expected a finite number, at least 0"),
        (
            lambda params: optim.SGD([{"params": [param]} for param in params]),
            ValueError,
            "optimizer made 2 groups: expected one, of weight and bias",
        ),
    ],
)
def test_what_makes_no_optimizer_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        module(optimizer=make)


def test_other_devices_and_computed_tables_are_refused():
    own = module(optimizer=ADAGRAD)
    torch.nn.utils.parametrizations.weight_norm(own)
    with pytest.raises(RuntimeError, match=r"weight is computed: expected a parameter of the module"):
        own(*batch())
    x, target = batch()
    with torch.device("meta"):
        meta = module(optimizer=ADAGRAD)
    with pytest.raises(NotImplementedError, match=r"optimizer: expected eager mode"):
        meta(x.detach().to("meta"), target.to("meta"))


def test_numpy_steps_are_the_same_steps():
    own = module(optimizer=functools.partial(optim.Adagrad, **RULES["adagrad_keras"].options))
    weights, biases = (table.detach().numpy().copy() for table in tables_of(own))
    theirs = RULES["adagrad_keras"].make(weights, biases)
    for number, (x, target) in enumerate(calls_of(3)):
        samples = fastnce.torch.log_uniform_candidates(target, own.num_sampled, CLASSES, seed=7, calls=number)
        samples = tuple(values.numpy() for values in samples)
        fastnce.train_step(
            fastnce.nce_loss_and_grad,
            theirs,
            target.numpy()[:, None],
            x.numpy(),
            own.num_sampled,
            CLASSES,
            sampled_values=samples,
            grad_loss=1 / len(x),
        )
        own(x, target).backward()
    assert np.array_equal(own.weight.detach().numpy(), weights) and np.array_equal(own.bias.detach().numpy(), biases)
