"""fastnce.torch.NCELoss as a module: its state, its copies, and what it inherits from nn.Embedding."""

from __future__ import annotations

import copy
import io
import math
import pickle

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fastnce.torch  # noqa: E402
from fastnce.torch._module import SampledLoss  # noqa: E402
from torch_cases import assert_equal, batch, module, step  # noqa: E402

CASTS = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32])
SEEDS = pytest.mark.parametrize("seed", [7, (2**64 - 1, 2**63), (-1, 1), None])


def test_state_dict_holds_the_stream_of_samples():
    x, target = batch()
    criterion = module()
    criterion(x, target)
    file = io.BytesIO()
    torch.save(criterion.state_dict(), file)
    file.seek(0)
    resumed = module(seed=1)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.calls == 1
    assert torch.equal(resumed(x, target), criterion(x, target))


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_copies_go_on_by_themselves(duplicate):
    x, target = batch()
    criterion = module()
    criterion(x, target)
    other = duplicate(criterion)
    assert torch.equal(other(x, target), criterion(x, target))
    other(x, target)
    assert (criterion.calls, other.calls) == (2, 3)


@SEEDS
@CASTS
@pytest.mark.parametrize("assign", [False, True])
def test_a_state_may_be_cast(seed, dtype, assign):
    x, target = batch()
    criterion = module(seed=seed, dtype=dtype if dtype.is_floating_point else None)
    x = x.detach().to(criterion.weight.dtype)
    for _ in range(3):
        criterion(x, target)
    state = criterion.state_dict()
    for key in ("calls", "_extra_state"):
        state[key] = state[key].to(dtype)
    other = module(seed=1, dtype=criterion.weight.dtype)
    other.load_state_dict(state, assign=assign)
    assert other.calls.dtype == torch.int64
    for _ in range(2):
        assert_equal([other(x, target)], [criterion(x, target)])
    assert other.calls == 5


@pytest.mark.parametrize("dtype", [torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64], ids=str)
def test_a_seed_that_a_cast_may_have_changed_is_refused(dtype):
    criterion = module(seed=(0xFF17, 3))
    with pytest.raises(ValueError, match=f"^the state of the seed has dtype {dtype}, which does not hold every byte"):
        criterion.set_extra_state(module().get_extra_state().to(dtype))
    assert torch.equal(criterion.get_extra_state(), module(seed=(0xFF17, 3)).get_extra_state())


@SEEDS
@pytest.mark.parametrize("clients", [2, 3, 10])
def test_states_may_be_averaged(seed, clients):
    x, target = batch()
    criteria = [module(seed=5) for _ in range(clients)]
    shared = module(seed=seed).state_dict()
    for number, criterion in enumerate(criteria):
        criterion.load_state_dict(shared)
        for _ in range(number):
            criterion(x, target)
        criterion.weight.data.fill_(number)
    states = [criterion.state_dict() for criterion in criteria]
    mean = {key: sum(state[key] for state in states) / clients for key in states[0]}
    merged = module(seed=5)
    merged.load_state_dict(mean)
    assert torch.equal(merged.weight, torch.full_like(merged.weight, (clients - 1) / 2))
    assert merged.calls == (clients - 1) // 2  # truncated, as num_batches_tracked of BatchNorm is
    expected = module(seed=5)
    expected.load_state_dict({**mean, "_extra_state": shared["_extra_state"]})
    assert_equal([merged(x, target)], [expected(x, target)])


def test_the_average_of_different_seeds_is_a_seed():
    x, target = batch()
    states = [module(seed=seed).state_dict() for seed in (1, 2)]
    mean = {key: (states[0][key] + states[1][key]) / 2 for key in states[0]}
    losses = []
    for _ in range(2):
        merged = module()
        merged.load_state_dict(mean)
        losses.append(merged(x, target))
    assert_equal(losses[:1], losses[1:])


@pytest.mark.parametrize("prefix", ["", "loss."])
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("calls", torch.tensor(math.inf), "calls = tensor(inf): expected how many calls there were, at least 0"),
        ("calls", torch.tensor(math.nan), "calls = tensor(nan): expected how many calls there were, at least 0"),
        ("calls", torch.tensor(-1), "calls = tensor(-1): expected how many calls there were, at least 0"),
        ("_extra_state", torch.zeros(3), "_extra_state: the state of the seed is tensor([0., 0., 0.]): expected a ten"),
        ("_extra_state", torch.full((16,), 256), "expected bytes, numbers from 0 to 255"),
        ("_extra_state", torch.full((16,), math.nan), "expected bytes, numbers from 0 to 255"),
        *(
            ("_extra_state", torch.ones(16).to(dtype), f"_extra_state: the state of the seed has dtype {dtype}, which")
            for dtype in (torch.bool, torch.float8_e4m3fn, torch.float8_e5m2)
        ),
        ("_extra_state", 3, "_extra_state: the state of the seed is 3: expected a tensor of 16 bytes"),
    ],
)
def test_a_state_that_cannot_be_loaded_is_named(prefix, key, value, message):
    criterion, (x, target) = module(), batch()
    criterion(x, target)
    model = criterion if not prefix else torch.nn.ModuleDict({"loss": criterion})
    state = {**model.state_dict(), prefix + key: value}
    before = criterion.get_extra_state()
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(state)
    assert prefix + key in str(caught.value)
    assert message in str(caught.value)
    assert criterion.calls == 1
    assert torch.equal(criterion.get_extra_state(), before)


