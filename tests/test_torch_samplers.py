"""Modules of fastnce.torch with samplers of fastnce, and with callables of one's own."""

from __future__ import annotations

import copy
import io
import pickle
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

import fastnce

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.utils.checkpoint import checkpoint  # noqa: E402

import fastnce.torch  # noqa: E402
from fastnce import _core  # noqa: E402
from fastnce.torch import _kernels  # noqa: E402
from torch_cases import CLASSES, SAMPLED, assert_equal, batch, module, step  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

COUNTS = np.arange(1, CLASSES + 1)
FIXED = {
    "log_uniform": lambda **options: fastnce.LogUniformSampler(CLASSES, SAMPLED, **options),
    "uniform": lambda **options: fastnce.UniformSampler(CLASSES, SAMPLED, **options),
    "repeated": lambda **options: fastnce.UniformSampler(CLASSES, SAMPLED, unique=False, **options),
    "unigram": lambda **options: fastnce.UnigramSampler.from_counts(COUNTS, SAMPLED, **options),
}
LEARNING = {"learned": lambda **options: fastnce.LearnedUnigramSampler(CLASSES, SAMPLED, **options)}
if hasattr(fastnce, "MixedSampler"):

    def mixed(seed=7, **options):
        parts = (
            fastnce.LearnedUnigramSampler(CLASSES, SAMPLED, seed=seed, **options),
            fastnce.UniformSampler(CLASSES, SAMPLED, seed=seed + 1, **options),
        )
        return fastnce.MixedSampler([(parts[0], 3), (parts[1], 2)])

    LEARNING["mixed"] = mixed
EVERY = {**FIXED, **LEARNING}
LOSSES = ("NCELoss", "SampledSoftmaxLoss", "NegativeSamplingLoss")


def made(name, loss="NCELoss", seed=7, num_true=1, **options):
    sampler = EVERY[name](seed=seed, num_true=num_true)
    return module(None, loss, sampler=sampler, num_true=num_true, **options)


def by_function(loss, criterion, x, target, values, **options):
    function = {
        "NCELoss": fastnce.torch.nce_loss,
        "SampledSoftmaxLoss": fastnce.torch.sampled_softmax_loss,
        "NegativeSamplingLoss": fastnce.torch.negative_sampling_loss,
    }[loss]
    samples = values[0] if loss == "NegativeSamplingLoss" else values
    return function(x, target, criterion.weight, criterion.bias, samples, **options)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("num_true", [1, 2])
@pytest.mark.parametrize("name", EVERY)
def test_a_module_draws_what_its_sampler_draws(name, num_true, loss):
    criterion, sampler = made(name, loss, num_true=num_true), EVERY[name](seed=7, num_true=num_true)
    x, target = batch()
    target = torch.stack([target, target.flip(0)], 1)[:, :num_true]
    for _ in range(3):
        assert torch.equal(criterion(x, target), by_function(loss, criterion, x, target, sampler(target)))
    assert criterion.calls == 3


@pytest.mark.parametrize("name", EVERY)
def test_it_goes_on_from_the_samplers_state(name):
    sampler = EVERY[name](seed=7)
    x, target = batch()
    for _ in range(2):
        sampler(target)
    twin = copy.deepcopy(sampler)
    criterion = module(None, sampler=sampler)
    for _ in range(2):
        assert torch.equal(criterion(x, target), by_function("NCELoss", criterion, x, target, twin(target)))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("way", ["state_dict", "pickle", "deepcopy"])
def test_a_resumed_module_draws_the_same(name, way):
    criterion, (x, target) = made(name), batch()
    for _ in range(2):
        criterion(x, target)
    if way == "state_dict":
        file = io.BytesIO()
        torch.save(criterion.state_dict(), file)
        file.seek(0)
        resumed = made(name, seed=11)
        resumed.load_state_dict(torch.load(file, weights_only=True))
    else:
        resumed = copy.deepcopy(criterion) if way == "deepcopy" else pickle.loads(pickle.dumps(criterion))
    for _ in range(2):
        assert_equal([resumed(x, target)], [criterion(x, target)])
    assert resumed.calls == criterion.calls == 4


@pytest.mark.parametrize("name", EVERY)
def test_ignored_classes_are_neither_drawn_for_nor_learned(name):
    criterion, sampler = made(name), EVERY[name](seed=7)
    x, target = batch()
    kept = torch.tensor([True, False, True, True, False, True, True])
    some = torch.where(kept, target, -100)
    for _ in range(3):
        values = sampler(target[kept])
        expected = by_function("NCELoss", criterion, x[kept], target[kept], values)
        torch.testing.assert_close(criterion(x, some), expected)
    nothing = torch.full_like(target, -100)
    assert criterion(x, nothing) == 0


