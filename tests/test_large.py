"""Tables larger than the memory of the machine: `make test-large`, some minutes and 5 GB of memory."""

from __future__ import annotations

import contextlib
import os
import resource

import numpy as np
import pytest

import fastnce
from fastnce import reference
from fastnce.reference._distributions import uniform_integer, word_stream

pytestmark = pytest.mark.skipif(
    not os.environ.get("FASTNCE_TEST_LARGE"), reason="takes minutes and 5 GB: make test-large"
)

DIM = 64
CLASSES = 40 * 10**9 // (4 * DIM)
"""Of a file of 40 GB. It is sparse: on disk are the pages of the rows that are not zero."""

SET = np.array([0, 5, 2**20, 2**24 + 1, 2**25 - 1, 2**25, 2**26 + 3, CLASSES // 2, CLASSES - 2, CLASSES - 1])
"""Classes whose rows are set. Row 2^25 begins at element 2^31."""

OWN = [1, 4, 7, 9]
"""Of ``SET``: the labels of four examples."""

ABOVE_THE_TABLE = 1 << 29
"""Bytes that a call may allocate. Read-only maps of files are not counted."""


@contextlib.contextmanager
def little_memory():
    """Allocations beyond ``ABOVE_THE_TABLE`` fail."""
    with open("/proc/self/status") as status:
        used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + ABOVE_THE_TABLE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


class Scores:
    """Tables of zeros but for some rows, and what follows of all V scores in float64."""

    def __init__(self, directory):
        rng = np.random.default_rng(3)
        self.rows = rng.standard_normal((len(SET), DIM), np.float32)
        self.offsets = rng.standard_normal(len(SET), np.float32)
        self.inputs = rng.standard_normal((4, DIM), np.float32) / 4
        for name, shape, values in [("w", (CLASSES, DIM), self.rows), ("c", (CLASSES,), self.offsets)]:
            written = np.memmap(directory / name, np.float32, "w+", shape=shape)
            written[SET] = values
            written.flush()
        self.weights = np.memmap(directory / "w", np.float32, "r", shape=(CLASSES, DIM))
        self.biases = np.memmap(directory / "c", np.float32, "r", shape=(CLASSES,))
        self.scores = self.inputs.astype(np.float64) @ self.rows.T.astype(np.float64) + self.offsets
        """Of the classes of ``SET``; all others have 0."""

    def sum_over_classes(self, term):
        """Of terms of scores, per example."""
        return term(self.scores).sum(axis=1) + (CLASSES - len(SET)) * term(0.0)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    directory = tmp_path_factory.mktemp("large")
    yield Scores(directory)
    for name in "wc":
        (directory / name).unlink()


def test_the_table_is_larger_than_memory(table):
    assert table.weights.nbytes > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "enlarge CLASSES"


def test_the_best_classes_of_a_table_larger_than_memory(table):
    k = 16
    with little_memory():
        scores, ids = fastnce.top_k(table.weights, table.biases, table.inputs, k)
    zeros = np.setdiff1d(np.arange(k + len(SET)), SET)  # ties by ascending id
    for b, known in enumerate(table.scores):
        above = np.flatnonzero(known > 0)
        best = above[np.argsort(-known[above])]
        np.testing.assert_array_equal(ids[b], np.concatenate([SET[best], zeros[: k - len(best)]]))
        np.testing.assert_allclose(scores[b], np.append(known[best], np.zeros(k - len(best))), rtol=1e-5, atol=1e-6)


def test_ranks_in_a_table_larger_than_memory(table):
    labels = np.stack([SET[OWN], SET[OWN] - 3], axis=1)  # one with a row of its own, one among the ties
    with little_memory():
        ranks = fastnce.rank_of_labels(table.weights, table.biases, labels, table.inputs)
    ties = CLASSES - len(SET)
    for b, known in enumerate(table.scores):
        of_label = known[OWN[b]]
        assert ranks[b, 0] == 1 + np.sum(known > of_label) + (ties if of_label < 0 else 0)
        assert ranks[b, 1] == 1 + np.sum(known > 0) + (ties - 1) / 2


@pytest.mark.parametrize("name", ["softmax_loss", "sigmoid_loss"])
def test_exact_losses_over_a_table_larger_than_memory(table, name):
    of_label = table.scores[np.arange(4), OWN]
    if name == "softmax_loss":
        expected = np.log(table.sum_over_classes(np.exp)) - of_label
    else:
        expected = table.sum_over_classes(lambda v: np.logaddexp(0.0, v)) - of_label
    with little_memory():
        loss = getattr(fastnce, name)(table.weights, table.biases, SET[OWN], table.inputs)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_a_sampled_loss_and_its_rows_of_a_table_larger_than_memory(table):
    sampled = [0, 2, 3, 5, 6, 8]  # of SET
    with little_memory():
        loss, grads = fastnce.sampled_softmax_loss_and_grad(
            table.weights, table.biases, SET[OWN], table.inputs, len(sampled), CLASSES,
            sampled_values=(SET[sampled], None, None),
        )  # fmt: skip
    scores, of_label = table.scores[:, sampled], table.scores[np.arange(4), OWN]
    expected = np.logaddexp(of_label, np.logaddexp.reduce(scores, axis=1)) - of_label
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_array_equal(grads.rows.ids, SET)


def test_a_learned_sampler_of_more_than_2_to_the_30_classes():
    """Where TensorFlow hangs. All weights are 1 but one, so that draws tell their integers."""
    range_max, learned, extra = 2**30 + 7, 2**29 + 1, 2**22
    sampler = fastnce.LearnedUnigramSampler(range_max, 5000, unique=False, seed=(1, 2))
    ids = sampler(np.full(extra, learned)).sampled_candidates
    uniform = reference.candidates(UniformIntegers(range_max), [[0]], 1, 5000, False, (1, 2), 0)
    np.testing.assert_array_equal(ids, uniform.sampled_candidates)
    values = sampler([learned, range_max - 1])
    integers = reference.candidates(UniformIntegers(range_max + extra), [[0]], 1, 5000, False, (1, 2), 1)
    r = integers.sampled_candidates
    expected = np.where(r < learned, r, np.where(r <= learned + extra, learned, r - extra))
    np.testing.assert_array_equal(values.sampled_candidates, expected)
    np.testing.assert_allclose(
        values.true_expected_count[:, 0], 5000 * np.array([extra + 1, 1]) / (range_max + extra), rtol=1e-6
    )


class UniformIntegers:
    """Of 32 bits, as a distribution of the twin."""

    def __init__(self, n):
        self.n = n

    def draws(self, seed, seed2, call, num_sampled):
        words = word_stream(seed, seed2, call, num_sampled)
        while True:
            yield uniform_integer(words, self.n, 32)

    def probability(self, ids):
        return np.zeros(np.shape(ids), np.float32)
