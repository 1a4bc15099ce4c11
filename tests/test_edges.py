"""Edge behaviour: what TensorFlow 2.21 does on the CPU at each edge, and what fastnce does there. One test for each."""

from __future__ import annotations

import numpy as np
import pytest

import fastnce
from fastnce import Ragged, reference
from tolerances import assert_same_as_tensorflow

V, D, B, S, T = 12, 4, 3, 5, 2
RNG = np.random.default_rng(11)
WEIGHTS = RNG.standard_normal((V, D)).astype(np.float32)
BIASES = RNG.standard_normal(V).astype(np.float32)
INPUTS = RNG.standard_normal((B, D)).astype(np.float32)
LABELS = np.array([[0, 3], [7, 2], [11, 3]])
IDS = np.array([3, 8, 3, 1, 0])
COUNTS = np.full((B, T), 0.5, np.float32), np.full(S, 0.25, np.float32)
LOSSES = [fastnce.nce_loss, fastnce.sampled_softmax_loss]
EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


def call(loss, *, samples=(IDS, *COUNTS), **changes):
    """A loss of the small problem, with some arguments given differently."""
    arguments = dict(
        weights=WEIGHTS, biases=BIASES, labels=LABELS, inputs=INPUTS, num_sampled=S, num_classes=V, num_true=T
    )
    if samples is not None:
        arguments["num_sampled"] = np.shape(samples[0])[-1]
    return loss(**{**arguments, "sampled_values": samples, **changes})


def twin(loss, *, samples=(IDS, *COUNTS), labels=LABELS, inputs=INPUTS, **options):
    function = getattr(reference, f"{loss.__name__}_and_grad")
    return function(WEIGHTS, BIASES, labels, inputs, samples, **options)[0]


# sizes of samples and classes


def test_more_unique_samples_than_classes_are_refused():
    # TensorFlow: "Sampler's range is too small."
    with pytest.raises(ValueError, match=f"num_sampled = {V + 1}.*{V}"):
        fastnce.log_uniform_candidate_sampler(LABELS, T, V + 1, True, V)


def test_samples_that_may_repeat_may_outnumber_the_classes():
    values = fastnce.log_uniform_candidate_sampler(LABELS, T, 5 * V, False, V, seed=1)
    assert values.sampled_candidates.shape == (5 * V,)


def test_as_many_unique_samples_as_classes_are_all_classes():
    values = fastnce.log_uniform_candidate_sampler([[0]], 1, 5, True, 5, seed=(1, 2))
    assert sorted(values.sampled_candidates) == list(range(5))
    assert ((values.sampled_expected_count > 0.5) & (values.sampled_expected_count < 1)).all()


def test_all_of_many_classes_take_many_draws_and_are_expected_almost_surely():
    values = fastnce.log_uniform_candidate_sampler([[0]], 1, 2000, True, 2000, seed=3)
    assert sorted(values.sampled_candidates) == list(range(2000))
    assert values.sampled_expected_count.min() > 0.95


def test_one_class():
    for unique, sampled in ((True, 1), (False, 3)):
        values = fastnce.log_uniform_candidate_sampler([[0]], 1, sampled, unique, 1, seed=1)
        assert list(values.sampled_candidates) == [0] * sampled
        np.testing.assert_array_equal(values.sampled_expected_count, float(sampled))


def test_two_of_two_classes_without_a_repetition_are_expected_as_often_as_with_replacement():
    # S p where no draw was repeated: 2 log(2) / log(3), more than 1.
    for seed in range(20):
        values = fastnce.log_uniform_candidate_sampler([[0]], 1, 2, True, 2, seed=(seed, 1))
        if values.true_expected_count[0, 0] > 1:
            np.testing.assert_allclose(values.true_expected_count, 1.2618595, rtol=1e-6)
            return
    pytest.fail("no call of 20 drew two classes at once")


def test_the_last_of_two_to_the_63_classes_is_expected_as_often_as_in_tensorflow():
    # log(k + 2) - log(k + 1) = 0 there. TensorFlow's loss is NaN; ours refuses a count of 0.
    values = fastnce.log_uniform_candidate_sampler([[2**63 - 2]], 1, 4, False, 2**63 - 1, seed=1)
    assert values.true_expected_count[0, 0] == 0
    uniform = fastnce.uniform_candidate_sampler([[2**63 - 2]], 1, 4, False, 2**63 - 1, seed=1)
    np.testing.assert_allclose(uniform.true_expected_count, 4 / (2**63 - 1), rtol=1e-6)