@pytest.mark.parametrize("name", EVERY)
def test_leading_axes_are_more_examples(name):
    first, second = made(name), made(name)
    x, target = batch(6)
    loss = first(x.reshape(2, 3, 6), target.reshape(2, 3))
    assert torch.equal(loss, second(x, target))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_repeats_the_samples(name, use_reentrant):
    plain, criterion, (x, target) = made(name), made(name), batch()
    for _ in range(2):
        expected = step(plain(x, target), plain, x)
        loss = checkpoint(criterion, x, target, use_reentrant=use_reentrant)
        assert_equal(step(loss, criterion, x), expected)
    assert criterion.calls == 2


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", EVERY)
def test_no_sampler_breaks_a_graph(name, loss):
    torch.compiler.reset()
    eager, criterion, (x, target) = made(name, loss), made(name, loss), batch()
    target[2] = -100
    compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
    for _ in range(3):
        assert_equal(step(compiled(x, target), criterion, x), step(eager(x, target), eager, x))
    assert criterion.calls == 3


def test_modules_of_several_samplers_share_a_compiled_graph():
    torch.compiler.reset()
    compiled = torch.compile(lambda criterion, x, target: criterion(x, target), fullgraph=True, backend="aot_eager")
    x, target = batch()
    for _ in range(2):
        compiled(made("unigram"), x, target)
    with torch.compiler.set_stance("fail_on_recompile"):
        for seed in range(3):
            assert torch.equal(compiled(made("unigram", seed=seed), x, target), made("unigram", seed=seed)(x, target))


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray])
@pytest.mark.parametrize("counted", [True, False])
def test_a_callable_of_ones_own_is_asked_once_for_each_call(kind, counted):
    asked = []

    def sampler(classes):
        asked.append(classes)
        counts = (kind(np.full(classes.shape, 0.5, "f")), kind(np.full(SAMPLED, 0.25, "f")))
        return fastnce.SampledValues(kind(np.arange(SAMPLED)), *(counts if counted else (None, None)))

    criterion, (x, target) = module(None, sampler=sampler), batch()
    values = sampler(target.unsqueeze(1))
    values = [None if value is None else torch.as_tensor(value) for value in values]
    asked.clear()
    expected = fastnce.torch.nce_loss(x, target, criterion.weight, criterion.bias, values)
    assert torch.equal(criterion(x, target), expected)
    assert [classes.shape for classes in asked] == [(7, 1)]
    checkpoint(criterion, x, target, use_reentrant=False).backward()
    assert len(asked) == 2
    torch.compiler.reset()
    torch.compile(criterion, fullgraph=True, backend="aot_eager")(x, target).backward()
    assert len(asked) == 3
    assert criterion.calls == 3


def test_a_sampler_that_is_a_module_is_a_part_of_it():
    class Learned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("ids", torch.arange(SAMPLED))

        def forward(self, classes):
            return fastnce.SampledValues(self.ids, None, None)

    criterion = module(None, sampler=Learned())
    assert "sampler.ids" in criterion.state_dict()
    x, target = batch()
    ids = fastnce.SampledValues(torch.arange(SAMPLED), None, None)
    expected = fastnce.torch.nce_loss(x, target, criterion.weight, criterion.bias, ids)
    assert torch.equal(criterion(x, target), expected)


