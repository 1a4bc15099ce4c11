"""Training of word vectors: one thread against the float64 twin, random numbers included."""

from __future__ import annotations

import numpy as np
import pytest

from fastnce import _core, reference
from tolerances import SKIP_GRAM_RELATIVE, relative_error

LOSSES = ["negative_sampling", "nce", "sampled_softmax"]


def text_of(words, size, seed=0, paragraph=40):
    """Ids of a text in which frequencies fall as 1 / rank, paragraphs of some `paragraph` words, and the counts."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, words + 1)
    ids = rng.choice(words, size, p=shares / shares.sum()).astype(np.int32)
    ids[rng.random(size) < 1 / paragraph] = -1
    counts = np.bincount(ids[ids >= 0], minlength=words) + 1
    return ids, np.sort(counts)[::-1].astype(np.int64)


def tables_of(words, dim, seed=0, scale=0.3, row_stride=None):
    """Vectors and outputs; rows `row_stride` apart, which defaults to `dim`."""
    rng = np.random.default_rng(seed)
    rows = lambda: np.full((words, row_stride or dim), np.nan, np.float32)[:, :dim]  # noqa: E731
    vectors, outputs = rows(), rows()
    vectors[:] = rng.normal(0, scale, (words, dim))
    outputs[:] = rng.normal(0, scale, (words, dim))
    return vectors, outputs


def trained(vectors, outputs, counts, ids, *, place=7, rates=(0.02, 0.01), threads=1, **options):
    vectors, outputs = vectors.copy(), outputs.copy()
    results = _core.SkipGram(vectors, outputs, counts, **options).train(ids, place, rates, threads)
    return reference.SkipGramResult(vectors, outputs, *results)


def twin(vectors, outputs, counts, ids, *, place=7, rates=(0.02, 0.01), **options):
    return reference.train_skip_gram(reference.SkipGram(counts, **options), vectors, outputs, ids, place, rates)


def assert_same(result, expected):
    assert (result.pairs, result.kept) == (expected.pairs, expected.kept)
    assert result.loss == pytest.approx(expected.loss, rel=SKIP_GRAM_RELATIVE)
    assert relative_error(result.vectors, expected.vectors) <= SKIP_GRAM_RELATIVE
    assert relative_error(result.outputs, expected.outputs) <= SKIP_GRAM_RELATIVE


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(sample=0.0),
        dict(window=1),
        dict(window=13, negative=2, sample=0.05),
        dict(negative=11, ns_exponent=0.0),
        dict(seed=2**63 + 5, ns_exponent=-0.5),
    ],
    ids=str,
)
def test_one_thread_is_the_twin(loss, options):
    ids, counts = text_of(200, 1500)
    tables = tables_of(200, 20)
    assert_same(trained(*tables, counts, ids, loss=loss, **options), twin(*tables, counts, ids, loss=loss, **options))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dim", [1, 3, 15, 16, 17, 100, 131, 300])
def test_every_width_of_a_row_is_the_twins(loss, dim):
    ids, counts = text_of(50, 300)
    tables = tables_of(50, dim, scale=dim**-0.5)
    options = dict(loss=loss, sample=0.1, window=3)
    assert_same(trained(*tables, counts, ids, **options), twin(*tables, counts, ids, **options))


def test_padding_between_rows_is_neither_read_nor_written():
    ids, counts = text_of(50, 300)
    compact, wide = tables_of(50, 21), tables_of(50, 21, row_stride=40)
    model = _core.SkipGram(*wide, counts)
    model.train(ids, 0, (0.05, 0.05), 1)
    _core.SkipGram(*compact, counts).train(ids, 0, (0.05, 0.05), 1)
    for table, expected in zip(wide, compact, strict=True):
        np.testing.assert_array_equal(table, expected)
        assert np.isnan(table.base[:, 21:]).all()


@pytest.mark.parametrize("words", [1, 2, 3, 9])
def test_a_tiny_vocabulary_stays_finite_and_is_the_twins(words):
    """The same rows come many times in a block, as centres, contexts and negatives."""
    ids, counts = text_of(words, 2000, paragraph=500)
    tables = tables_of(words, 8)
    result = trained(*tables, counts, ids, sample=0.0)
    assert_same(result, twin(*tables, counts, ids, sample=0.0))
    assert np.abs(result.vectors).max() < 10


def test_texts_of_several_parts_are_the_twins():
    """Parts end at paragraphs, or at a multiple of 8192 ids in a paragraph that is longer."""
    ids, counts = text_of(300, 20000, paragraph=15000)
    assert 1 <= (ids < 0).sum() < 6
    tables = tables_of(300, 4)
    assert_same(trained(*tables, counts, ids), twin(*tables, counts, ids))


TEXTS: list[list[int]] = [[], [-1], [-1, -1, -1], [0], [0, -1], [-1, 0, -1, 1, -1], [0, 1], [0, 1, -1]]


@pytest.mark.parametrize("text", TEXTS, ids=str)
def test_texts_without_pairs_or_with_few(text):
    ids, counts = np.array(text, np.int32), np.array([3, 2])
    tables = tables_of(2, 5)
    result = trained(*tables, counts, ids, sample=0.0)
    assert_same(result, twin(*tables, counts, ids, sample=0.0))
    assert result.pairs == (2 if text[:2] == [0, 1] else 0)
    if result.pairs == 0:
        np.testing.assert_array_equal(result.vectors, tables[0])


def test_random_numbers_belong_to_the_place_of_an_id():
    """A text in two calls, cut between paragraphs, gives what one call gives, but for where blocks end."""
    ids, counts = text_of(100, 4000)
    cut = int(np.flatnonzero(ids[:1001] < 0)[-1]) + 1
    tables = tables_of(100, 6)
    whole = trained(*tables, counts, ids, place=10)
    vectors, outputs = (table.copy() for table in tables)
    model = _core.SkipGram(vectors, outputs, counts)
    parts = [model.train(ids[:cut], 10, (0.05, 0.05), 1), model.train(ids[cut:], 10 + cut, (0.05, 0.05), 1)]
    assert sum(part[1] for part in parts) == whole.pairs
    assert sum(part[2] for part in parts) == whole.kept
    other = trained(*tables, counts, ids, place=11)
    assert (other.pairs, other.kept) != (whole.pairs, whole.kept)


def test_one_thread_gives_the_same_bits_on_every_run():
    ids, counts = text_of(100, 30000)
    tables = tables_of(100, 6)
    first, second = (trained(*tables, counts, ids) for _ in range(2))
    assert first.loss == second.loss
    np.testing.assert_array_equal(first.vectors, second.vectors)
    np.testing.assert_array_equal(first.outputs, second.outputs)


def test_two_threads_train_all_of_the_text():
    ids, counts = text_of(3000, 60000)
    tables = tables_of(3000, 16, scale=0.1)
    # At a small rate the order of steps is a second-order effect, and so is what a thread has not seen of the other's.
    one, two = (trained(*tables, counts, ids, rates=(1e-4, 1e-4), threads=threads) for threads in (1, 2))
    assert (two.pairs, two.kept) == (one.pairs, one.kept)
    assert two.loss == pytest.approx(one.loss, rel=1e-3)
    # A step that overwrites one of the other thread is lost, at worst while one waits for its core.
    assert np.linalg.norm(two.vectors - one.vectors) < 0.3 * np.linalg.norm(one.vectors - tables[0])


def test_subsampling_keeps_the_shares_that_it_should():
    ids, counts = text_of(50, 200_000)
    counts = np.bincount(ids[ids >= 0], minlength=50)
    model = reference.SkipGram(counts, sample=0.01)
    kept = trained(*tables_of(50, 1), counts, ids, sample=0.01).kept
    expected, variance = (counts * model.keep).sum(), (counts * model.keep * (1 - model.keep)).sum()
    assert abs(kept - expected) < 5 * variance**0.5


def test_windows_reach_uniformly_far():
    """A long paragraph, all kept: W + 1 pairs for a position on average."""
    ids = np.zeros(8192, np.int32)
    window = 9
    pairs = trained(*tables_of(1, 1), np.array([8192]), ids, sample=0.0, window=window, rates=(0.0, 0.0)).pairs
    deviation = 2 * ((window**2 - 1) / 12 / len(ids)) ** 0.5
    assert abs(pairs / len(ids) - (window + 1)) < 5 * deviation + window**2 / len(ids)


def test_the_loss_is_word2vecs_in_expectation():
    """Over many seeds, against k negatives for each pair, of which those that are the context are skipped."""
    words, dim, k, seeds = 6, 4, 3, 300
    ids = np.array([0, 1, 2, 3, 0, 4, 5, 1], np.int32)
    counts = np.array([40, 20, 10, 8, 5, 2])
    vectors, outputs = tables_of(words, dim, scale=1.0)
    q = counts**0.75 / (counts**0.75).sum()
    logits = vectors.astype(np.float64) @ outputs.T
    softplus = np.logaddexp(0, logits)
    of_pair = np.logaddexp(0, -logits) + k * ((softplus @ q)[:, np.newaxis] - q * softplus)
    near = np.abs(np.arange(8)[:, np.newaxis] - np.arange(8)) == 1  # window = 1: always of reach 1
    expected = of_pair[ids[:, np.newaxis], ids][near].sum()
    losses = [
        trained(vectors, outputs, counts, ids, sample=0.0, window=1, negative=k, seed=seed, rates=(0.0, 0.0)).loss
        for seed in range(seeds)
    ]
    assert abs(np.mean(losses) - expected) < 5 * np.std(losses) / seeds**0.5


@pytest.mark.parametrize("loss", LOSSES)
def test_training_lowers_the_loss(loss):
    """Of a text in which words go in pairs."""
    rng = np.random.default_rng(3)
    ids = (rng.integers(0, 20, 4000)[:, np.newaxis] * 2 + [[0, 1]]).astype(np.int32)
    ids = np.hstack([ids, np.full((4000, 1), -1, np.int32)]).ravel()
    vectors, outputs = tables_of(40, 10, scale=0.1)
    model = _core.SkipGram(vectors, outputs, np.bincount(ids[ids >= 0]), sample=0.0, loss=loss)
    losses = [model.train(ids, i * len(ids), (0.05, 0.05), 1)[0] for i in range(3)]
    assert losses[2] < 0.7 * losses[0]
    assert ((vectors @ outputs.T).argmax(axis=1) == np.arange(40) ^ 1).all()


def test_medium_precision_is_near_the_twin():
    ids, counts = text_of(200, 1500)
    tables = tables_of(200, 40)
    result, expected = trained(*tables, counts, ids, precision="medium"), twin(*tables, counts, ids)
    assert result.loss == pytest.approx(expected.loss, rel=1e-3)
    change = np.linalg.norm(expected.vectors - tables[0])
    assert np.linalg.norm(result.vectors - expected.vectors) < 1e-2 * change


def test_words_that_take_turns_do_not_diverge():
    """Paragraphs with two words of which each stands every other position, 16 times: a block has few of each."""
    rng = np.random.default_rng(0)
    others = rng.integers(400, size=(60, 2, 20))
    turns = np.tile(rng.integers(400, size=(60, 2)), (1, 16))
    ids = np.hstack([others[:, 0], turns, others[:, 1], np.full((60, 1), -1)]).ravel().astype(np.int32)
    counts = np.maximum(np.bincount(ids[ids >= 0], minlength=400), 1)
    vectors, outputs = tables_of(400, 10, scale=0.1)
    model = _core.SkipGram(vectors, outputs, counts, sample=0.0)
    untrained = model.train(ids, 0, (0.0, 0.0), 1)[0]
    losses = [model.train(ids, i * len(ids), (0.05, 0.05), 1)[0] for i in range(6)]
    assert losses[-1] < 0.7 * untrained and max(losses) < untrained


@pytest.mark.parametrize(("rate", "repeats"), [(0.0, 64), (0.002, 64), (0.01, 16), (0.05, 3), (0.2, 1), (10.0, 1)])
def test_a_word_stands_in_a_block_so_often_as_is_stable(rate, repeats):
    model = reference.SkipGram(np.full(100, 10))
    assert model.block_repeats(rate) == repeats
    begins = model.blocks(np.tile([0, 1, 0, 2], 100), rate)
    longest = model.block_positions(rate)
    assert begins[1] == min(longest, 2 * repeats if repeats < 32 else longest)


def test_blocks_are_as_long_as_is_stable():
    _, counts = text_of(1000, 100_000)
    for options in (dict(), dict(negative=20), dict(window=30, negative=15), dict(loss="sampled_softmax")):
        model = _core.SkipGram(*tables_of(1000, 2), counts, **options)
        expected = reference.SkipGram(counts, **options)
        assert model.num_samples == expected.num_samples
        for rate in (0.0, 0.01, 0.05, 0.1, 1.0, 100.0):
            assert model.block_positions(rate) == expected.block_positions(rate)


# ---- errors ------------------------------------------------------------------------------------------------


def refused(
    error, match, *, vectors=None, outputs=None, counts=(3, 2), ids=(0, 1), rates=(0.1, 0.1), threads=1, **more
):
    """Nothing is written by what is refused."""
    tables = tables_of(2, 4)
    vectors, outputs = tables[0] if vectors is None else vectors, tables[1] if outputs is None else outputs
    before = [np.array(table) for table in (vectors, outputs)]
    with pytest.raises(error, match=match):
        _core.SkipGram(vectors, outputs, counts, **more).train(np.asarray(ids), 0, rates, threads)
    for table, values in zip((vectors, outputs), before, strict=True):
        np.testing.assert_array_equal(table, values)


INT32 = np.array([0, 1], np.int32)
ERRORS = {
    "window": (ValueError, "window = 0: expected 1 to 1024", dict(window=0)),
    "negative": (ValueError, "negative = 0: expected 1 to 1024", dict(negative=0)),
    "sample": (ValueError, "sample = -1: expected a finite number", dict(sample=-1.0)),
    "exponent": (ValueError, "ns_exponent = nan", dict(ns_exponent=float("nan"))),
    "loss": (ValueError, "loss = 'hinge': expected 'negative_sampling', 'nce' or", dict(loss="hinge")),
    "counts": (ValueError, r"counts\[1\] = 0: expected at least 1", dict(counts=(3, 0))),
    "words": (ValueError, "vectors has shape .2, 4.: expected .V, D. with V = 3", dict(counts=(3, 2, 1))),
    "outputs": (ValueError, "outputs has shape .2, 5.: expected that of vectors", dict(outputs=tables_of(2, 5)[0])),
    "float64": (TypeError, "vectors has dtype float64: expected float32", dict(vectors=np.zeros((2, 4)))),
    "list": (TypeError, "vectors is a list", dict(vectors=[[0.0] * 4] * 2)),
    "columns": (ValueError, "contiguous rows", dict(vectors=np.zeros((4, 2), np.float32).T)),
    "ids": (TypeError, "ids has dtype int64: expected int32", dict(ids=np.array([0, 1]))),
    "strided ids": (ValueError, "ids has a stride of 2", dict(ids=np.zeros(4, np.int32)[::2])),
    "large id": (ValueError, r"ids\[1\] = 2: expected a word in \[0, 2\)", dict(ids=np.array([0, 2], np.int32))),
    "negative id": (ValueError, r"ids\[0\] = -2", dict(ids=np.array([-2, 0], np.int32))),
    "rate": (ValueError, r"rates\[1\] = inf", dict(ids=INT32, rates=(0.1, float("inf")))),
    "threads": (ValueError, "threads = 0: expected 1 to 4096", dict(ids=INT32, threads=0)),
}


@pytest.mark.parametrize("error, match, arguments", ERRORS.values(), ids=ERRORS)
def test_errors_name_the_argument_and_nothing_is_written(error, match, arguments):
    refused(error, match, **arguments)


def test_a_rate_that_is_no_number_has_no_blocks():
    with pytest.raises(ValueError, match="rate = nan: expected a finite number"):
        _core.SkipGram(*tables_of(2, 4), (3, 2)).block_positions(float("nan"))


def test_a_read_only_table_is_refused():
    table = tables_of(2, 4)[0]
    table.flags.writeable = False
    refused(ValueError, "outputs is read-only", outputs=table)