def test_the_extra_state_is_a_copy():
    x, target = batch()
    criterion = module()
    expected = module()(x, target)
    criterion.get_extra_state().zero_()
    criterion.state_dict()["_extra_state"].zero_()
    assert torch.equal(criterion(x, target), expected)
    state = module().state_dict()
    criterion = module(seed=1)
    criterion.load_state_dict(state)
    state["_extra_state"].zero_()
    assert torch.equal(criterion(x, target), expected)


def test_a_state_without_calls_or_seed_is_missing_keys():
    criterion = module()
    state = criterion.state_dict()
    del state["calls"], state["_extra_state"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "calls", "_extra_state"'):
        criterion.load_state_dict(state)
    assert criterion.load_state_dict(state, strict=False).missing_keys == ["calls", "_extra_state"]


def test_repr_says_what_the_module_is():
    assert repr(fastnce.torch.NCELoss(50, 8, 4)) == "NCELoss(50, 8, num_sampled=4)"
    criterion = fastnce.torch.NCELoss(50, 8, 4, num_true=2, sparse=False, reduction="sum", precision="high")
    assert (
        repr(criterion) == "NCELoss(50, 8, num_sampled=4, num_true=2, sparse=False, reduction='sum', precision='high')"
    )


# Every public name that nn.Embedding has and nn.Module has not, and what becomes of it in the loss.
OVERRIDDEN = {"forward", "extra_repr", "reset_parameters", "from_pretrained", "weight"}
AS_IN_EMBEDDING = {"num_embeddings", "embedding_dim", "sparse"}
REFUSED = {"padding_idx": 0, "max_norm": 1.0, "norm_type": 1.0, "scale_grad_by_freq": True}


def test_every_public_name_of_an_embedding_is_looked_at():
    names = set(dir(torch.nn.Embedding(2, 3))) - set(dir(torch.nn.Module()))
    public = {name for name in names if not name.startswith("_")} | {"forward", "extra_repr"}
    assert public == OVERRIDDEN | AS_IN_EMBEDDING | set(REFUSED)
    assert {"forward", "extra_repr", "reset_parameters", "from_pretrained"} <= vars(SampledLoss).keys()


def test_the_sizes_of_the_embedding_are_the_losses():
    criterion = module(sparse=False)
    assert (criterion.num_embeddings, criterion.num_classes, criterion.embedding_dim) == (40, 40, 6)
    assert criterion.sparse is False


def test_sparse_may_be_changed():
    criterion, (x, target) = module(), batch()
    expected = step(criterion(x, target), criterion, x)
    criterion.calls.zero_()
    criterion.sparse = False
    loss = criterion(x, target)
    loss.backward()
    assert criterion.weight.grad.layout == torch.strided
    assert_equal([criterion.weight.grad], [expected[1]])


@pytest.mark.parametrize(("name", "value"), REFUSED.items())
def test_what_an_embedding_does_with_rows_is_refused(name, value):
    criterion = module()
    default = getattr(torch.nn.Embedding(2, 3), name)
    assert getattr(criterion, name) == default
    setattr(criterion, name, default)
    with pytest.raises(NotImplementedError, match=f"^NCELoss has no {name}: "):
        setattr(criterion, name, value)
    assert getattr(copy.deepcopy(criterion), name) == default


def test_from_pretrained_says_what_to_do():
    embeddings = torch.randn(40, 6)
    with pytest.raises(
        NotImplementedError, match=r"^NCELoss.from_pretrained: make NCELoss\(num_classes, embedding_dim, "
    ):
        fastnce.torch.NCELoss.from_pretrained(embeddings, freeze=True)
    # What it says:
    criterion = module()
    criterion.weight = torch.nn.Parameter(embeddings, requires_grad=False)
    x, target = batch()
    criterion(x, target).backward()
    assert criterion.weight.grad is None
    assert criterion.bias.grad is not None


@pytest.mark.parametrize("name", ["__init__", "forward", "reset_parameters", "get_extra_state", "set_extra_state"])
def test_help_is_of_the_loss(name):
    method = getattr(fastnce.torch.NCELoss, name)
    assert method.__doc__ and method.__doc__ != getattr(torch.nn.Embedding, name).__doc__


def test_reset_parameters_starts_anew():
    criterion, (x, target) = module(), batch()
    before = criterion.weight.detach().clone()
    criterion(x, target)
    criterion.reset_parameters()
    assert criterion.calls == 0
    assert not torch.equal(criterion.weight, before)
    assert torch.equal(criterion.bias, torch.full((40,), -math.log(40)))