@pytest.mark.parametrize(
    ("sampler", "error", "message"),
    [
        (lambda: 3, TypeError, "sampler is an int: expected 'log_uniform', a sampler of fastnce or another callable"),
        (lambda: "uniform", ValueError, "sampler = 'uniform': expected 'log_uniform'"),
        (
            lambda: fastnce.UniformSampler(30, SAMPLED),
            ValueError,
            "sampler has range_max = 30: expected 40, num_classes of the module",
        ),
        (
            lambda: fastnce.UniformSampler(CLASSES, 4),
            ValueError,
            "sampler has num_sampled = 4: expected 5, num_sampled of the module",
        ),
        (
            lambda: fastnce.UniformSampler(CLASSES, SAMPLED, num_true=2),
            ValueError,
            "sampler has num_true = 2: expected 1, num_true of the module",
        ),
    ],
)
def test_samplers_that_do_not_fit_are_refused(sampler, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        module(None, sampler=sampler())


def test_a_seed_beside_a_sampler_is_refused():
    with pytest.raises(ValueError, match=r"^seed: expected None beside a sampler"):
        module(3, sampler=FIXED["uniform"]())


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (None, TypeError, "sampled_values is None: expected three tensors"),
        ((1, 2), ValueError, "sampled_values has 2 values"),
        ((torch.ones(5), None, None), TypeError, "sampled_candidates has dtype torch.float32: expected integers"),
        (
            (torch.arange(4), None, None),
            ValueError,
            r"sampled_candidates has shape \[4\]: expected \[num_sampled\] = \[5\]",
        ),
    ],
)
def test_what_a_callable_returns_is_checked(values, error, message):
    criterion = module(None, sampler=lambda classes: values)
    with pytest.raises(error, match=f"^{message}"):
        criterion(*batch())
    assert criterion.calls == 0


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("change", ["class", "shape"])
def test_errors_are_the_losses(name, change):
    criterion, (x, target) = made(name), batch()
    target = torch.stack([target, target], 1) if change == "shape" else target.masked_fill(target == target[3], CLASSES)
    with pytest.raises(ValueError, match=r"has shape \[7, 2\]" if change == "shape" else "= 40 is outside"):
        criterion(x, target)
    assert criterion.calls == 0


def test_the_weights_that_were_learned_are_in_the_state():
    criterion, (x, target) = made("learned"), batch()
    for _ in range(2):
        criterion(x, target)
    expected = 1 + 2 * torch.bincount(target, minlength=CLASSES)
    assert torch.equal(criterion.state_dict()["sampler_weights"], expected.int())
    assert criterion.state_dict()["sampler_position"][0, -1] == 2


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("spoil", ["width", "precision"])
def test_a_sampler_learns_nothing_of_a_call_that_fails(name, spoil):
    criterion, (x, target) = made(name), batch()
    criterion(x, target)
    before = criterion.state_dict()
    if spoil == "width":
        x = x[:, :5]
    else:
        criterion.precision = "tf32"
    with pytest.raises(ValueError, match="weights has shape" if spoil == "width" else "precision = 'tf32'"):
        criterion(x, target)
    after = criterion.state_dict()
    for key in ("calls", "sampler_position", "sampler_weights"):
        assert torch.equal(after[key], before[key]), key


def test_what_other_threads_learned_stays_when_a_call_is_taken_back():
    sampler = fastnce.LearnedUnigramSampler(CLASSES, SAMPLED, seed=7)
    _, take_back = sampler._sample(np.array([1, 2, 2]))
    sampler(np.array([2, 3]))
    take_back()
    expected = np.ones(CLASSES, np.int32)
    expected[[2, 3]] += 1
    np.testing.assert_array_equal(sampler.weights, expected)
    assert sampler.state.calls == 2


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("backend", ["eager mode", "aot_eager"])
def test_partly_ignored_classes_are_learned_once(name, backend):
    criterion, (x, _) = made(name, num_true=2), batch(3)
    torch.compiler.reset()
    call = criterion if backend == "eager mode" else torch.compile(criterion, fullgraph=True, backend=backend)
    call(x, torch.tensor([[1, -100], [-100, -100], [3, 4]]))
    expected = torch.ones(CLASSES, dtype=torch.int32)
    expected[[1, 3, 4]] += 1
    assert torch.equal(criterion.state_dict()["sampler_weights"], expected)


class Shifted(fastnce.UniformSampler):
    """Its calls are its own: all ids one further."""

    def __call__(self, true_classes):
        values = super().__call__(true_classes)
        return values._replace(sampled_candidates=(values.sampled_candidates + 1) % CLASSES)


class ShiftedAndLearning(fastnce.LearnedUnigramSampler):
    __call__ = Shifted.__call__


class Renamed(fastnce.UniformSampler):
    """Samples as its base does."""


@pytest.mark.parametrize("ignored", [False, True])
def test_a_subclass_that_samples_in_its_own_way_is_called(ignored):
    criterion = module(None, sampler=Shifted(CLASSES, SAMPLED, seed=7))
    plain = fastnce.UniformSampler(CLASSES, SAMPLED, seed=7)
    x, target = batch()
    if ignored:
        target[3] = -100
    kept = target != -100
    for _ in range(2):
        values = plain(target[kept].unsqueeze(1))
        values = values._replace(sampled_candidates=(values.sampled_candidates + 1) % CLASSES)
        expected = by_function("NCELoss", criterion, x[kept], target[kept], values)
        torch.testing.assert_close(criterion(x, target), expected)
    assert "sampler_position" not in criterion.state_dict()


