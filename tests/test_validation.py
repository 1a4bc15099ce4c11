"""Bad input raises the right exception, naming argument, expectation and value, and changes nothing."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import fastnce
from cases import Case

PROBLEM = Case(batch=4, dim=5, sampled=10, num_true=2).problem()  # V = 13
WEIGHTS, BIASES, LABELS, INPUTS = PROBLEM.weights, PROBLEM.biases, PROBLEM.labels, PROBLEM.inputs
IDS, TRUE_COUNT, SAMPLED_COUNT = PROBLEM.sampled_values


def with_label(row, column, label):
    labels = LABELS.astype(type(label) if isinstance(label, np.generic) else np.int64)
    labels[row, column] = label
    return {"labels": labels}


def values(ids=IDS, true_count=TRUE_COUNT, sampled_count=SAMPLED_COUNT):
    return {"sampled_values": (ids, true_count, sampled_count)}


def with_count(counts, position, value):
    counts = counts.copy()
    counts[position] = value
    return counts


def drawn(num_sampled):
    return {"sampled_values": None, "num_sampled": num_sampled}


# (what is wrong, changed arguments, exception, parts of its message)
LOSS_ERRORS = [
    # rank
    ("inputs-vector", {"inputs": INPUTS.ravel()}, ValueError, ["inputs", "[20]", "[B, D]"]),
    (
        "inputs-cube",
        {"inputs": INPUTS.reshape(2, 2, 5)},
        ValueError,
        ["labels", "[4, 2]", "expected [2, 2, 2]", "inputs has shape [2, 2, 5]"],
    ),
    ("weights-vector", {"weights": WEIGHTS[:, 0]}, ValueError, ["weights", "[13]", "[V, D]"]),
    ("weights-cube", {"weights": WEIGHTS[None]}, ValueError, ["weights", "[1, 13, 5]", "[V, D]"]),
    ("biases-matrix", {"biases": BIASES[:, None]}, ValueError, ["biases", "[13, 1]", "[V]"]),
    ("labels-cube", {"labels": LABELS[:, :, None]}, ValueError, ["labels", "[4, 2, 1]", "[B, num_true]", "reshape"]),
    ("labels-vector-T2", {"labels": LABELS[:, 0]}, ValueError, ["labels", "[4]", "[B, num_true]"]),
    ("labels-number", {"labels": 3}, ValueError, ["labels", "[]", "[B, num_true]", "labels.reshape(1, -1)"]),
    ("ids-rank-3", values(ids=IDS[None, None]), ValueError, ["sampled_candidates", "[1, 1, 10]", "[S], or [G, S]"]),
    ("S-of-groups", {"num_sampled": 9, **values(ids=IDS[None])}, ValueError, ["[1, 10]", "[9], or [G, num_sampled]"]),
    # sizes that contradict each other
    ("B-of-labels", {"labels": LABELS[:3]}, ValueError, ["labels", "[3, 2]", "[4, 2]"]),
    ("T-of-labels", {"num_true": 3}, ValueError, ["labels", "[4, 2]", "[4, 3]"]),
    ("D-of-weights", {"weights": WEIGHTS[:, :4]}, ValueError, ["weights", "[13, 4]", "D = 5"]),
    ("V-of-weights", {"num_classes": 14}, ValueError, ["weights", "13", "num_classes = 14"]),
    ("V-of-biases", {"biases": BIASES[:12]}, ValueError, ["biases", "12", "num_classes = 13"]),
    ("S-of-ids", {"num_sampled": 9}, ValueError, ["sampled_candidates", "[10]", "num_sampled", "9"]),
    ("B-of-grad_loss", {"grad_loss": np.ones(3)}, ValueError, ["grad_loss", "[3]", "[4]"]),
    ("grad_loss-matrix", {"grad_loss": np.ones((4, 1))}, ValueError, ["grad_loss", "[4, 1]", "[4]"]),
    # classes out of range
    ("label-V", with_label(3, 1, 13), ValueError, ["labels[3, 1] = 13 is outside [0, num_classes = 13)"]),
    (
        "label-negative",
        with_label(2, 0, -1),
        ValueError,
        ["labels[2, 0] = -1 is outside [0, num_classes = 13)"],
    ),
    ("label-2-to-the-32", with_label(0, 0, 2**32), ValueError, ["labels[0, 0] = 4294967296"]),
    ("label-2-to-the-63", with_label(0, 0, np.uint64(2**63)), ValueError, ["labels", "9223372036854775808"]),
    ("label-beyond-fewer-classes", {"num_classes": 1}, ValueError, ["labels[", "num_classes = 1)"]),
    (
        "id-V",
        values(ids=np.where(np.arange(10) == 2, 13, IDS)),
        ValueError,
        ["sampled_candidates[2] = 13", "13)"],
    ),
    (
        "id-negative",
        values(ids=np.where(np.arange(10) == 9, -3, IDS)),
        ValueError,
        ["sampled_candidates[9] = -3"],
    ),
    # how many to sample
    ("S-above-V", drawn(14), ValueError, ["num_sampled = 14", "13"]),
    ("S-zero", drawn(0), ValueError, ["num_sampled = 0", "1"]),
    ("S-negative", drawn(-1), ValueError, ["num_sampled = -1", "1"]),
    ("S-absurd", drawn(2**40), ValueError, ["num_sampled = 1099511627776"]),
    ("S-beyond-64-bits", drawn(2**64), ValueError, ["num_sampled = 18446744073709551616", "2^63"]),
    ("V-zero", {"num_classes": 0}, ValueError, ["num_classes", "1"]),
    ("T-negative", {"num_true": -1}, ValueError, ["num_true", "-1"]),
    ("S-float", {"num_sampled": 10.0}, TypeError, ["num_sampled", "float", "integer"]),
    ("V-string", {"num_classes": "13"}, TypeError, ["num_classes", "str", "integer"]),
    ("T-bool", {"num_true": True}, TypeError, ["num_true", "bool", "integer"]),
    # sampled_values
    ("two-values", {"sampled_values": (IDS, TRUE_COUNT)}, ValueError, ["sampled_values", "2", "three"]),
    ("four-values", {"sampled_values": (IDS, 1.0, 1.0, 1.0)}, ValueError, ["sampled_values", "4", "three"]),
    ("bare-ids", {"sampled_values": IDS}, ValueError, ["sampled_values", "three"]),
    ("a-number", {"sampled_values": 7}, ValueError, ["sampled_values is an int", "three"]),
    (
        "true-count-T3",
        values(true_count=np.ones((4, 3))),
        ValueError,
        ["true_expected_count", "[4, 3]", "[4, 2]"],
    ),
    ("true-count-B", values(true_count=np.ones(4)), ValueError, ["true_expected_count", "[4]", "[4, 2]"]),
    # TensorFlow would stretch [T] over the batch, and so a [B] meant per example wherever B == T.
    ("true-count-T", values(true_count=np.ones(2)), ValueError, ["true_expected_count", "[2]", "[4, 2]"]),
    (
        "sampled-count-9",
        values(sampled_count=np.ones(9)),
        ValueError,
        ["sampled_expected_count", "[9]", "[10]"],
    ),
    # expected counts, whose logarithms are subtracted
    (
        "true-count-zero",
        values(true_count=with_count(TRUE_COUNT, (3, 1), 0)),
        ValueError,
        ["true_expected_count[3, 1] = 0:"],
    ),
    ("true-count-below", values(true_count=-1.0), ValueError, ["true_expected_count[0, 0] = -1:", "positive"]),
    (
        "true-count-nan",
        values(true_count=with_count(TRUE_COUNT, (2, 0), np.nan)),
        ValueError,
        ["true_expected_count[2, 0] = nan:"],
    ),
    ("true-count-minus-inf", values(true_count=-np.inf), ValueError, ["true_expected_count[0, 0] = -inf:"]),
    (
        "sampled-count-zero",
        values(sampled_count=with_count(SAMPLED_COUNT, 9, 0)),
        ValueError,
        ["sampled_expected_count[9] = 0:"],
    ),
    (
        "sampled-count-below",
        values(sampled_count=with_count(SAMPLED_COUNT, 4, -0.5)),
        ValueError,
        ["sampled_expected_count[4] = -0.5:"],
    ),
    (
        "sampled-count-nan",
        values(sampled_count=with_count(SAMPLED_COUNT, 0, np.nan)),
        ValueError,
        ["sampled_expected_count[0] = nan:"],
    ),
    ("true-count-inf", values(true_count=np.inf), ValueError, ["true_expected_count[0, 0] = inf:", "finite"]),
    ("sampled-count-inf", values(sampled_count=np.inf), ValueError, ["sampled_expected_count[0] = inf:", "finite"]),
    # float64 counts beside float32 tables
    ("count-overflows", values(sampled_count=1e300), ValueError, ["sampled_expected_count[0] = inf:", "float32"]),
    ("count-underflows", values(true_count=1e-300), ValueError, ["true_expected_count[0, 0] = 0:", "float32"]),
    # dtypes
    ("inputs-longdouble", {"inputs": INPUTS.astype("g")}, TypeError, ["inputs", "float128", "float32"]),
    ("inputs-int", {"inputs": INPUTS.astype(int)}, TypeError, ["inputs", "int64", "float32"]),
    ("labels-masked", {"labels": np.ma.array(LABELS, mask=True)}, TypeError, ["labels", "mask"]),
    ("weights-masked", {"weights": np.ma.array(WEIGHTS, mask=True)}, TypeError, ["weights", "mask"]),
    ("labels-of-nothing", {"labels": np.zeros(4, dtype=[])}, TypeError, ["labels", "number"]),
    ("ids-of-nothing", values(ids=np.empty(10, "V0")), TypeError, ["sampled_candidates", "number"]),
    ("labels-strings", {"labels": LABELS.astype("U")}, TypeError, ["labels", "<U"]),
    ("shard-dtype", {"weights": [WEIGHTS[:7], WEIGHTS[7:].astype("f8")]}, TypeError, ["weights[1]", "float64"]),
    ("shard-rank", {"biases": [BIASES[:7], BIASES[7:, None]]}, ValueError, ["biases[1]", "[6, 1]", "[V]"]),
    ("hits-string", {"remove_accidental_hits": "False"}, TypeError, ["remove_accidental_hits", "str", "bool"]),
    ("V-array", {"num_classes": np.array([13])}, TypeError, ["num_classes is a numpy.ndarray", "integer"]),
    ("precision-array", {"precision": np.array(["high", "low"])}, TypeError, ["precision", "highest"]),
    ("inputs-complex", {"inputs": INPUTS.astype("c8")}, TypeError, ["inputs", "complex64"]),
    ("inputs-object", {"inputs": INPUTS.astype(object)}, TypeError, ["inputs", "object"]),
    ("inputs-list", {"inputs": INPUTS.tolist()}, TypeError, ["inputs", "list"]),
    ("inputs-None", {"inputs": None}, TypeError, ["inputs is None"]),
    ("weights-uint8", {"weights": WEIGHTS.astype("u1")}, TypeError, ["weights", "uint8", "float32", "bfloat16"]),
    ("shard-half", {"weights": [WEIGHTS[:7], WEIGHTS[7:].astype("f2")]}, TypeError, ["weights[1]", "float16"]),
    ("half-beside-double", {"inputs": INPUTS.astype("f8"), "weights": WEIGHTS.astype("f2")}, TypeError, ["float16"]),
    ("weights-strings", {"weights": WEIGHTS.astype("U")}, TypeError, ["weights", "<U"]),
    ("biases-string", {"biases": "none"}, TypeError, ["biases is a str"]),
    (
        "mixed-weights",
        {"weights": WEIGHTS.astype("f8")},
        TypeError,
        ["weights", "float64", "inputs", "float32", "astype('float32')"],
    ),
    ("mixed-biases", {"biases": BIASES.astype("f8")}, TypeError, ["biases", "float64", "inputs", "float32"]),
    (
        "mixed-inputs",
        {"inputs": INPUTS.astype("f8")},
        TypeError,
        ["weights", "float32", "inputs", "float64", "astype('float32')"],
    ),
    ("mixed-shard", {"weights": [WEIGHTS[:7], WEIGHTS[7:].astype("f8")]}, TypeError, ["weights", "float64"]),
    ("labels-float", {"labels": LABELS.astype(float)}, TypeError, ["labels", "float64", "integer"]),
    ("labels-bool", {"labels": LABELS > 3}, TypeError, ["labels", "bool", "integer"]),
    ("labels-strings", {"labels": LABELS.astype("U")}, TypeError, ["labels", "<U"]),
    ("labels-ragged", {"labels": [[1, 2], [3], [4, 5], [6, 7]]}, ValueError, ["labels"]),
    ("ids-float", values(ids=IDS.astype(float)), TypeError, ["sampled_candidates", "float64", "integer"]),
    ("count-complex", values(true_count=1j), TypeError, ["true_expected_count", "complex128"]),
    ("count-string", values(sampled_count="many"), TypeError, ["sampled_expected_count", "<U"]),
    ("grad_loss-string", {"grad_loss": ["1"] * 4}, TypeError, ["grad_loss", "<U"]),
    # memory layout: weights are used in place, or refused
    ("weights-swapped", {"weights": WEIGHTS.astype(">f4")}, TypeError, ["weights", ">f4", "byte"]),
    ("inputs-swapped", {"inputs": INPUTS.astype(">f4")}, TypeError, ["inputs", ">f4", "byte"]),
    ("labels-swapped", {"labels": LABELS.astype(">i8")}, TypeError, ["labels", ">i8", "byte"]),
    (
        "weights-mirrored",
        {"weights": WEIGHTS[:, ::-1]},
        ValueError,
        ["weights", "stride", "-1", "inner stride of 1"],
    ),
    ("weights-spread", {"weights": np.repeat(WEIGHTS, 2, 1)[:, ::2]}, ValueError, ["weights", "stride", "2"]),
    ("weights-columns", {"weights": np.asfortranarray(WEIGHTS)}, ValueError, ["weights", "stride", "13"]),
    # shards
    ("no-shards", {"weights": []}, ValueError, ["weights", "at least one"]),
    ("div-shards", {"weights": [WEIGHTS[:6], WEIGHTS[6:]]}, ValueError, ["weights[0]", "6 rows", "7", "div"]),
    ("div-biases", {"biases": [BIASES[:12], BIASES[12:]]}, ValueError, ["biases[0]", "12 rows", "7", "div"]),
    (
        "mod-shards",
        {"weights": [WEIGHTS[1::2], WEIGHTS[::2]], "partition_strategy": "mod"},
        ValueError,
        ["weights[0]", "6 rows", "7", "mod"],
    ),
    ("shards-too-few", {"weights": [WEIGHTS[:7], WEIGHTS[:5]]}, ValueError, ["weights", "12 rows", "13"]),
    # options
    ("strategy", {"partition_strategy": "foo"}, ValueError, ["partition_strategy", "foo", "div", "mod"]),
    ("strategy-type", {"partition_strategy": 1}, TypeError, ["partition_strategy"]),
    ("precision", {"precision": "exact"}, ValueError, ["precision", "exact", "highest", "high", "medium"]),
    ("seed-float", {**drawn(3), "seed": 1.5}, TypeError, ["seed", "float", "integer"]),
    ("seed-string", {**drawn(3), "seed": "1"}, TypeError, ["seed", "str", "integer"]),
    ("seed-bool", {**drawn(3), "seed": True}, TypeError, ["seed", "bool", "integer"]),
    ("seed-triple", {**drawn(3), "seed": (1, 2, 3)}, ValueError, ["seed", "3", "(seed, seed2)"]),
    ("seed-pair-of-strings", {**drawn(3), "seed": ("1", "2")}, TypeError, ["seed", "str", "integer"]),
    (
        "seed-of-65-bits",
        {**drawn(3), "seed": (1, 2**64)},
        ValueError,
        ["seed", "18446744073709551616", "64-bit"],
    ),
]


def parametrize_errors(errors):
    return pytest.mark.parametrize(("changes", "error", "parts"), [e[1:] for e in errors], ids=[e[0] for e in errors])


def assert_raises(error, parts, function, arguments):
    """... without a change to any argument."""
    before = copy.deepcopy(arguments)
    with pytest.raises(error) as caught:
        function(**arguments)
    assert type(caught.value) is error
    for part in parts:
        assert part in str(caught.value)
    np.testing.assert_equal(arguments, before)


def unaligned(array):
    """A copy that starts one byte off."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    memory[1:] = array.ravel().view(np.uint8)
    return memory[1:].view(array.dtype).reshape(array.shape)


