"""Arrays come in through DLPack, old capsules and new, and go back as the kind of array that came."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import fastnce
from cases import Case, assert_matches_twin
from lending import CUDA, TABLE_OF_DLPACK_2, LegacyProducer, TableProducer, exchange_capsule, new_capsule

PROBLEM = Case(batch=6, dim=5, sampled=7, num_true=2).problem()


class VersionedProducer:
    """Lends a NumPy array by NumPy's own capsules, and is nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)


def lent_by(producer, problem=PROBLEM):
    """The arguments of a problem, each lent by the producer."""
    ids, *counts = problem.sampled_values
    lent = {name: producer(getattr(problem, name)) for name in ("weights", "biases", "labels", "inputs")}
    return {**lent, "sampled_values": (producer(ids), *map(producer, counts))}


def test_legacy_capsules_are_read_and_given_back_once():
    lent = lent_by(LegacyProducer)
    ids, results = PROBLEM.solve(**lent)
    assert_matches_twin((ids, results), PROBLEM)
    producers = [lent[name] for name in ("weights", "biases", "labels", "inputs")] + [*lent["sampled_values"]]
    assert [(p.lent, p.returned) for p in producers] == [(1, 1)] * len(producers)


def test_legacy_capsules_are_given_back_after_an_error_too():
    lent = lent_by(LegacyProducer)
    with pytest.raises(ValueError, match="num_classes"):
        PROBLEM.solve(**lent, num_classes=10**6)
    assert lent["weights"].lent == lent["weights"].returned == 1


def test_versioned_capsules_are_read():
    assert_matches_twin(PROBLEM.solve(**lent_by(VersionedProducer)), PROBLEM)


def test_bare_capsules_are_read():
    producers = [LegacyProducer(PROBLEM.weights), LegacyProducer(PROBLEM.inputs)]  # capsules do not keep them
    legacy = {"weights": producers[0].__dlpack__(), "inputs": producers[1].__dlpack__()}
    assert_matches_twin(PROBLEM.solve(**legacy), PROBLEM)
    versioned = lent_by(lambda array: array.__dlpack__(max_version=(1, 0)))
    assert_matches_twin(PROBLEM.solve(**versioned), PROBLEM)


@pytest.mark.parametrize("producer", [LegacyProducer, VersionedProducer])
def test_strides_are_honoured(producer):
    wide = np.full((2 * len(PROBLEM.weights), 9), np.nan, np.float32)
    wide[::2, 3:8] = PROBLEM.weights
    biases = np.full(3 * len(PROBLEM.biases), np.nan, np.float32)
    biases[::3] = PROBLEM.biases
    labels = np.asfortranarray(PROBLEM.labels)
    changes = dict(weights=producer(wide[::2, 3:8]), biases=producer(biases[::3]), labels=producer(labels))
    assert_matches_twin(PROBLEM.solve(**changes), PROBLEM)


def test_absent_strides_mean_row_major():
    compact = lent_by(lambda array: LegacyProducer(array, compact=True))
    assert_matches_twin(PROBLEM.solve(**compact), PROBLEM)


def test_the_byte_offset_is_added():
    shifted = lent_by(lambda array: LegacyProducer(array, byte_offset=64))
    assert_matches_twin(PROBLEM.solve(**shifted), PROBLEM)


@pytest.mark.parametrize("lend", [lambda array: array, VersionedProducer, lambda a: a.__dlpack__(max_version=(1, 0))])
def test_read_only_arrays_may_be_lent(lend):
    def read_only(array):
        array = array.copy()
        array.flags.writeable = False
        return lend(array)

    assert_matches_twin(PROBLEM.solve(**lent_by(read_only)), PROBLEM)


def test_arrays_are_borrowed_through_the_table_of_c_functions():
    lent = lent_by(TableProducer)
    assert_matches_twin(PROBLEM.solve(**lent), PROBLEM)
    assert (lent["weights"].borrowed, lent["weights"].lent) == (1, 0)


def test_a_newer_table_leads_to_one_that_is_understood():
    class Newer(TableProducer):
        __dlpack_c_exchange_api__ = exchange_capsule(TABLE_OF_DLPACK_2)

    lent = lent_by(Newer)
    assert_matches_twin(PROBLEM.solve(**lent), PROBLEM)
    assert (lent["weights"].borrowed, lent["weights"].lent) == (1, 0)


def test_subclasses_do_not_inherit_the_table():
    class Other(TableProducer):
        """May lend otherwise than its base."""

    lent = lent_by(Other)
    assert_matches_twin(PROBLEM.solve(**lent), PROBLEM)
    assert (lent["weights"].borrowed, lent["weights"].lent) == (0, 1)


def test_what_the_table_refuses_is_lent_by_a_capsule():
    lent = lent_by(TableProducer)
    lent["weights"].refuses = True
    assert_matches_twin(PROBLEM.solve(**lent), PROBLEM)
    assert lent["weights"].lent == 1