def test_a_subclass_that_samples_as_its_base_is_its_base():
    first = module(None, sampler=Renamed(CLASSES, SAMPLED, seed=7))
    second = module(None, sampler=fastnce.UniformSampler(CLASSES, SAMPLED, seed=7))
    assert torch.equal(first(*batch()), second(*batch()))
    assert first.sampler.state.calls == 0


@pytest.mark.parametrize("sampler", [Shifted, ShiftedAndLearning])
def test_a_subclass_has_the_modules_sizes(sampler):
    with pytest.raises(ValueError, match=r"^sampler has range_max = 30: expected 40, num_classes of the module"):
        module(None, sampler=sampler(30, SAMPLED))
    with pytest.raises(ValueError, match=r"^sampler has num_sampled = 4: expected 5, num_sampled of the module"):
        module(None, sampler=sampler(CLASSES, 4))
    with pytest.raises(ValueError, match=r"^seed: expected None beside a sampler"):
        module(3, sampler=sampler(CLASSES, SAMPLED))


COUNTS_OF_CALLABLES = {
    "transposed": (torch.ones(2, 7), torch.ones(SAMPLED)),
    "examples": (torch.ones(7), torch.ones(SAMPLED)),
    "axes": (torch.ones(7, 2, 1), torch.ones(SAMPLED)),
    "bool": (torch.ones(7, 2).bool(), torch.ones(SAMPLED)),
    "complex": (torch.ones(7, 2), torch.ones(SAMPLED) * 1j),
    "few samples": (torch.ones(7, 2), torch.ones(4)),
    "sampled rank": (torch.ones(7, 2), torch.ones(1, SAMPLED)),
}


@pytest.mark.parametrize("counts", COUNTS_OF_CALLABLES.values(), ids=COUNTS_OF_CALLABLES)
@pytest.mark.parametrize("backend", ["eager mode", "aot_eager"])
def test_the_counts_of_a_callable_are_refused_as_given_ones_are(counts, backend):
    criterion = module(None, num_true=2, sampler=lambda classes: (torch.arange(SAMPLED), *counts))
    x, target = batch()
    target = torch.stack([target, target.flip(0)], 1)
    with pytest.raises((ValueError, TypeError)) as expected:
        fastnce.torch.nce_loss(
            x, target, criterion.weight, criterion.bias, (torch.arange(SAMPLED), *counts), ignore_index=None
        )
    torch.compiler.reset()
    call = criterion if backend == "eager mode" else torch.compile(criterion, fullgraph=True, backend=backend)
    with pytest.raises(type(expected.value)) as caught:
        call(x, target)
    assert str(expected.value) in str(caught.value)


@pytest.mark.parametrize(
    "shapes", [((), ()), ((7, 1), (1,)), ((1, 2), (SAMPLED,))], ids=["scalars", "columns", "one row"]
)
@pytest.mark.parametrize("backend", ["eager mode", "aot_eager"])
def test_the_counts_of_a_callable_broadcast_as_given_ones_do(shapes, backend):
    counts = [torch.rand(shape) + 0.5 for shape in shapes]
    criterion = module(None, num_true=2, sampler=lambda classes: (torch.arange(SAMPLED), *counts))
    x, target = batch()
    target = torch.stack([target, target.flip(0)], 1)
    expected = fastnce.torch.nce_loss(x, target, criterion.weight, criterion.bias, (torch.arange(SAMPLED), *counts))
    torch.compiler.reset()
    call = criterion if backend == "eager mode" else torch.compile(criterion, fullgraph=True, backend=backend)
    assert torch.equal(call(x, target), expected)


def test_the_table_of_a_unigram_distribution_is_copied_to_a_cuda_device_once(monkeypatch):
    """Kernels read no host memory. The device is a stand-in, which only records what reaches it."""
    device = SimpleNamespace(index=3, call=nullcontext, hand_over=lambda value: value)
    copies, drawn_from = [], []
    monkeypatch.setattr(_kernels, "cuda_device_of", lambda *_: device)
    monkeypatch.setattr(_kernels, "on_device", lambda table, _: copies.append(table) or "the copy")
    monkeypatch.setattr(_core, "candidates", lambda distribution, *_: drawn_from.append(distribution) or ())
    table = _core.UnigramTable.of_unigrams(np.ones(5), 1.0, 0, 1, 0, False)
    for _ in range(2):
        _kernels.draw(table, torch.tensor([[1]]), 0, torch.tensor([1, 2]), 2, True, 5)
    assert drawn_from == ["the copy", "the copy"]
    assert copies == [table]
