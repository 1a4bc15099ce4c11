"""fastnce.jax refuses what the NumPy entry refuses, in the same words."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

import fastnce
from cases import Case
from jax_arrays import ARRAYS, RUN_TIME_ERRORS, enable_x64, jax, jnp, split
from test_validation import LOSS_ERRORS, PROBLEM, SAMPLER_ARGUMENTS, SAMPLER_ERRORS, parametrize_errors

# JAX arrays have no shards, seeds, masks or layouts; NumPy arrays of awkward layout are copied.
NOT_OF_JAX = ("shard", "seed", "strategy", "div-", "mod-", "mirrored", "spread", "columns", "inputs-list")
OUT_OF_RANGE = ("label-", "id-", "class-")
ERRORS = [e for e in LOSS_ERRORS if not any(part in e[0] for part in NOT_OF_JAX)]


@pytest.fixture(autouse=True)
def x64():
    with enable_x64(True):
        yield


def keyed(arguments):
    """The same call with a key, where there are no samples."""
    arguments = dict(arguments)
    if arguments["sampled_values"] is None:
        arguments.update(key=jax.random.key(1))
    return arguments


def refusal(function, arguments):
    with pytest.raises((ValueError, TypeError)) as caught:
        function(**arguments)
    return type(caught.value), str(caught.value)


def numpy_refusal(changes):
    return refusal(fastnce.nce_loss_and_grad, {**PROBLEM.arguments(), **changes})


@parametrize_errors(ERRORS)
def test_numpy_arguments_are_refused_in_the_numpy_entrys_words(changes, error, parts):
    arguments = keyed({**PROBLEM.arguments(), **changes})
    assert refusal(fastnce.jax.nce_value_and_rows, arguments) == numpy_refusal(changes)
    if "grad_loss" not in changes:
        assert refusal(fastnce.jax.nce_loss, arguments) == numpy_refusal(changes)


def can_be_traced(name, value):
    plain = isinstance(value, np.ndarray) and value.dtype.kind in "biufc" and value.dtype.isnative
    return (
        name in ARRAYS
        and name != "sampled_values"
        and plain
        and not isinstance(value, np.ma.MaskedArray)
        and value.itemsize <= 8
    )


@parametrize_errors([e for e in ERRORS if not e[0].startswith(OUT_OF_RANGE)])
def test_traced_arguments_are_refused_in_the_numpy_entrys_words(changes, error, parts):
    arguments = keyed({**PROBLEM.arguments(), **changes})
    traced = {name: value for name, value in arguments.items() if can_be_traced(name, value)}
    rest = {name: value for name, value in arguments.items() if name not in traced}

    def call(arrays):
        jax.eval_shape(lambda arrays: fastnce.jax.nce_value_and_rows(**arrays, **rest), arrays)

    assert refusal(call, {"arrays": traced}) == numpy_refusal(changes)


@pytest.mark.parametrize(
    "changes",
    [e[1] for e in ERRORS if e[0] in ("label-V", "label-negative", "id-V", "id-negative", "label-2-to-the-32")],
    ids=str,
)
@pytest.mark.parametrize("function", ["nce_loss", "nce_value_and_rows"])
def test_ids_out_of_range_surface_at_run_time_in_the_same_words(changes, function):
    arrays, static = split({**PROBLEM.arguments(), **changes})
    call = jax.jit(lambda arrays: getattr(fastnce.jax, function)(**arrays, **static))
    _, text = numpy_refusal(changes)
    with pytest.raises(RUN_TIME_ERRORS) as caught:
        jax.block_until_ready(call(arrays))
    assert text in str(caught.value)


def test_ids_out_of_range_raise_at_once_outside_of_jit():
    arrays, static = split({**PROBLEM.arguments(), "labels": np.full((4, 2), 13)})
    with pytest.raises(RUN_TIME_ERRORS, match=r"labels\[0, 0\] = 13 is outside"):
        jax.block_until_ready(fastnce.jax.nce_loss(**arrays, **static))


def test_labels_out_of_range_are_refused_before_counts_are_computed():
    weights, biases = jnp.zeros((50_000, 3)), jnp.zeros(50_000)
    labels = jnp.zeros((8, 2), jnp.int32).at[3, 0].set(50_007)
    with pytest.raises(
        jax.errors.JaxRuntimeError, match=r"labels\[3, 0\] = 50007 is outside \[0, num_classes = 50000\)"
    ):
        jax.block_until_ready(
            jax.jit(lambda x: fastnce.jax.nce_loss(weights, biases, labels, x, 4, 50_000, 2, key=jax.random.key(0)))(
                jnp.ones((8, 3))
            )
        )


@parametrize_errors([e for e in SAMPLER_ERRORS if e[0] != "seed"])
def test_samplers_refuse_in_the_numpy_entrys_words(changes, error, parts):
    arguments = {**SAMPLER_ARGUMENTS, **changes}
    expected = refusal(fastnce.log_uniform_candidate_sampler, arguments)
    del arguments["seed"]
    assert refusal(fastnce.jax.log_uniform_candidate_sampler, {**arguments, "key": jax.random.key(0)}) == expected


def test_classes_out_of_range_surface_at_run_time():
    call = jax.jit(
        lambda classes: fastnce.jax.log_uniform_candidate_sampler(classes, 1, 3, True, 5, key=jax.random.key(0))
    )
    with pytest.raises(RUN_TIME_ERRORS, match=r"true_classes\[1, 0\] = 5 is outside \[0, range_max = 5\)"):
        jax.block_until_ready(call(jnp.array([[0], [5]])))


def call_with(**changes):
    return fastnce.jax.nce_loss(**{**PROBLEM.arguments(), **changes})


def test_just_one_of_key_and_sampled_values_is_wanted():
    with pytest.raises(ValueError, match="key, sampled_values: expected just one of them, got both"):
        call_with(key=jax.random.key(0))
    with pytest.raises(ValueError, match="key, sampled_values: expected just one of them, got neither"):
        call_with(sampled_values=None)


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (lambda: 7, TypeError, "key is an int: expected a key of jax.random.key"),
        (lambda: jnp.zeros(2, jnp.int32), TypeError, "key has dtype int32: expected"),
        (lambda: np.zeros(3, np.uint32), ValueError, r"key has words of shape \[3\]: expected one key"),
        (lambda: jax.random.split(jax.random.key(0), 3), ValueError, r"key has words of shape \[3, 2\]"),
    ],
)
def test_what_is_no_key_is_refused(key, error, message):
    with pytest.raises(error, match=message):
        call_with(sampled_values=None, key=key())


def test_shards_are_refused():
    for name in ("weights", "biases"):
        array = PROBLEM.arguments()[name]
        with pytest.raises(TypeError, match=f"^{name} is a list: expected one array; the NumPy functions take shards$"):
            call_with(**{name: [array[:7], array[7:]]})
    with pytest.raises(TypeError, match=r"^inputs is a list: expected one array$"):  # which never has shards
        call_with(inputs=PROBLEM.inputs.tolist())


def test_bits_of_bfloat16_are_refused():
    with pytest.raises(TypeError, match="inputs has dtype uint16: expected"):
        call_with(inputs=jnp.zeros(PROBLEM.inputs.shape, jnp.uint16))


def test_a_key_in_place_of_an_array_is_refused():
    with pytest.raises(TypeError, match="labels has dtype object"):
        call_with(labels=jax.random.split(jax.random.key(0), (4, 2)))


def test_classes_beyond_int32_are_refused_without_x64():
    with enable_x64(False):
        classes = np.zeros((1, 1), np.int32)
        with pytest.raises(
            ValueError, match=r"range_max = 2147483649: expected at most 2\*\*31 without jax_enable_x64"
        ):
            fastnce.jax.log_uniform_candidate_sampler(classes, 1, 4, True, 2**31 + 1, key=jax.random.key(0))
        table, biases = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2**31 + 1, 1), (2**31 + 1,)))
        with pytest.raises(ValueError, match="num_classes = 2147483649: expected at most"):
            jax.eval_shape(
                lambda w, b: fastnce.jax.nce_loss(
                    w, b, classes, np.ones((1, 1), np.float32), 4, 2**31 + 1, key=jax.random.key(0)
                ),
                table,
                biases,
            )


def test_labels_that_int32_would_wrap_are_refused_without_x64():
    with enable_x64(False), pytest.raises(ValueError, match=r"labels\[0, 0\] = 4294967296 is outside"):
        call_with(labels=np.full((4, 2), 2**32))


def test_arrays_on_two_devices_are_refused_by_name():
    script = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, jax.numpy as jnp, fastnce.jax
here, there = jax.devices()
x, labels = jax.device_put((jnp.ones((4, 3)), jnp.zeros((4, 1), int)), here)
weights, biases = jax.device_put((jnp.ones((9, 3)), jnp.zeros(9)), there)
try:
    fastnce.jax.nce_loss(weights, biases, labels, x, 3, 9, key=jax.random.key(0))
except ValueError as error:
    print(error)
biases = jax.device_put(biases, here)
weights = jnp.ones((9, 3))  # goes where it is wanted
print(fastnce.jax.nce_loss(weights, biases, labels, x, 3, 9, key=jax.random.key(0)).devices() == {here})
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert finished.stdout.splitlines() == [
        "weights is on device cpu:1: expected cpu:0, the device of inputs",
        "True",
    ], finished.stderr


def test_nothing_is_computed_to_check_arguments():
    # The core is shown one row in place of a table of a terabyte.
    table, biases = jax.ShapeDtypeStruct((2**31, 128), jnp.float32), jax.ShapeDtypeStruct((2**31,), jnp.float32)
    problem = Case(batch=3, dim=128, sampled=4).problem()
    loss = jax.eval_shape(
        lambda w, b: fastnce.jax.nce_loss(w, b, problem.labels, problem.inputs, 4, 2**31, key=jax.random.key(0)),
        table,
        biases,
    )
    assert loss.shape == (3,)


def test_float64_arrays_are_refused_where_jax_makes_none():
    with enable_x64(True):
        weights, biases, inputs = jnp.ones((50, 4)), jnp.zeros(50), jnp.ones((5, 4))
        rows = fastnce.RowGrads(jnp.array([1, 2]), jnp.ones((2, 4)), jnp.ones(2))
    with enable_x64(False):
        labels, key = jnp.zeros(5, int), jax.random.key(0)
        for call in (fastnce.jax.nce_loss, fastnce.jax.nce_value_and_rows):
            with pytest.raises(TypeError, match="weights has dtype float64: expected jax_enable_x64"):
                call(weights, biases, labels, inputs, 7, 50, key=key)
            with pytest.raises(TypeError, match="inputs has dtype float64: expected jax_enable_x64"):
                call(weights.astype("f"), biases.astype("f"), labels, inputs, 7, 50, key=key)
        with pytest.raises(TypeError, match="weights has dtype float64: expected jax_enable_x64"):
            fastnce.jax.sgd_rows(weights, biases, rows, 0.5)
        single = weights.astype("f"), biases.astype("f")
        with pytest.raises(TypeError, match=r"rows.weights has dtype float64: expected jax_enable_x64"):
            fastnce.jax.sgd_rows(*single, rows, 0.5)
        rows = jax.tree.map(lambda array: array.astype("f") if array.dtype == jnp.float64 else array, rows)
        with pytest.raises(TypeError, match=r"accumulators\[0\] has dtype float64: expected jax_enable_x64"):
            fastnce.jax.adagrad_rows(*single, (weights, biases), rows, 0.5)


def test_sizes_may_be_jax_scalars():
    arguments = (jnp.ones((50, 4)), jnp.zeros(50), jnp.zeros(5, int), jnp.ones((5, 4)))
    key = jax.random.key(0)
    loss = fastnce.jax.nce_loss(*arguments, jnp.int32(7), jnp.int32(50), key=key)
    np.testing.assert_array_equal(loss, fastnce.jax.nce_loss(*arguments, 7, 50, key=key))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(learning_rate=np.ones((2, 1, 1))), ValueError, r"learning_rate has shape \[2, 1, 1\]: expected a scalar"),
        (dict(weights=np.ones((50, 4), int)), TypeError, "weights has dtype int.*: expected floating point"),
        (dict(ids=np.array([1, 2], np.int16)), TypeError, "rows.ids has dtype int16: expected int32 or int64"),
    ],
    ids=["learning_rate", "table", "ids"],
)
def test_updates_of_rows_look_at_their_arguments(change, error, message):
    rows = fastnce.RowGrads(change.get("ids", np.array([1, 2])), np.ones((2, 4), np.float32), np.ones(2, np.float32))
    weights = change.get("weights", np.ones((50, 4), np.float32))
    with pytest.raises(error, match=message):
        fastnce.jax.sgd_rows(weights, np.zeros(50, np.float32), rows, change.get("learning_rate", 0.1))


def test_tables_of_numpy_may_be_closed_over():
    weights, biases = np.ones((50, 4), np.float32), np.zeros(50, np.float32)

    @jax.jit
    def update(ids):
        return fastnce.jax.sgd_rows(weights, biases, fastnce.RowGrads(ids, jnp.ones((2, 4)), jnp.ones(2)), 0.5)

    new, _ = update(jnp.array([1, 2]))
    assert new[1, 0] == 0.5
    assert (weights == 1).all()


TABLES = {"weights": np.ones((50, 4), np.float32), "biases": np.zeros(50, np.float32)}
LABELS = np.zeros((5, 1), np.int32)
LOSS = {**TABLES, "labels": LABELS, "inputs": np.ones((5, 4), np.float32), "num_sampled": 7, "num_classes": 50}
SAMPLES = (np.arange(7), np.ones((5, 1), np.float32), np.ones(7, np.float32))
ROWS = {"rows": fastnce.RowGrads(np.array([1, 2]), np.ones((2, 4), np.float32), np.ones(2, np.float32))}
KEY = {"key": jax.random.key(0)}
OPTIONS = {"num_true": 1, "precision": None, "remove_accidental_hits": False, "padding": -1, "true_target": "one"}
NEGATIVE = {name: array for name, array in LOSS.items() if not name.startswith("num_")}
NEGATIVE.update({name: value for name, value in OPTIONS.items() if name != "true_target"})
NEGATIVE.update(sampled_candidates=SAMPLES[0], positive_weight=2.0, negative_weight=np.ones(5, np.float32))
LOSSES = {
    fastnce.jax.nce_loss: {**LOSS, **KEY, **OPTIONS},
    fastnce.jax.nce_value_and_rows: {**LOSS, "sampled_values": SAMPLES, "grad_loss": np.ones(5, np.float32)},
    fastnce.jax.sampled_softmax_loss: {**LOSS, **KEY, **OPTIONS},
    fastnce.jax.sampled_softmax_value_and_rows: {**LOSS, **KEY, **OPTIONS, "grad_loss": np.ones(5, np.float32)},
    fastnce.jax.negative_sampling_loss: NEGATIVE,
    fastnce.jax.negative_sampling_value_and_rows: {**NEGATIVE, "grad_loss": np.ones(5, np.float32)},
}
ENTRIES = {
    **LOSSES,
    fastnce.jax.log_uniform_candidate_sampler: {
        **{"true_classes": LABELS, "num_true": 1, "num_sampled": 7, "unique": True, "range_max": 50},
        **KEY,
    },
    fastnce.jax.sgd_rows: {**TABLES, **ROWS, "learning_rate": 0.1},
    fastnce.jax.adagrad_rows: {
        **TABLES,
        **{"accumulators": tuple(TABLES.values()), **ROWS, "learning_rate": 0.1, "epsilon": 1e-10},
    },
}
PARTS = ("sampled_candidates", "true_expected_count", "sampled_expected_count")
WRONG = {
    **{"None": None, "text": "high and low", "number": 1.5, "dict": {}, "object": object(), "key": KEY["key"]},
    **{"cube": np.ones((2, 2, 2), np.float32), "texts": np.array(["a"])},
}
RIGHT = {"precision": ["None"], "key": ["key"], "grad_loss": ["None", "number"]}
RIGHT.update(learning_rate=["number"], epsilon=["number"], padding=["None"], true_target=["None"])
RIGHT.update(positive_weight=["None", "number"], negative_weight=["None", "number"])


@pytest.fixture
def handlers(monkeypatch):
    """Fails where a handler is reached."""

    def reached(name, *_, **__):
        pytest.fail(f"{name} was called")

    monkeypatch.setattr(jax.ffi, "ffi_call", reached)


@pytest.mark.parametrize(
    ("entry", "name"),
    [(entry, name) for entry, arguments in ENTRIES.items() for name in arguments],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize("convert", [lambda array: array, jnp.asarray], ids=["numpy", "jax"])
def test_wrong_arguments_are_refused_by_name_before_anything_is_computed(entry, name, convert, handlers):
    arguments = jax.tree.map(lambda leaf: convert(leaf) if isinstance(leaf, np.ndarray) else leaf, ENTRIES[entry])
    right = ["None"] if name == "biases" and entry in LOSSES else RIGHT.get(name, [])
    for kind in WRONG.keys() - right:
        _, text = refusal(entry, {**arguments, name: WRONG[kind]})
        assert name in text or (name == "sampled_values" and text.startswith(PARTS)), text
        assert not re.search(r" is a ([aeio]|NoneType)", text), text


@pytest.mark.parametrize(
    ("entry", "swapped"),
    [
        (entry, pair)
        for entry, arguments in ENTRIES.items()
        for pair in combinations(arguments, 2)
        if not {*pair} <= {"learning_rate", "epsilon"}  # two numbers
        if not {*pair} <= {"positive_weight", "negative_weight", "grad_loss"}  # factors
    ],
    ids=lambda value: getattr(value, "__name__", None) or "-".join(value),
)
def test_swapped_arguments_are_refused_by_name_before_anything_is_computed(entry, swapped, handlers):
    first, second = swapped
    arguments = ENTRIES[entry]
    _, text = refusal(entry, {**arguments, first: arguments[second], second: arguments[first]})
    assert text.startswith((*arguments, *PARTS, "accumulators[", "rows.")), text


@pytest.mark.parametrize(
    "part", [{"ids": [1, 2]}, {"weights": None}, {"biases": 1.5}], ids=["ids", "weights", "biases"]
)
def test_parts_of_rows_are_refused_by_name(part, handlers):
    (name,) = part
    rows = ROWS["rows"]._replace(**part)
    with pytest.raises(TypeError, match=rf"rows\.{name} is .*: expected an array"):
        fastnce.jax.sgd_rows(**TABLES, rows=rows, learning_rate=0.1)


def test_ids_of_rows_are_a_vector(handlers):
    rows = ROWS["rows"]._replace(ids=np.array([[1, 2]]))
    with pytest.raises(ValueError, match=r"rows\.ids has shape \[1, 2\]: expected \[n\]"):
        fastnce.jax.sgd_rows(**TABLES, rows=rows, learning_rate=0.1)


def counts_with(position, value):
    values = [np.array(part) for part in PROBLEM.sampled_values]
    values[position].flat[1] = value
    return {"sampled_values": tuple(values)}


@pytest.mark.parametrize("value", [0, -1, np.nan])
@pytest.mark.parametrize("position", [1, 2], ids=["true", "sampled"])
@pytest.mark.parametrize("function", ["nce_loss", "nce_value_and_rows"])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_counts_that_are_not_positive_are_refused_in_the_numpy_entrys_words(value, position, function, transform):
    changes = counts_with(position, value)
    kind, text = numpy_refusal(changes)
    assert kind is ValueError and "expected_count" in text
    arrays, static = split({**PROBLEM.arguments(), **changes})
    call = transform(lambda arrays: getattr(fastnce.jax, function)(**arrays, **static))
    with pytest.raises(RUN_TIME_ERRORS) as caught:
        jax.block_until_ready(call(arrays))
    assert text in str(caught.value)
    # NumPy's arrays are known when a call is traced.
    assert refusal(getattr(fastnce.jax, function), {**PROBLEM.arguments(), **changes}) == (kind, text)


@pytest.mark.parametrize("counts", ["numpy", "jax"])
def test_a_count_may_be_zero_where_its_sample_is_left_out(counts):
    labels, sampled, count = np.array([[2], [2]]), np.array([2, 3, 1]), np.array([0, 1, 1], np.float32)
    arguments = {**TABLES, "labels": labels, "inputs": np.ones((2, 4), np.float32), "num_sampled": 3, "num_classes": 50}
    values = (sampled, np.ones((2, 1), np.float32), count)
    expected = fastnce.nce_loss(**arguments, sampled_values=values, remove_accidental_hits=True)
    if counts == "jax":
        values = tuple(map(jnp.asarray, values))

    def loss(labels):
        options = {"sampled_values": values, "remove_accidental_hits": True}
        return fastnce.jax.nce_loss(**{**arguments, "labels": labels}, **options)

    for ours in (loss(labels), loss(jnp.asarray(labels)), jax.jit(loss)(labels)):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("true_count", [1, 1.0, [[1], [1]], np.ones((2, 1), int)], ids=repr)
@pytest.mark.parametrize("count", [[0, 1, 1], [0.0, 1.0, 1.0], (0, 1.0, 1), np.array([0, 1, 1])], ids=repr)
@pytest.mark.parametrize("traced", ["labels", "ids"])
def test_a_count_of_any_kind_may_be_zero_where_its_sample_is_left_out(true_count, count, traced):
    labels, sampled = np.array([[2], [2]]), np.array([2, 3, 1])
    arguments = {**TABLES, "labels": labels, "inputs": np.ones((2, 4), np.float32), "num_sampled": 3, "num_classes": 50}
    options = {"remove_accidental_hits": True}
    expected = fastnce.nce_loss(**arguments, sampled_values=(sampled, true_count, count), **options)
    if traced == "labels":
        arguments["labels"] = jnp.asarray(labels)
    else:
        sampled = jnp.asarray(sampled)
    ours = fastnce.jax.nce_loss(**arguments, sampled_values=(sampled, true_count, count), **options)
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(
    ("count", "error", "message"),
    [
        (["a"] * 3, TypeError, "sampled_expected_count has dtype <U1: expected an array of plain numbers"),
        ([True] * 3, TypeError, "sampled_expected_count has dtype bool: expected real numbers"),
        ([1j] * 3, TypeError, "sampled_expected_count has dtype complex128"),
        ([1.0] * 4, ValueError, r"sampled_expected_count has shape \[4\]"),
        ([[1.0], 1.0], ValueError, "sampled_expected_count cannot be made an array"),
        (np.ma.masked_array([1.0] * 3, [1, 0, 0]), TypeError, "sampled_expected_count is a masked array"),
        (None, ValueError, "sampled_expected_count is None, but true_expected_count is not: expected both or neither"),
    ],
    ids=str,
)
def test_counts_beside_traced_ids_are_refused_by_kind_and_shape(count, error, message):
    arguments = {**TABLES, "labels": jnp.array([[2], [2]]), "inputs": np.ones((2, 4), np.float32)}
    arguments.update(num_sampled=3, num_classes=50, sampled_values=(np.arange(3), 1.0, count))
    with pytest.raises(error, match=f"^{message}"):
        fastnce.jax.nce_loss(**arguments, remove_accidental_hits=True)


@pytest.mark.parametrize("name", ["weights", "labels", "inputs"])
def test_tracers_given_to_the_numpy_function_are_sent_to_fastnce_jax(name):
    arguments = {**PROBLEM.arguments(), "sampled_values": None}

    @jax.jit
    def loss(array):
        return fastnce.nce_loss(**{**arguments, name: array})

    with pytest.raises(TypeError, match=rf"^{name} is a \w*Tracer.*use fastnce\.jax"):
        loss(arguments[name])