def test_two_to_the_63_classes_are_refused():
    # TensorFlow wraps around to -1.
    with pytest.raises(ValueError, match="range_max = 9223372036854775808"):
        fastnce.log_uniform_candidate_sampler([[0]], 1, 4, True, 2**63)


def test_two_to_the_31_samples_are_refused():
    with pytest.raises(ValueError, match="num_sampled = 2147483648"):
        fastnce.log_uniform_candidate_sampler([[0]], 1, 2**31, False, 2**40)


def test_calls_of_a_multiple_of_two_to_the_21_samples_differ():
    # TensorFlow reserves 2048 S words of its stream in 32 bits: consecutive calls are identical.
    sampler = fastnce.LogUniformSampler(V, 2**21, unique=False, seed=5)
    first, second = sampler([0]).sampled_candidates, sampler([0]).sampled_candidates
    assert (first != second).any()


@EVERY_LOSS
def test_no_samples_leave_the_true_terms(loss):
    none = (np.empty(0, np.int64), COUNTS[0], np.empty(0, np.float32))
    assert_same_as_tensorflow(call(loss, samples=none), twin(loss, samples=none))
    with pytest.raises(ValueError, match="num_sampled = 0"):
        call(loss, samples=None, num_sampled=0)


@EVERY_LOSS
def test_no_true_classes_leave_the_samples(loss):
    labels, samples = np.empty((B, 0), np.int64), (IDS, np.empty((B, 0), np.float32), COUNTS[1])
    losses = call(loss, samples=samples, labels=labels, num_true=0)
    assert_same_as_tensorflow(losses, twin(loss, samples=samples, labels=labels))


@EVERY_LOSS
@pytest.mark.parametrize("hits", [False, True])
def test_no_examples_have_no_losses(loss, hits):
    samples = (IDS, np.empty((0, T), np.float32), COUNTS[1])
    empty = call(loss, samples=samples, labels=LABELS[:0], inputs=INPUTS[:0], remove_accidental_hits=hits)
    assert empty.shape == (0,)


@EVERY_LOSS
def test_embeddings_without_columns_leave_biases_and_counts(loss):
    weights, inputs = WEIGHTS[:, :0], INPUTS[:, :0]
    function = getattr(reference, f"{loss.__name__}_and_grad")
    expected = function(weights, BIASES, LABELS, inputs, (IDS, *COUNTS))[0]
    assert_same_as_tensorflow(call(loss, weights=weights, inputs=inputs), expected)


# classes out of range


@EVERY_LOSS
@pytest.mark.parametrize("bad", [-1, V])
def test_labels_out_of_range_are_refused_whoever_samples(loss, bad):
    labels = LABELS.copy()
    labels[1, 1] = bad
    for samples in (None, (IDS, *COUNTS)):
        with pytest.raises(ValueError, match=rf"labels\[1, 1\] = {bad} is outside \[0, num_classes = {V}\)"):
            call(loss, samples=samples, labels=labels)
    for strategy in ("div", "mod"):
        shards = [WEIGHTS[:6], WEIGHTS[6:]], [BIASES[:6], BIASES[6:]]
        with pytest.raises(ValueError, match=rf"labels\[1, 1\] = {bad} is outside"):
            call(loss, weights=shards[0], biases=shards[1], labels=labels, partition_strategy=strategy)


@EVERY_LOSS
def test_more_classes_than_rows_are_refused_before_anything_is_drawn(loss):
    # TensorFlow fails once a sampled id has no row: at random.
    with pytest.raises(ValueError, match=f"weights has {V} rows: expected at least num_classes = {V + 1}"):
        call(loss, samples=None, num_classes=V + 1)


@EVERY_LOSS
def test_fewer_classes_than_rows_are_fine(loss):
    samples = (IDS[IDS < 8], COUNTS[0], COUNTS[1][: (IDS < 8).sum()])
    losses = call(loss, samples=samples, labels=LABELS % 8, num_classes=8)
    assert_same_as_tensorflow(losses, twin(loss, samples=samples, labels=LABELS % 8))


# labels and samples, however they are given


@EVERY_LOSS
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_labels_of_any_integer_type(loss, dtype):
    np.testing.assert_array_equal(call(loss, labels=LABELS.astype(dtype)), call(loss))


@EVERY_LOSS
@pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
def test_labels_that_are_no_integers_are_refused(loss, dtype):
    # TensorFlow's losses cast them.
    with pytest.raises(TypeError, match=f"labels has dtype {dtype}: expected .*integer"):
        call(loss, labels=LABELS.astype(dtype))


