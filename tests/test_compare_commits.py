"""bench/compare_commits.py, but for times: its statistics, its calls, its verdict."""

from __future__ import annotations

import sys
from math import comb
from pathlib import Path

import numpy as np
import pytest

# In front: bench/gpu, which another test uses, has a report.py, too.
sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
sys.path.insert(0, str(Path(__file__).parents[1] / "bench" / "commits"))
sys.path.insert(0, str(Path(__file__).parents[1] / "bench" / "peers"))
import compare_commits

from bad_calls import error_texts
from comparison import SMALLEST, differing, shares
from intervals import FEWEST_ROUNDS, Interval, differences_us, interval_rank, median_interval, ratios
from matrix import cases, digest


def coverage(count, rank):
    """How probably the median lies between the rank-th lowest and the rank-th highest of so many values."""
    return 1 - 2 * sum(comb(count, below) for below in range(rank)) / 2**count


@pytest.mark.parametrize("count", [6, 7, 10, 29, 30, 31, 100])
def test_the_interval_is_the_narrowest_that_covers_the_median_in_95_percent(count):
    rank = interval_rank(count)
    assert coverage(count, rank) >= 0.95 > coverage(count, rank + 1)


def test_thirty_rounds_give_the_tenth_values_from_both_ends():
    values = np.random.default_rng(0).permutation(np.arange(1.0, 31.0))
    assert median_interval(values.tolist()) == Interval(15.5, 10.0, 21.0)


def test_too_few_rounds_are_refused():
    assert FEWEST_ROUNDS == 6
    with pytest.raises(ValueError, match="5 values: expected at least 6"):
        median_interval([1.0] * 5)


def test_rounds_are_compared_in_pairs():
    """A load that slows both builds of a round down leaves the ratio as it is."""
    load = np.array([1.0, 5.0, 1.0, 2.0, 9.0, 1.0])
    old, new = load, 1.5 * load
    assert ratios(old, new) == Interval(1.5, 1.5, 1.5)
    assert differences_us([1e-6] * 6, [3e-6] * 6) == pytest.approx((2.0, 2.0, 2.0))


@pytest.mark.parametrize("rounds", [6, 30, 31, 32])
def test_rounds_are_spread_over_all_starts(rounds):
    assert sum(shares(rounds)) == rounds
    assert max(shares(rounds)) - min(shares(rounds)) <= 1


def test_differences_are_changed_missing_and_new_values():
    old, new = {"same": 1, "changed": 2, "gone": 3}, {"new": 4, "changed": 5, "same": 1}
    assert list(differing(old, new)) == [("changed", 2, 5), ("gone", 3, None), ("new", None, 4)]


def test_every_bad_call_is_refused_for_its_own_reason():
    texts = error_texts()
    assert len(texts) >= 30
    for name, text in texts.items():
        kind, _, message = text.partition(": ")
        assert kind in ("ValueError", "TypeError"), f"{name}: {text}"
        assert "unexpected keyword argument" not in message


def test_every_case_has_a_name_of_its_own_and_computes_the_same_again():
    names = [name for name, _ in cases()]
    assert len(set(names)) == len(names)
    for wanted in ("float32, highest, given", "float16, high, hits removed, drawn", "bfloat16, mod shards", "sampler"):
        computed = [compute for name, compute in cases() if wanted in name]
        first, again = computed[0](), computed[0]()
        assert {key: digest(array) for key, array in first.items()} == {k: digest(a) for k, a in again.items()}


def test_a_digest_tells_apart_what_compares_equal():
    arrays = [np.zeros(4), -np.zeros(4), np.zeros(4, np.float32), np.zeros((2, 2)), np.zeros(5)]
    assert len({digest(array) for array in arrays}) == len(arrays)
    assert digest(np.arange(6)[::2]) == digest(np.array([0, 2, 4]))


def results(differences=(), **shapes):
    """As `main` has them, of rounds with these ratios."""
    commit = {"commit": 40 * "a", "title": "a title"}
    return {
        "date": "today",
        "machine": {"cpu": "a processor", "cores": 2},
        "threads": 2,
        "commits": {"old": commit, "new": commit},
        "results": {"arrays": 1000, "errors": 30, "differences": list(differences)},
        "shapes": {
            name.replace("_", " "): {
                "round_seconds": {"old": [1e-3] * 6, "new": [1e-3 * ratio] * 6},
                "ratio": ratios([1e-3] * 6, [1e-3 * ratio] * 6)._asdict(),
                "difference_us": differences_us([1e-3] * 6, [1e-3 * ratio] * 6)._asdict(),
                "other_load": 0.0,
            }
            for name, ratio in shapes.items()
        },
    }


@pytest.mark.parametrize(
    ("found", "passes"),
    [
        (results(), True),
        (results(w2v=1.029, lm=0.5), True),
        (results(w2v=1.031, lm=0.5), False),
        (results(differences=["error of nce_loss: 'a' was, 'b' is"], w2v=1.0), False),
        # 1 ms is the smallest call here: 0.9 and 1.1 us more.
        (results(smallest_call=1.0009), True),
        (results(smallest_call=1.0011), False),
    ],
)
def test_the_verdict(found, passes):
    assert SMALLEST == "smallest call"
    assert compare_commits.all_passed(found) == passes
    text = compare_commits.report(found)
    assert text.endswith("\nPassed." if passes else "\nFAILED.")
    for difference in found["results"]["differences"]:
        assert f"```text\n{difference}\n```" in text
    for name in found["shapes"]:
        assert f"| {name} | 1.00 |" in text


def test_the_upper_end_of_the_interval_counts_not_the_median():
    seconds = {"old": [1.0] * 6, "new": [1.0] * 5 + [1.5]}
    measured = {"ratio": ratios(seconds["old"], seconds["new"])._asdict()}
    assert measured["ratio"]["median"] == 1.0
    assert not compare_commits.passed("w2v", measured)


def test_options():
    options = compare_commits.parse_options(["HEAD~3", "HEAD"])
    assert (options.old, options.new, options.rounds) == ("HEAD~3", "HEAD", 30)
    assert options.shapes == ["w2v", "w2v_big", "sgns", "lm", "recsys", "multi", SMALLEST]
    assert compare_commits.parse_options(["a", "b", "--shapes", ""]).shapes == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--rounds", "5"], "needs at least 6 rounds"), (["--shapes", "w3v"], "unknown: ['w3v']")],
)
def test_bad_options_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        compare_commits.parse_options(["a", "b", *arguments])
    assert message in capsys.readouterr().err