def field_of_a_record(array):
    """A copy in a packed structure, whose stride is no multiple of the item size."""
    records = np.zeros(array.shape, [("flag", "u1"), ("value", array.dtype)])
    records["value"] = array
    return records["value"]


@pytest.mark.parametrize("relaid", [unaligned, field_of_a_record])
def test_small_arguments_of_awkward_layout_are_copied(relaid):
    changes = {"labels": relaid(LABELS), **values(relaid(IDS), relaid(TRUE_COUNT), relaid(SAMPLED_COUNT))}
    np.testing.assert_equal(PROBLEM.solve(**changes), PROBLEM.solve())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "relaid", [np.asfortranarray, lambda x: x[:, ::-1], lambda x: x[::-1, ::2]], ids=["columns", "mirrored", "spread"]
)
def test_inputs_of_any_layout_are_copied(relaid, dtype):
    """Activations are small; tables, which are not, must have contiguous rows."""
    problem = Case(batch=4, dim=8, dtype="float64" if dtype == "float64" else "float32").problem()
    inputs = relaid(problem.inputs.astype(dtype))
    weights = problem.weights[:, : inputs.shape[1]]
    before = inputs.copy()
    laid_out = problem.solve(inputs=inputs, weights=weights)
    np.testing.assert_equal(laid_out, problem.solve(inputs=np.ascontiguousarray(inputs), weights=weights))
    np.testing.assert_array_equal(inputs, before)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_the_count_of_a_sample_is_not_read_where_all_examples_remove_it(value):
    problem = Case(batch=4, dim=5, sampled=10, num_true=2, remove_hits=True).problem()
    ids, true_count, sampled_count = problem.sampled_values
    problem.labels[:, 1] = ids[3]  # the arrays are this test's own
    sampled_count[ids == ids[3]] = value
    valid = (ids, true_count, np.where(ids == ids[3], 1, sampled_count))
    np.testing.assert_equal(problem.solve(), problem.solve(sampled_values=valid))
    with pytest.raises(ValueError, match=r"sampled_expected_count\[\d\] = "):
        problem.solve(remove_accidental_hits=False)
    problem.labels[2, 1] = (ids[3] + 1) % problem.num_classes
    with pytest.raises(ValueError, match=r"sampled_expected_count\[\d\] = "):
        problem.solve()