@EVERY_LOSS
@pytest.mark.parametrize("hits", [False, True])
def test_one_label_per_example_needs_no_axis(loss, hits):
    samples = (IDS, COUNTS[0][:, :1], COUNTS[1])
    flat = call(loss, samples=samples, labels=LABELS[:, 0], num_true=1, remove_accidental_hits=hits)
    column = call(loss, samples=samples, labels=LABELS[:, :1], num_true=1, remove_accidental_hits=hits)
    np.testing.assert_array_equal(flat, column)


@EVERY_LOSS
def test_ragged_labels(loss):
    # TensorFlow: "object of type 'RaggedTensor' has no len()".
    labels, samples = Ragged(np.array([0, 3, 7]), np.array([0, 2, 2, 3])), (IDS, COUNTS[0].ravel()[:3], COUNTS[1])
    losses = call(loss, samples=samples, labels=labels)
    assert_same_as_tensorflow(losses, twin(loss, samples=samples, labels=labels))
    assert losses[1] == 0


@EVERY_LOSS
def test_another_number_of_columns_than_num_true_is_refused(loss):
    for samples in (None, (IDS, *COUNTS)):
        with pytest.raises(ValueError, match=r"labels has shape \[3, 2\]: expected \[B, num_true\] = \[3, 3\]"):
            call(loss, samples=samples, num_true=3)


@EVERY_LOSS
def test_counts_per_example_do_not_become_a_square(loss):
    # TensorFlow broadcasts [B] against [B, 1] to [B, B] true logits: a wrong loss, and no error.
    one = call(loss, samples=(IDS, COUNTS[0][:, :1], COUNTS[1]), labels=LABELS[:, :1], num_true=1)
    flat = call(loss, samples=(IDS, COUNTS[0][:, 0], COUNTS[1]), labels=LABELS[:, :1], num_true=1)
    np.testing.assert_array_equal(one, flat)
    with pytest.raises(ValueError, match=r"true_expected_count has shape \[3\]: expected \[B, num_true\] = \[3, 2\]"):
        call(loss, samples=(IDS, COUNTS[0][:, 0], COUNTS[1]))


@EVERY_LOSS
@pytest.mark.parametrize("hits", [False, True])
def test_another_number_of_samples_than_num_sampled_is_refused(loss, hits):
    # TensorFlow ignores num_sampled, or fails where a hit lies beyond it.
    with pytest.raises(ValueError, match=r"sampled_candidates has shape \[5\]: expected \[num_sampled\] = \[4\]"):
        call(loss, num_sampled=4, remove_accidental_hits=hits)


@EVERY_LOSS
@pytest.mark.parametrize("values", [(IDS, COUNTS[0]), IDS], ids=["two", "bare"])
def test_anything_but_three_sampled_values_is_refused(loss, values):
    with pytest.raises(ValueError, match=r"sampled_values .*three"):
        call(loss, samples=(IDS, *COUNTS), sampled_values=values)


@EVERY_LOSS
@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_counts_that_have_no_logarithm_are_refused(loss, bad):
    # TensorFlow: NaN, for all examples if it is a sample's.
    for samples, name in (
        ((IDS, COUNTS[0], np.where(np.arange(S) == 1, bad, COUNTS[1])), "sampled_expected_count[1]"),
        ((IDS, np.where(np.eye(B, T) > 0, bad, COUNTS[0]), COUNTS[1]), "true_expected_count[0, 0]"),
    ):
        with pytest.raises(ValueError) as raised:
            call(loss, samples=samples)
        assert name in str(raised.value) and "positive" in str(raised.value)


# accidental hits


@EVERY_LOSS
def test_every_duplicate_of_a_hit_is_removed(loss):
    # TensorFlow: only the last one.
    kept = IDS != 3
    others = call(loss, samples=(IDS[kept], COUNTS[0], COUNTS[1][kept]), remove_accidental_hits=True)
    losses = call(loss, remove_accidental_hits=True)
    assert_same_as_tensorflow(losses[[0, 2]], others[[0, 2]])  # 3 is one of their labels


@EVERY_LOSS
def test_removed_hits_have_no_logits_however_large(loss):
    # TensorFlow adds -1e37 (or the lowest number) to a logit of -1e31 and less: -inf, then NaN.
    weights = WEIGHTS * np.float32(1e33)
    biases = np.where(np.arange(V) == 3, np.float32(-1e35), BIASES)
    losses, grads = call(
        getattr(fastnce, f"{loss.__name__}_and_grad"),
        weights=np.where(np.arange(V)[:, np.newaxis] == 3, 0 * weights, WEIGHTS),
        biases=biases,
        labels=np.array([[3], [3], [3]]),
        num_true=1,
        samples=(IDS, COUNTS[0][:, :1], COUNTS[1]),
        remove_accidental_hits=True,
    )
    assert not np.isnan(losses).any() and not np.isnan(grads.inputs).any()


