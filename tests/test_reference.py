"""The twin's random numbers and samplers: known answers, TensorFlow's numbers, properties of the formulas."""

from __future__ import annotations

import numpy as np
import pytest

from cases import golden_sampler_calls
from fastnce import reference
from tolerances import assert_counts_match

ALL_ONES = 2**32 - 1


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ALL_ONES,) * 4, (ALL_ONES,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        # The first two blocks of the stream of seed = 1, seed2 = 2.
        ((0, 0, 2, 0), (1, 0), "e73404cf 8cedc5d3 3f071736 0a0afddd"),
        ((1, 0, 2, 0), (1, 0), "b7b4c173 db04b052 44541f91 0e0b3cf3"),
    ],
)
def test_philox_known_answers(counter, key, expected):
    assert [f"{int(word.item()):08x}" for word in reference.philox4x32(counter, key)] == expected.split()


def test_philox_of_arrays_is_philox_of_each_element():
    words = reference.philox4x32((np.arange(5), 0, 2, 0), (1, 0))
    for i in range(5):
        assert [w[i] for w in words] == [w.item() for w in reference.philox4x32((i, 0, 2, 0), (1, 0))]


@pytest.mark.parametrize(
    ("seed", "pair"),
    [
        (0, (87654321, 0)),
        (2**31 - 1, (87654321, 0)),
        (-1, (87654321, 2**31 - 2)),
        ((1, 2), (1, 2)),
        ((-1, -5), (2**64 - 1, 2**64 - 5)),
        ((0, 7), (0, 7)),
    ],
)
def test_seed_pair(seed, pair):
    assert reference.seed_pair(seed) == pair


@pytest.mark.parametrize("seed", [None, (0, 0)])
def test_seed_pair_without_a_seed_is_fresh(seed):
    assert reference.seed_pair(seed) != reference.seed_pair(seed)


@pytest.mark.parametrize("num_sampled", [1, 257, 2**20 - 1, 2**21, 2**21 + 1, 2**22, 2**31 - 1])
@pytest.mark.parametrize("call", [0, 1, 5])
def test_calls_reserve_512_blocks_per_sample(num_sampled, call):
    assert reference.stream_start(3, call, num_sampled) == (3 << 64) + call * 512 * num_sampled


def test_calls_of_2_to_the_20_samples_step_back_as_in_tensorflow():
    """int32(2048 * 2**20) is -2**31: 536,870,911 blocks back, and the carry past word 1 is lost."""
    blocks_back = (2**31 - 3) // 4
    assert reference.stream_start(3, 1, 2**20) == (3 << 64) + 2**64 - blocks_back
    # Once more, and word 0 carries: that wraps the upper half of the count to 0, and word 1 stays.
    assert reference.stream_start(3, 2, 2**20) == (3 << 64) + 2**64 - 2 * blocks_back


@pytest.mark.parametrize("blocks", [1, 2**32 - 1, 2**32, 2**63])
@pytest.mark.parametrize("counter", [0, 2**32 - 1, 2**64 - 1, 2**128 - 1])
def test_skip_is_addition_where_no_carry_is_lost(counter, blocks):
    assert reference.skip(counter, blocks) == (counter + blocks) % 2**128


def test_draws_cross_the_carry_into_the_upper_counter_half():
    # Call 2**55 of a 1-sample stream starts at block 2**64: the draws of (seed2 + 1), call 0.
    np.testing.assert_array_equal(
        reference.log_uniform_draws(1, 2, 2**55, 1, 50_000, 9),
        reference.log_uniform_draws(1, 3, 0, 1, 50_000, 9),
    )


@pytest.mark.parametrize("unique", [True, False])
def test_golden_samples_of_the_specification(unique):
    ids = [[14, 119, 23, 15, 29976, 7873, 369, 738], [17, 91, 9, 112, 320, 5, 1952, 3]]
    for call, expected in enumerate(ids):
        values = reference.log_uniform_candidate_sampler([[0], [7]], 1, 8, unique, 50_000, (1, 2), call)
        np.testing.assert_array_equal(values.sampled_candidates, expected)
        assert_counts_match(
            values.true_expected_count, np.array([[0.5125028491020203], [0.08708705008029938]], np.float32)
        )
        if call == 0:
            first_three = np.array([0.0477188341319561, 0.006136012729257345, 0.030183183029294014], np.float32)
            assert_counts_match(values.sampled_expected_count[:3], first_three)


@pytest.mark.parametrize(("kind", "calls"), [("log_uniform", 432), ("uniform", 432), ("fixed_unigram", 36)])
def test_samples_are_tensorflows(kind, calls):
    sampler = getattr(reference, f"{kind}_candidate_sampler")
    assert len(list(golden_sampler_calls(kind))) == calls
    for golden in golden_sampler_calls(kind):
        assert_golden(sampler(golden.true_classes, **golden.arguments, call=golden.call), golden)


def test_samples_of_a_learned_unigram_are_tensorflows():
    for golden in golden_sampler_calls("learned_unigram"):
        arguments = {k: v for k, v in golden.arguments.items() if k != "range_max"}
        if golden.call == 0:
            weights = np.ones(golden.arguments["range_max"], np.int32)
        values = reference.learned_unigram_candidate_sampler(
            golden.true_classes, **arguments, weights=weights, call=golden.call
        )
        assert_golden(values, golden)


def assert_golden(values, golden):
    np.testing.assert_array_equal(values.sampled_candidates, golden.expected.sampled_candidates, str(golden))
    assert_counts_match(values.true_expected_count, golden.expected.true_expected_count)
    assert_counts_match(values.sampled_expected_count, golden.expected.sampled_expected_count)


@pytest.mark.parametrize("range_max", [1, 2, 1000, 1_000_003])
def test_probabilities_sum_to_one_and_fall(range_max):
    p = reference.log_uniform_probability(np.arange(range_max), range_max)
    assert p.sum(dtype=np.float64) == pytest.approx(1.0, abs=1e-6)
    assert (np.diff(p) <= 0).all()


def test_expected_count_is_the_probability_of_being_drawn_when_draws_were_rejected():
    p = np.array([0.0, 1e-12, 0.25, 1.0], np.float32)
    np.testing.assert_allclose(reference.expected_count(p, 2, 3), [0.0, 3e-12, 1 - 0.75**3, 1.0], rtol=1e-7)


def test_expected_count_may_exceed_one_when_no_draw_was_rejected():
    # As in TensorFlow, even though unique samples hold a class once at most.
    p = reference.log_uniform_probability([0], 2)
    assert reference.expected_count(p, 2, 2).item() == pytest.approx(1.2618595)


def test_div_gives_the_first_shards_one_row_more_and_mod_deals_rows_out():
    table = np.arange(13.0)
    div = [table[0:3], table[3:6], table[6:9], table[9:11], table[11:13]]
    mod = [table[i::5] for i in range(5)]
    ids = [12, 0, 3, 8, 9, 9]
    np.testing.assert_array_equal(reference.gather(table, ids, "div"), ids)
    np.testing.assert_array_equal(reference.gather(div, ids, "div"), ids)
    np.testing.assert_array_equal(reference.gather(tuple(mod), ids, "mod"), ids)


def test_every_duplicate_of_an_accidental_hit_is_found():
    rows, positions, weights = reference.compute_accidental_hits([[1, 2], [5, 1]], [1, 5, 1], 2)
    np.testing.assert_array_equal(rows, [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(positions, [0, 2, 1, 0, 2])
    np.testing.assert_array_equal(weights, np.full(5, -np.finfo(np.float32).max))