def test_counts_are_not_read_where_there_is_no_example():
    problem = Case(batch=0).problem()
    ids, true_count, sampled_count = problem.sampled_values
    problem.solve(sampled_values=(ids, true_count, 0 * sampled_count))


def test_a_native_byte_order_may_be_spelled_out():
    spelled = {
        name: getattr(PROBLEM, name).view(getattr(PROBLEM, name).dtype.newbyteorder("<"))
        for name in ("weights", "labels")
    }
    np.testing.assert_equal(PROBLEM.solve(**spelled), PROBLEM.solve())


def test_interrupts_while_a_sequence_is_read_are_passed_on():
    class Interrupting:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PROBLEM.solve(labels=Interrupting())


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupts_while_a_size_is_read_are_passed_on(error):
    class Interrupting:
        def __index__(self):
            raise error

        __len__ = __getitem__ = __index__

    for name in ("num_sampled", "sampled_values"):
        with pytest.raises(error):
            PROBLEM.solve(**{name: Interrupting()})


@parametrize_errors(LOSS_ERRORS)
def test_losses_refuse(changes, error, parts):
    arguments = {**PROBLEM.arguments(), **changes}
    assert_raises(error, parts, fastnce.nce_loss_and_grad, arguments)
    if "grad_loss" not in changes:
        assert_raises(error, parts, fastnce.nce_loss, arguments)


