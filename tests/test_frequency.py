"""The streaming estimator of item frequencies."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from fastnce import FrequencyEstimator


def by_loop(batches, rate):
    """Intervals and log_q of the last batch, one example after the other."""
    last, interval, n, log_q = {}, {}, 0, []
    for ids in batches:
        for item in ids:
            if item in last:
                interval[item] += rate * (n - last[item] - interval[item])
            else:
                interval[item] = n + 1
            last[item] = n
            n += 1
        log_q = [np.log(len(ids) / interval[item]) for item in ids]
    return interval, np.array(log_q)


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_a_batch_is_learned_as_if_one_example_came_after_the_other(rate):
    rng = np.random.default_rng(0)
    batches = [rng.zipf(1.5, size) % 97 for size in (1, 50, 3, 400, 128)]
    estimator = FrequencyEstimator(97, rate=rate)
    for ids in batches:
        log_q = estimator(ids)
    interval, expected = by_loop([ids.tolist() for ids in batches], rate)
    assert log_q.dtype == np.float32
    np.testing.assert_allclose(log_q, expected, rtol=0, atol=1e-5)
    for item, own in interval.items():
        np.testing.assert_allclose(estimator.state.interval[0, item], own, rtol=1e-12)


def test_it_finds_the_frequencies_of_a_stream_and_their_change():
    rng = np.random.default_rng(1)
    p = 1 / np.arange(1, 201)
    p /= p.sum()
    estimator = FrequencyEstimator(200)
    common = np.arange(20)
    for frequencies in (p, p[::-1]):
        for _ in range(400):
            estimator(rng.choice(200, 512, p=frequencies))
        items = common if frequencies is p else 199 - common
        error = np.abs(estimator.log_q(items, 512) - np.log(512 * frequencies[items]))
        assert error.max() < 5 * np.sqrt(0.01 / 2), "five standard deviations"


def test_items_that_share_a_bucket_count_together_unless_there_are_other_hashes():
    rng = np.random.default_rng(2)
    batches = [np.append(rng.integers(0, 1000, 255), 7 + 1000) for _ in range(300)]
    truth = np.log(256 / 256)  # item 1007 is the last of each batch
    one, several = (FrequencyEstimator(1000, num_hashes=count, rate=0.05) for count in (1, 4))
    for ids in batches:
        one(ids), several(ids)
    assert one.log_q([1007], 256)[0] > truth + 0.1
    assert abs(several.log_q([1007], 256)[0] - truth) < 0.1


def test_an_item_that_has_not_occurred_counts_as_the_next_example():
    estimator = FrequencyEstimator(10)
    assert estimator.log_q([3], 8)[0] == pytest.approx(np.log(8))
    estimator(np.zeros(7, int))
    assert estimator.log_q([3], 8)[0] == pytest.approx(0, abs=1e-6)


def test_asking_learns_nothing():
    estimator = FrequencyEstimator(10)
    estimator([1, 2, 1])
    before = estimator.state
    estimator.log_q([1, 5], 3)
    np.testing.assert_equal(estimator.state, before)


def test_ids_may_be_any_integers():
    ids = np.array([-(2**63), -1, 2**63 - 1, -1])
    estimator = FrequencyEstimator(5, num_hashes=3)
    assert np.isfinite(estimator(ids)).all()
    assert estimator(np.array([2**64 - 1], np.uint64)).shape == (1,)
    assert estimator([]).shape == (0,)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_learn_on_their_own(again):
    estimator = FrequencyEstimator(10, num_hashes=2, rate=0.5)
    estimator([1, 2, 1])
    other = again(estimator)
    np.testing.assert_equal(other.state, estimator.state)
    assert repr(other) == repr(estimator) == "FrequencyEstimator(num_buckets=10, num_hashes=2, rate=0.5)"
    other([4])
    assert estimator.state.examples == 3 and other.state.examples == 4
    assert estimator.state.last[0, 4] == -1


def test_the_state_restores_it():
    estimator, other = FrequencyEstimator(10), FrequencyEstimator(10)
    estimator([1, 2, 1])
    other.state = estimator.state
    np.testing.assert_array_equal(other([2, 3]), estimator([2, 3]))
    np.testing.assert_equal(other.state, estimator.state)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: FrequencyEstimator(0), ValueError, "num_buckets = 0: expected at least 1"),
        (lambda: FrequencyEstimator(5, num_hashes=0), ValueError, "num_hashes = 0"),
        (lambda: FrequencyEstimator(5, rate=0), ValueError, "rate = 0"),
        (lambda: FrequencyEstimator(5.0), TypeError, "float"),
        (lambda: FrequencyEstimator(5).log_q([1], 0), ValueError, "batch_size = 0: expected at least 1"),
        (lambda: FrequencyEstimator(5)([1.0]), TypeError, "item_ids has dtype float64: expected integers"),
        (lambda: FrequencyEstimator(5)([[1]]), ValueError, r"item_ids has shape \[1, 1\]: expected \[B\]"),
        (lambda: setattr(FrequencyEstimator(5), "state", 3), ValueError, "state is an int"),
        (lambda: setattr(FrequencyEstimator(1), "state", (-1, [[-1]], [[0]])), ValueError, "state.examples = -1"),
        (lambda: setattr(FrequencyEstimator(1), "state", (2, [[2]], [[1]])), ValueError, "state.last: .* -1 to 1"),
        (lambda: setattr(FrequencyEstimator(1), "state", (2, [[1]], [[np.nan]])), ValueError, "state.interval: "),
        (lambda: setattr(FrequencyEstimator(1), "state", (2, [[1]], [[0]])), ValueError, "positive where an example"),
        (
            lambda: setattr(FrequencyEstimator(5), "state", FrequencyEstimator(6).state),
            ValueError,
            r"state.last has shape \[1, 6\]: expected \[num_hashes, num_buckets\] = \[1, 5\]",
        ),
    ],
)
def test_it_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_signal_handler_may_ask_but_not_teach():
    """A handler runs on the thread of the call that it interrupts, within whatever that holds."""
    estimator = FrequencyEstimator(10)
    seen = []

    class Interrupted(FrequencyEstimator):
        def _learn_row(self, *arguments):
            seen.append(self.log_q([1], 1))
            with pytest.raises(RuntimeError, match="is learning: expected no other batch"):
                self([2])
            with pytest.raises(RuntimeError, match="is learning: expected no change of its state"):
                self.state = estimator.state
            return super()._learn_row(*arguments)

    interrupted = Interrupted(10)
    np.testing.assert_array_equal(interrupted([1, 2, 1]), estimator([1, 2, 1]))
    assert len(seen) == 1
    np.testing.assert_array_equal(interrupted.state.last, estimator.state.last)


def test_an_interrupted_batch_is_not_learned():
    class Interrupted(FrequencyEstimator):
        rows = 0

        def _learn_row(self, *arguments):
            self.rows += 1
            if self.rows == 2:
                raise KeyboardInterrupt
            return super()._learn_row(*arguments)

    estimator = Interrupted(10, num_hashes=3)
    with pytest.raises(KeyboardInterrupt):
        estimator([1, 2])
    assert estimator.state.examples == 0
    assert (estimator.state.last == -1).all()
    estimator([3])