@EVERY_LOSS
@pytest.mark.parametrize("dtype", ["float16", "uint16"])
def test_halves_without_hits_are_finite(loss, dtype):
    # TensorFlow: NaN, since the mask is beyond float16.
    narrow = lambda a: a.astype("f2") if dtype == "float16" else (a.view(np.uint32) >> 16).astype("u2")  # noqa: E731
    losses = call(
        loss, weights=narrow(WEIGHTS), biases=narrow(BIASES), inputs=narrow(INPUTS), remove_accidental_hits=True
    )
    assert np.isfinite(losses).all()


# element types and shapes of what is trained


@EVERY_LOSS
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_the_default_sampler_takes_every_element_type(loss, dtype):
    arrays = {name: array.astype(dtype) for name, array in dict(weights=WEIGHTS, biases=BIASES, inputs=INPUTS).items()}
    losses = call(loss, samples=None, seed=1, **arrays)
    assert np.isfinite(losses).all() and losses.dtype == ("float64" if dtype == "float64" else "float32")


@EVERY_LOSS
def test_inputs_without_an_axis_of_examples_are_refused(loss):
    with pytest.raises(ValueError, match=r"inputs .*\[4\]"):
        call(loss, inputs=INPUTS[0])


@EVERY_LOSS
def test_several_axes_of_examples_are_one_batch(loss):
    # TensorFlow: "Incompatible shapes".
    losses = call(loss, inputs=INPUTS[None], labels=LABELS[None], samples=(IDS, COUNTS[0][None], COUNTS[1]))
    np.testing.assert_array_equal(losses, call(loss)[None])


@EVERY_LOSS
@pytest.mark.parametrize("rows", [1, 2])
def test_another_number_of_inputs_than_of_labels_is_refused(loss, rows):
    with pytest.raises(ValueError, match=rf"labels has shape \[3, 2\]: expected \[B, num_true\] = \[{rows}, 2\]"):
        call(loss, inputs=INPUTS[:rows])


@EVERY_LOSS
def test_biases_with_a_second_axis_are_refused(loss):
    with pytest.raises(ValueError, match=r"biases .*\[12, 1\].*\[V\]"):
        call(loss, biases=BIASES[:, np.newaxis])


# samplers by frequency


def test_classes_of_frequency_zero_cannot_be_drawn_uniquely():
    # TensorFlow loops for ever, then aborts the process.
    with pytest.raises(ValueError, match=r"num_sampled = 3.*2"):
        fastnce.fixed_unigram_candidate_sampler([[0]], 1, 3, True, 5, unigrams=[1.0, 0.0, 2.0, 0.0, 0.0])


def test_a_table_of_frequencies_serves_labels_in_any_order():
    # A log-uniform sampler would train poorly on classes that are not sorted by frequency; no check can find that.
    counts = np.array([1.0, 50.0, 3.0, 400.0, 2.0])
    sampler = fastnce.UnigramSampler.from_counts(counts, 20_000, power=1.0, unique=False, seed=2)
    share = np.bincount(sampler([0]).sampled_candidates, minlength=5) / 20_000
    np.testing.assert_allclose(share, counts / counts.sum(), atol=0.01)


def test_too_many_classes_for_learned_frequencies_are_refused():
    # TensorFlow hangs from 2^30 on.
    with pytest.raises(ValueError, match=r"range_max = 2147483648.*2147483647"):
        fastnce.learned_unigram_candidate_sampler([[0]], 1, 4, True, 2**31)


def test_without_a_seed_every_call_draws_anew():
    # TensorFlow: a RuntimeError where op determinism is enabled.
    first, second = (fastnce.log_uniform_candidate_sampler([[0]], 1, 50, True, 10**6) for _ in range(2))
    assert (first.sampled_candidates != second.sampled_candidates).any()


@EVERY_LOSS
def test_candidates_per_example(loss):
    # TensorFlow: "ConcatOp : Ranks of all input tensors should match".
    samples = (np.stack([IDS] * B), COUNTS[0], np.stack([COUNTS[1]] * B))
    assert_same_as_tensorflow(call(loss, samples=samples), call(loss))