SAMPLER_ARGUMENTS = dict(
    true_classes=np.array([[0, 1], [2, 3]]), num_true=2, num_sampled=8, unique=True, range_max=50, seed=1
)
TRUE_CLASSES = SAMPLER_ARGUMENTS["true_classes"]

SAMPLER_ERRORS = [
    ("V-zero", {"range_max": 0}, ValueError, ["range_max = 0", "1"]),
    ("V-negative", {"range_max": -5}, ValueError, ["range_max = -5", "1"]),
    ("V-2-to-the-63", {"range_max": 2**63}, ValueError, ["range_max = 9223372036854775808", "2^63 - 1"]),
    ("V-float", {"range_max": 50.0}, TypeError, ["range_max", "float", "integer"]),
    ("S-above-V", {"num_sampled": 51}, ValueError, ["num_sampled = 51", "50 (num_classes or range_max)"]),
    ("unique-string", {"unique": "no"}, TypeError, ["unique", "str", "bool"]),
    ("S-zero", {"num_sampled": 0}, ValueError, ["num_sampled = 0", "1"]),
    ("S-negative", {"num_sampled": -1}, ValueError, ["num_sampled = -1", "1"]),
    ("S-2-to-the-31", {"num_sampled": 2**31, "unique": False}, ValueError, ["num_sampled = 2147483648"]),
    ("T-zero", {"num_true": 0}, ValueError, ["num_true = 0", "1"]),
    ("T-of-classes", {"num_true": 1}, ValueError, ["true_classes", "[2, 2]", "num_true = 1"]),
    ("vector", {"true_classes": [0, 1]}, ValueError, ["true_classes", "[2]", "[B, num_true]"]),
    ("cube", {"true_classes": [[[0, 1]]]}, ValueError, ["true_classes", "[1, 1, 2]", "[B, num_true]"]),
    (
        "class-V",
        {"true_classes": [[0, 1], [50, 3]]},
        ValueError,
        ["true_classes[1, 0] = 50 is outside [0, range_max = 50)"],
    ),
    ("class-negative", {"true_classes": [[0, -1]]}, ValueError, ["true_classes[0, 1] = -1"]),
    ("float", {"true_classes": TRUE_CLASSES * 1.0}, TypeError, ["true_classes", "float64", "integer"]),
    ("bool", {"true_classes": TRUE_CLASSES > 1}, TypeError, ["true_classes", "bool", "integer"]),
    ("swapped", {"true_classes": TRUE_CLASSES.astype(">i4")}, TypeError, ["true_classes", ">i4", "byte"]),
    ("seed", {"seed": 1.5}, TypeError, ["seed", "float", "integer"]),
]


