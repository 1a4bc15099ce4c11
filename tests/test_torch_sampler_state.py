"""What state_dict holds of a sampler that learns, or of a mixture, and what loading does to it."""

from __future__ import annotations

import copy
import math

import pytest

import fastnce

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fastnce.torch  # noqa: E402
from torch_cases import CLASSES, SAMPLED, WIDTH, assert_equal, batch, module  # noqa: E402

SEED = (123456789012345678, 2**64 - 3)


def learned(seed=SEED):
    return fastnce.LearnedUnigramSampler(CLASSES, SAMPLED, seed=seed)


def mixed(seed=SEED):
    sources = (learned(seed), fastnce.UniformSampler(CLASSES, SAMPLED, seed=(seed[1], seed[0])), learned((7, seed[0])))
    return fastnce.MixedSampler(list(zip(sources, (2, 2, 1), strict=True)))


def fixed_mixture(seed=SEED):
    return fastnce.MixedSampler([(fastnce.UniformSampler(CLASSES, SAMPLED, seed=seed), SAMPLED)])


SAMPLERS = {"learned": learned, "mixed": mixed, "fixed mixture": fixed_mixture}
EVERY = pytest.mark.parametrize("name", SAMPLERS)
ENTRIES = ("sampler_position", "sampler_weights")


def trained(name, calls=3, **options):
    criterion = module(None, sampler=SAMPLERS[name](**options))
    for _ in range(calls):
        criterion(*batch())
    return criterion


def entries(criterion):
    return [criterion.state_dict()[key] for key in ENTRIES]


@EVERY
@pytest.mark.parametrize("inside", [False, True])
def test_a_state_without_the_sampler_leaves_it_as_it_is(name, inside):
    criterion = trained(name)
    model = torch.nn.ModuleDict({"body": torch.nn.Linear(2, 2), "loss": criterion}) if inside else criterion
    before = entries(criterion)
    state = {key: value for key, value in model.state_dict().items() if key.endswith("weight")}
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert {key.split(".")[-1] for key in missing} >= set(ENTRIES)
    assert_equal(entries(criterion), before)
    with pytest.raises(RuntimeError, match=r'Missing key.*"(loss\.)?sampler_position", "(loss\.)?sampler_weights"'):
        model.load_state_dict(state)
    assert_equal(entries(criterion), before)
    assert criterion.calls == 3


@EVERY
@pytest.mark.parametrize("key", ENTRIES)
def test_each_entry_is_loaded_by_itself(name, key):
    criterion, other = trained(name), trained(name, calls=1, seed=(5, 6))
    rest = entries(other)
    other.load_state_dict({key: criterion.state_dict()[key]}, strict=False)
    expected = {**dict(zip(ENTRIES, rest, strict=True)), key: criterion.state_dict()[key]}
    assert_equal(entries(other), list(expected.values()))


@EVERY
def test_entries_that_are_not_expected_are_named(name):
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"sampler_position", "sampler_weights"'):
        module().load_state_dict(trained(name).state_dict())


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32])
@pytest.mark.parametrize("assign", [False, True])
def test_a_state_may_be_cast(name, dtype, assign):
    criterion, other = trained(name), trained(name, calls=0, seed=(5, 6))
    state = {
        key: value if key in ("weight", "bias") else value.to(dtype) for key, value in criterion.state_dict().items()
    }
    other.load_state_dict(state, assign=assign)
    assert_equal(entries(other), entries(criterion))
    for _ in range(2):
        assert_equal([other(*batch())], [criterion(*batch())])


@EVERY
@pytest.mark.parametrize("clients", [2, 3, 10])
def test_states_of_one_seed_may_be_averaged(name, clients):
    states = [trained(name, calls=calls).state_dict() for calls in range(clients)]
    mean = {key: sum(state[key] for state in states) / clients for key in states[0]}
    merged = trained(name, calls=0, seed=(5, 6))
    merged.load_state_dict(mean)
    position, weights = entries(merged)
    assert torch.equal(position[:, :-1], states[0]["sampler_position"][:, :-1])
    assert (position[:, -1] == (clients - 1) // 2).all()
    assert torch.equal(weights, mean["sampler_weights"].int())


BAD = [
    (
        "sampler_position",
        lambda p: p[:, :3],
        "shape [1, 3]: expected [1, 17], rows of the 16 bytes of a seed",
    ),
    ("sampler_position", lambda p: p + 256, "expected bytes, numbers from 0 to 255"),
    ("sampler_position", lambda p: p.bool(), "the state of the seed has dtype torch.bool, which does not hold every"),
    (
        "sampler_position",
        lambda p: p * torch.tensor([1] * 16 + [-1]),
        "the numbers of calls are [-3]: expected",
    ),
    ("sampler_position", lambda p: p * torch.tensor([1] * 16 + [math.inf]), "the numbers of calls are [inf]: exp"),
    ("sampler_position", lambda p: 3, "3: expected a tensor"),
    ("sampler_weights", lambda w: w[:-1], f"shape [{CLASSES - 1}]: expected [{CLASSES}], the weight of every class"),
    ("sampler_weights", lambda w: w * 0, "element 0 is 0: expected 1 to 2147483647"),
    ("sampler_weights", lambda w: w * math.nan, "element 0 is nan: expected 1 to 2147483647"),
    ("sampler_weights", lambda w: w * math.inf, "element 0 is inf: expected 1 to 2147483647"),
    ("sampler_weights", lambda w: w * 0 + 2**30, "2147483647"),
    (
        "sampler_weights",
        lambda w: w.bool(),
        "dtype torch.bool: expected integers, or floating-point numbers",
    ),
]


@pytest.mark.parametrize(("key", "spoil", "message"), BAD)
@pytest.mark.parametrize("prefix", ["", "loss."])
def test_an_entry_that_cannot_be_loaded_is_named(key, spoil, message, prefix):
    criterion = trained("learned")
    model = criterion if not prefix else torch.nn.ModuleDict({"loss": criterion})
    before = entries(criterion)
    state = {**model.state_dict()}
    state[prefix + key] = spoil(state[prefix + key])
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(state)
    assert f"\t{prefix}{key}: " in str(caught.value)
    assert message in str(caught.value)
    assert_equal(entries(criterion), before)


@EVERY
def test_a_module_on_the_device_meta_takes_any_part_of_a_state(name):
    criterion = trained(name)
    other = fastnce.torch.NCELoss(CLASSES, WIDTH, SAMPLED, sampler=SAMPLERS[name](seed=(5, 6)), device="meta")
    before = entries(other)
    other.load_state_dict({"weight": criterion.weight}, strict=False, assign=True)
    assert_equal(entries(other), before)
    other.load_state_dict(criterion.state_dict(), assign=True)
    assert_equal([other(*batch())], [criterion(*batch())])


@EVERY
def test_a_state_does_not_change_with_the_sampler(name):
    criterion = trained(name)
    state = criterion.state_dict()
    before = copy.deepcopy(state)
    criterion(*batch())
    for key in ENTRIES:
        assert torch.equal(state[key], before[key])


@EVERY
def test_an_averaged_model_takes_the_samplers_state_by_hand(name):
    """PyTorch copies tensors only: what docs/torch.md says."""
    criterion = trained(name)
    averaged = torch.optim.swa_utils.AveragedModel(criterion)
    before = entries(averaged.module)
    criterion(*batch())
    averaged.update_parameters(criterion)
    assert_equal(entries(averaged.module), before)
    averaged.module.sampler.state = criterion.sampler.state
    assert_equal(entries(averaged.module), entries(criterion))
    assert_equal([averaged(*batch())], [criterion(*batch())])