def test_what_requires_a_gradient_is_not_borrowed_past_its_producer():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    weights = torch.from_numpy(PROBLEM.weights).requires_grad_()
    with pytest.raises(
        ValueError, match=r"weights requires a gradient, .* use fastnce.torch, or pass weights.detach\(\)"
    ):
        PROBLEM.solve(weights=weights)


def test_a_borrowed_array_on_another_device_is_refused():
    with pytest.raises(ValueError, match="weights is on device cuda:0: expected cpu"):
        PROBLEM.solve(weights=TableProducer(PROBLEM.weights, device=(CUDA, 0)))


def test_nothing_that_is_lent_is_written_to(tmp_path):
    def protected(array):
        """In pages that end the process when they are written to."""
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, array)
        return LegacyProducer(np.load(path, mmap_mode="r"))  # whose capsules say nothing of it

    lent = lent_by(protected)
    PROBLEM.solve(**lent, grad_loss=protected(np.ones(len(PROBLEM.labels), np.float32)))
    PROBLEM.solve(**{**lent, "sampled_values": None}, seed=1)
    fastnce.log_uniform_candidate_sampler(lent["labels"], 2, 4, True, 50, seed=1)
    fastnce.compute_accidental_hits(lent["labels"], lent["sampled_values"][0], 2)


def test_shards_may_be_lent():
    shards = [LegacyProducer(shard) for shard in np.array_split(PROBLEM.weights, 3)]
    assert_matches_twin(PROBLEM.solve(weights=shards), PROBLEM)


@pytest.mark.parametrize("name", ["weights", "biases", "labels", "inputs"])
@pytest.mark.parametrize("options", [{}, {"max_version": (1, 0)}], ids=["legacy", "versioned"])
def test_a_consumed_capsule_is_refused(name, options):
    capsule = getattr(PROBLEM, name).__dlpack__(**options)
    PROBLEM.solve(**{name: capsule})
    with pytest.raises(ValueError, match=f"{name} .*consumed before"):
        PROBLEM.solve(**{name: capsule})


@pytest.mark.parametrize("name", ["weights", "biases", "labels", "inputs"])
def test_an_array_on_another_device_is_refused(name):
    if name == "inputs" and fastnce.cuda.is_available():
        pytest.skip("where there is CUDA, inputs decide the device")
    elsewhere = LegacyProducer(getattr(PROBLEM, name), device=(CUDA, 0))
    with pytest.raises(ValueError, match=f"{name} is on device cuda:0: expected cpu"):
        PROBLEM.solve(**{name: elsewhere})
    assert elsewhere.lent == elsewhere.returned


def test_a_capsule_of_another_device_is_refused():
    elsewhere = LegacyProducer(PROBLEM.weights, device=(CUDA, 1))
    with pytest.raises(ValueError, match="weights is on device cuda:1: expected cpu"):
        PROBLEM.solve(weights=elsewhere.__dlpack__())
    assert elsewhere.returned == 1


def test_a_capsule_of_something_else_is_refused():
    other = new_capsule(id(PROBLEM), b"dlpickle", None)  # any address: it must not be read
    with pytest.raises(TypeError, match=r"inputs .*dlpickle.*dltensor"):
        PROBLEM.solve(inputs=other)


def test_vectors_of_lanes_are_refused():
    with pytest.raises(TypeError, match=r"inputs .*lanes"):
        PROBLEM.solve(inputs=LegacyProducer(PROBLEM.inputs, lanes=2))


@pytest.mark.parametrize("bits", [0, 4, 128])
def test_integers_of_unknown_width_are_refused(bits):
    with pytest.raises(TypeError, match=r"labels "):
        PROBLEM.solve(labels=LegacyProducer(PROBLEM.labels, bits=bits))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupts_and_lack_of_memory_are_not_the_arguments_fault(error):
    class Interrupted(VersionedProducer):
        def __dlpack__(self, **options):
            raise error

    with pytest.raises(error):
        PROBLEM.solve(inputs=Interrupted(PROBLEM.inputs))


def test_malformed_shapes_and_devices_are_refused():
    negative = LegacyProducer(PROBLEM.inputs)
    negative.shape[0] = -4
    with pytest.raises(ValueError, match=r"inputs .*malformed"):
        PROBLEM.solve(inputs=negative)
    with pytest.raises(TypeError, match=r"inputs.__dlpack_device__"):
        PROBLEM.solve(inputs=LegacyProducer(PROBLEM.inputs, device=Wide()))


class Wide(tuple):
    """A device pair of which nothing fits 32 bits, but which the tensor itself can carry."""

    def __new__(cls):
        return super().__new__(cls, (2**32 + 1, 0))


def test_a_producer_that_fails_is_named():
    class Broken(VersionedProducer):
        def __dlpack__(self, **options):
            raise BufferError("not today")

    with pytest.raises(ValueError, match=r"inputs .*not today"):
        PROBLEM.solve(inputs=Broken(PROBLEM.inputs))