def call_sampler_object(true_classes, num_true, num_sampled, unique, range_max, seed):
    sampler = fastnce.LogUniformSampler(range_max, num_sampled, num_true=num_true, unique=unique, seed=seed)
    return sampler(true_classes)


@pytest.mark.parametrize("function", [fastnce.log_uniform_candidate_sampler, call_sampler_object])
@parametrize_errors(SAMPLER_ERRORS)
def test_samplers_refuse(changes, error, parts, function):
    assert_raises(error, parts, function, {**SAMPLER_ARGUMENTS, **changes})


def test_a_refused_call_does_not_move_the_stream():
    sampler = fastnce.LogUniformSampler(50, 8, seed=1)
    with pytest.raises(ValueError, match="true_classes"):
        sampler([[50]])
    assert sampler.state.calls == 0


@pytest.mark.parametrize(
    ("state", "error"),
    [((1, 2), ValueError), ((1, 2, 3, 4), ValueError), ((1, 2, -1), ValueError), ((1, "2", 3), TypeError)],
)
def test_sampler_state_refuses_and_keeps_the_old_one(state, error):
    sampler = fastnce.LogUniformSampler(50, 8, seed=(5, 6))
    with pytest.raises(error):
        sampler.state = state
    assert sampler.state == (5, 6, 0)


@parametrize_errors(
    [
        ("vector-T2", {"true_classes": [0, 1]}, ValueError, ["true_classes", "[2]", "[B, num_true]"]),
        ("T-of-classes", {"num_true": 3}, ValueError, ["true_classes", "[2, 2]", "num_true = 3"]),
        ("ids-matrix", {"sampled_candidates": [[1]]}, ValueError, ["sampled_candidates", "[1, 1]", "[S]"]),
        ("float", {"true_classes": TRUE_CLASSES * 1.0}, TypeError, ["true_classes", "float64", "integer"]),
        ("ids-float", {"sampled_candidates": [1.0]}, TypeError, ["sampled_candidates", "float64", "integer"]),
    ]
)
def test_accidental_hits_refuse(changes, error, parts):
    arguments = {"true_classes": TRUE_CLASSES, "sampled_candidates": np.array([1, 2]), "num_true": 2}
    assert_raises(error, parts, fastnce.compute_accidental_hits, {**arguments, **changes})
