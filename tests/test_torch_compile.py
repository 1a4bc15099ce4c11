"""fastnce.torch under torch.compile and activation checkpointing, and PyTorch's own checks of the operators."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.utils.checkpoint import checkpoint  # noqa: E402

import fastnce.torch  # noqa: E402
from fastnce.torch._schema import arguments_of, fields_of  # noqa: E402
from torch_cases import CLASSES, SAMPLED, assert_equal, batch, module, step  # noqa: E402

# PyTorch's own use of what it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

SEED = torch.tensor([1, 2])
BACKENDS = ("aot_eager", "inductor")
LOSS_OPTIONS = [
    {},
    {"sparse": False, "ignore_index": None},
    {"reduction": "none"},
    {"reduction": "sum", "remove_accidental_hits": True},
]


@pytest.fixture(autouse=True)
def forget_graphs():
    torch.compiler.reset()


def loss_arguments(sparse):
    """Of the operators, with parameters that require gradients."""
    criterion, (x, target) = module(), batch()
    tensors = dict(weights=criterion.weight, biases=criterion.bias, labels=target, inputs=x, calls=torch.tensor(2))
    sizes = dict(num_sampled=SAMPLED, num_classes=CLASSES)
    return arguments_of(fields_of(**tensors, **sizes, seed=SEED, sparse=sparse, pad_rows=not sparse))


@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
def test_pytorchs_operator_checks_pass(sparse):
    operators, arguments = torch.ops.fastnce, loss_arguments(sparse)
    for distribution in (("log_uniform", None), ("unigram", torch.arange(1.0, CLASSES + 1))):
        torch.library.opcheck(
            operators.candidates, (batch()[1], torch.tensor(3), SEED, *distribution, 5, True, CLASSES)
        )
    for losses in (operators.sampled_loss, operators.sampled_losses):
        torch.library.opcheck(losses, arguments)
    factors = torch.rand(len(batch()[1]))
    for total in (operators.sampled_total, operators.sampled_loss_and_grad):
        torch.library.opcheck(total, (*arguments, None, True, [True, True, True]))
        torch.library.opcheck(total, (*arguments, factors, False, [True, False, True]))
        torch.library.opcheck(total, (*arguments, factors, False, [False, True, False]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", LOSS_OPTIONS, ids=str)
def test_a_compiled_module_is_the_module(backend, options):
    eager, (x, target) = module(**options), batch()
    losses = [step(eager(x, target).sum(), eager, x) for _ in range(3)]
    criterion = module(**options)
    compiled = torch.compile(criterion, fullgraph=True, backend=backend)
    for expected in losses:
        assert_equal(step(compiled(x, target).sum(), criterion, x), expected)
    assert criterion.calls == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_whole_model_is_compiled_without_a_graph_break(backend):
    def model(seed):
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Embedding(CLASSES, 8), torch.nn.Linear(8, 6), torch.nn.Tanh())

    def loss(body, criterion, words, target, factors):
        return 2 * criterion(body(words), target, factors)

    words, factors = torch.arange(7), torch.linspace(0, 1, 7)
    target = batch()[1]
    target[3] = -100
    results = []
    for call in (loss, torch.compile(loss, fullgraph=True, backend=backend)):
        body, criterion = model(1), module()
        total = call(body, criterion, words, target, factors)
        total.backward()
        results.append([total.detach(), *(p.grad.to_dense() for p in [*body.parameters(), *criterion.parameters()])])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_a_compiled_module_compiles_once_for_every_batch_size():
    criterion = module()
    compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager", dynamic=True)
    eager = module()
    with torch.compiler.set_stance("default"):
        for size in (3, 7, 12):
            x, target = batch(size)
            assert_equal(step(compiled(x, target), criterion, x), step(eager(x, target), eager, x))
        with torch.compiler.set_stance("fail_on_recompile"):
            x, target = batch(9)
            assert_equal(step(compiled(x, target), criterion, x), step(eager(x, target), eager, x))


def test_modules_share_a_compiled_graph():
    def loss(criterion, x, target):
        return criterion(x, target)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    x, target = batch()
    compiled(module(), x, target)
    compiled(module(), x, target)
    with torch.compiler.set_stance("fail_on_recompile"):
        for seed in range(10):
            assert torch.equal(compiled(module(seed), x, target), module(seed)(x, target))


def test_sparse_gradients_break_no_graph():
    criterion, (x, target) = module(), batch()
    explanation = torch._dynamo.explain(criterion)(x, target)
    assert (explanation.graph_count, explanation.graph_break_count) == (1, 0)


def test_errors_of_a_compiled_module_are_the_modules():
    criterion, (x, target) = module(), batch()
    compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
    target[2] = 40
    with pytest.raises(ValueError, match=r"labels\[2, 0\] = 40 is outside \[0, num_classes = 40\)"):
        compiled(x, target)


def test_an_ignore_index_beyond_64_bits_is_refused_in_a_compiled_function():
    criterion, (x, target) = module(), batch()
    sampled = fastnce.torch.log_uniform_candidates(target, 5, CLASSES, seed=3)

    @torch.compile(backend="aot_eager")
    def loss(x):
        return fastnce.torch.nce_loss(x, target, criterion.weight, criterion.bias, sampled, ignore_index=2**63)

    with pytest.raises(ValueError, match="ignore_index = 9223372036854775808: expected an integer of at most"):
        loss(x)


def test_the_functional_loss_and_sampler_are_compiled():
    criterion, (x, target) = module(), batch()

    def loss(calls):
        sampled = fastnce.torch.log_uniform_candidates(target, 5, CLASSES, seed=3, calls=calls)
        return fastnce.torch.nce_loss(x, target, criterion.weight, criterion.bias, sampled)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for call in range(3):
        calls = torch.tensor(call)
        assert_equal(step(compiled(calls), criterion, x), step(loss(calls), criterion, x))


def plain_steps(count=3):
    criterion, (x, target) = module(), batch()
    return [step(criterion(x, target), criterion, x) for _ in range(count)]


@pytest.mark.parametrize("options", LOSS_OPTIONS, ids=str)
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_repeats_the_samples(use_reentrant, options):
    plain, criterion, (x, target) = module(**options), module(**options), batch()
    weight = torch.linspace(0, 1, 7).requires_grad_()
    for arguments in ((x, target), (x, target, weight)):
        for _ in range(2):
            loss = checkpoint(criterion, *arguments, use_reentrant=use_reentrant)
            assert_equal(step(loss.sum(), criterion, x), step(plain(*arguments).sum(), plain, x))
    assert criterion.calls == plain.calls == 4


def test_checkpoints_keep_their_samples_where_the_random_state_is_set_back():
    criterion, (x, target) = module(), batch()
    targets = [(target + shift) % CLASSES for shift in range(3)]
    plain = [step(criterion(x, target), criterion, x) for target in targets]
    criterion.calls.zero_()
    losses = []
    for target in targets:
        torch.manual_seed(0)
        losses.append(checkpoint(criterion, x, target, use_reentrant=False))
    for loss, expected in zip(losses, plain, strict=True):
        assert_equal(step(loss, criterion, x), expected)


def test_checkpoints_that_are_repeated_in_reverse_order_keep_their_samples():
    criterion, (x, target) = module(), batch()
    losses = [checkpoint(criterion, x, target, use_reentrant=False) for _ in range(3)]
    parts = [step(loss, criterion, x) for loss in reversed(losses)]
    for result, expected in zip(reversed(parts), plain_steps(), strict=True):
        assert_equal(result, expected)


def test_checkpointing_that_does_not_restore_random_numbers_is_refused():
    criterion, (x, target) = module(), batch()
    for _ in range(2):
        checkpoint(criterion, x, target, use_reentrant=False)
    del criterion
    criterion = module()  # may lie where the first one lay, and must not take its samples
    loss = checkpoint(criterion, x, target, use_reentrant=False, preserve_rng_state=False)
    with pytest.raises(RuntimeError, match="preserve_rng_state=True"):
        loss.backward()


def test_a_call_is_not_taken_for_one_of_a_module_that_is_gone():
    """Whose seed may have had the same address."""
    x, target = batch()
    addresses = set()
    for _ in range(20):
        criterion = module()
        criterion.calls.fill_(5)
        addresses.add(criterion._seed.data_ptr())
        checkpoint(criterion, x, target, use_reentrant=False)
    assert len(addresses) == 20


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_module_may_be_checkpointed(backend, use_reentrant):
    criterion, (x, target) = module(), batch()
    compiled = torch.compile(criterion, fullgraph=True, backend=backend)
    assert_equal(step(compiled(x, target), criterion, x), plain_steps()[0])
    for expected in plain_steps()[1:]:
        assert_equal(step(checkpoint(compiled, x, target, use_reentrant=use_reentrant), criterion, x), expected)


def test_an_exported_module_may_be_checkpointed():
    criterion, (x, target) = module(), batch()
    program = torch.export.export(criterion, (x, target)).module()
    plain = module()
    for _ in range(2):
        loss = checkpoint(program, x, target, use_reentrant=True)
        assert_equal(step(loss, program, x), step(plain(x, target), plain, x))


def test_a_compiled_module_draws_the_random_numbers_of_pytorch_that_the_module_draws():
    criterion, (x, target) = module(), batch()
    compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
    states = []
    for call in (criterion, compiled):
        torch.manual_seed(0)
        call(x, target)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_checkpoints_of_a_copied_module_keep_their_samples():
    modules, (x, target) = [module()], batch()
    modules[0].calls.fill_(3)
    modules.append(copy.deepcopy(modules[0]))
    modules[1].calls.zero_()
    plain = [copy.deepcopy(criterion) for criterion in modules]
    losses = []
    for criterion in modules:
        torch.manual_seed(0)
        losses.append(checkpoint(criterion, x, target, use_reentrant=False))
    for loss, criterion, expected in zip(losses, modules, plain, strict=True):
        assert_equal(step(loss, criterion, x), step(expected(x, target), expected, x))


def test_a_checkpoint_within_a_compiled_function_is_refused():
    criterion, (x, target) = module(), batch()

    def loss(x, target):
        return checkpoint(criterion, x, target, use_reentrant=False)

    with pytest.raises(RuntimeError, match="checkpointing outside of"):
        torch.compile(loss, fullgraph=True, backend="aot_eager")(x, target).backward()


def test_a_sampled_batch_may_be_checkpointed_anywhere():
    criterion, (x, target) = module(), batch()
    sampled = fastnce.torch.log_uniform_candidates(target, 5, CLASSES, seed=3)

    def loss(x, target, *sampled):
        return fastnce.torch.nce_loss(x, target, criterion.weight, criterion.bias, fastnce.SampledValues(*sampled))

    def again(x, target, *sampled):
        return checkpoint(loss, x, target, *sampled, use_reentrant=False)

    expected = step(loss(x, target, *sampled), criterion, x)
    for call in (again, torch.compile(again, fullgraph=True, backend="aot_eager")):
        assert_equal(step(call(x, target, *sampled), criterion, x), expected)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_an_exported_module_is_the_module_for_any_batch(reduction):
    x, target = batch()
    dynamic = {0: torch.export.Dim("B", min=2)}
    program = torch.export.export(module(reduction=reduction), (x, target), dynamic_shapes=(dynamic, dynamic)).module()
    eager = module(reduction=reduction)
    for size in (7, 3):
        x, target = batch(size)
        assert torch.equal(program(x, target), eager(x, target))


@pytest.mark.parametrize(
    "transform",
    [
        lambda loss, x: torch.func.grad(loss)(x),
        lambda loss, x: torch.func.vmap(loss)(torch.stack([x, x])),
        lambda loss, x: torch.func.jvp(loss, (x,), (x,)),
    ],
    ids=["grad", "vmap", "jvp"],
)
def test_function_transforms_are_refused(transform):
    criterion, (x, target) = module(), batch()
    with pytest.raises((RuntimeError, ValueError)):  # a ValueError where PyTorch 2.6 cannot export the target
        transform(lambda x: criterion(x, target), x.detach())