def test_samplers_and_hits_take_lent_arrays():
    for producer in (LegacyProducer, VersionedProducer):
        lent = producer(PROBLEM.labels)
        values, expected = (
            fastnce.log_uniform_candidate_sampler(classes, 2, 4, True, 50, seed=1) for classes in (lent, PROBLEM.labels)
        )
        np.testing.assert_equal(values, expected)
        hits, expected = (
            fastnce.compute_accidental_hits(*classes, 2)
            for classes in (
                (lent, producer(PROBLEM.sampled_values[0])),
                (PROBLEM.labels, PROBLEM.sampled_values[0]),
            )
        )
        np.testing.assert_equal(hits, expected)


@pytest.mark.parametrize("listed", [False, True], ids=["matrix", "lists"])
@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_samples_of_groups_are_of_the_kind_of_the_true_classes(framework, listed):
    if framework == "numpy":
        put, kind = LegacyProducer, np.ndarray
    elif framework == "torch":
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        put, kind = torch.from_numpy, torch.Tensor
    else:
        jax = pytest.importorskip("jax", reason="JAX is not installed")
        put, kind = jax.numpy.asarray, jax.Array
    labels = np.array([[1, 7], [3, 4], [0, 9]])
    arrays = fastnce.Ragged(labels.ravel(), np.array([0, 2, 4, 6])) if listed else labels
    lent = fastnce.Ragged(*map(put, arrays)) if listed else put(labels)
    exclude = np.array([1, 2, 3, 3]), np.array([0, 1, 3, 4])
    for make in (fastnce.UniformSampler, fastnce.LearnedUnigramSampler):
        values, expected = (
            make(50, 5, num_true=2, seed=1)(classes, num_groups=3, exclude=fastnce.Ragged(*lists))
            for classes, lists in ((lent, map(put, exclude)), (arrays, exclude))
        )
        for ours, array in zip(values, expected, strict=True):
            assert isinstance(ours, kind)
            np.testing.assert_array_equal(np.asarray(ours), array)


def assert_kind(results, kind):
    for result in results:
        assert isinstance(result, kind)


def results_of(arguments):
    loss, grads = fastnce.nce_loss_and_grad(**{**PROBLEM.arguments(), **arguments})
    return loss, grads.inputs, *grads.rows


@pytest.mark.parametrize("producer", [LegacyProducer, VersionedProducer, lambda array: array])
def test_results_for_numpy_and_for_unknown_producers_are_numpy(producer):
    assert_kind(results_of(lent_by(producer)), np.ndarray)


def test_the_kind_of_the_results_is_that_of_inputs():
    assert_kind(results_of({**lent_by(LegacyProducer), "inputs": PROBLEM.inputs}), np.ndarray)


def test_torch_tensors_give_torch_tensors():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    lent = lent_by(torch.from_numpy)
    results = results_of(lent)
    assert_kind(results, torch.Tensor)
    for ours, expected in zip(results, results_of({}), strict=True):
        np.testing.assert_array_equal(ours.numpy(), expected)
    values = fastnce.log_uniform_candidate_sampler(lent["labels"], 2, 4, True, 50, seed=1)
    assert_kind(values, torch.Tensor)
    assert_kind(fastnce.compute_accidental_hits(lent["labels"], lent["sampled_values"][0], 2), torch.Tensor)
    assert_kind(results_of({"inputs": lent["inputs"]}), torch.Tensor)  # beside NumPy arrays
    parameter_like = type("Own", (torch.Tensor,), {})
    assert_kind(results_of({"inputs": lent["inputs"].as_subclass(parameter_like)}), torch.Tensor)


def test_torch_tensors_may_be_views_and_half_counts():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    wide = torch.full((len(PROBLEM.weights), 9), torch.nan)
    wide[:, 2:7] = torch.from_numpy(PROBLEM.weights)
    counts = [torch.from_numpy(count).bfloat16() for count in PROBLEM.sampled_values[1:]]
    rounded = (PROBLEM.sampled_values[0], *(count.float().numpy() for count in counts))
    half = PROBLEM.solve(weights=wide[:, 2:7], sampled_values=(PROBLEM.sampled_values[0], *counts))
    np.testing.assert_equal(half, PROBLEM.solve(sampled_values=rounded))


def test_jax_arrays_give_jax_arrays():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    lent = lent_by(jax.numpy.asarray)
    results = results_of(lent)
    assert_kind(results, jax.Array)
    for ours, expected in zip(results, results_of({}), strict=True):
        np.testing.assert_array_equal(np.asarray(ours), expected)
    assert_kind(fastnce.log_uniform_candidate_sampler(lent["labels"], 2, 4, True, 50, seed=1), jax.Array)
    # Without 64-bit integers JAX would wrap large ids.
    large = fastnce.log_uniform_candidate_sampler(lent["labels"], 2, 64, True, 2**40, seed=1).sampled_candidates
    assert large.max() >= 2**31
    assert large.min() >= 0


def test_importing_the_library_imports_no_framework():
    script = "import fastnce, sys; print({'torch', 'jax', 'tensorflow'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert finished.stdout.strip() == "set()", finished.stderr
