"""TensorFlow's tapes: what would lose a gradient is refused, and docs/tensorflow.md says what to do instead."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastnce
from cases import Case
from lending import LegacyProducer
from tolerances import assert_same_as_tensorflow

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

from tensorflow_cases import SHAPES, dense, tensorflow_gradients  # noqa: E402

PAGE = Path(__file__).parents[1] / "docs" / "tensorflow.md"
DIFFERENTIABLE = ("weights", "biases", "inputs")


def as_tensors(problem):
    """The arguments of a problem as eager tensors."""
    arguments = problem.arguments()
    names = (*DIFFERENTIABLE, "labels")
    return {**arguments, **{name: tf.constant(arguments[name]) for name in names}}


@pytest.mark.parametrize("function", [fastnce.nce_loss, fastnce.nce_loss_and_grad])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_what_a_tape_watches_is_refused(name, function):
    """Its gradient would be None without a word."""
    arguments = as_tensors(Case(batch=6, num_true=2).problem())
    with tf.GradientTape() as tape:
        function(**arguments)
        tape.watch(arguments[name])
        refused = rf"{name} is watched by a tf\.GradientTape.*tf.custom_gradient.*docs/tensorflow.md.*{name}\)$"
        with pytest.raises(ValueError, match=refused):
            function(**arguments)
        with pytest.raises(ValueError, match=refused):  # of another kind, the other arguments change nothing
            function(**{**Case(batch=6, num_true=2).problem().arguments(), name: arguments[name]})
        function(**{**arguments, name: tf.stop_gradient(arguments[name])})
        with tape.stop_recording():
            function(**arguments)
    function(**arguments)


def test_a_watched_shard_is_refused_by_its_position():
    arguments = as_tensors(Case(batch=6, num_true=2).problem())
    arguments["weights"] = tf.split(arguments["weights"], 2)
    with tf.GradientTape() as tape:
        fastnce.nce_loss(**arguments)
        tape.watch(arguments["weights"][1])
        with pytest.raises(ValueError, match=r"weights\[1\] is watched by a tf\.GradientTape"):
            fastnce.nce_loss(**arguments)


def test_a_value_computed_from_a_variable_is_refused():
    arguments = as_tensors(Case(batch=6, num_true=2).problem())
    scale = tf.Variable(2.0)
    with tf.GradientTape(), pytest.raises(ValueError, match=r"inputs is watched by a tf\.GradientTape"):
        fastnce.nce_loss(**{**arguments, "inputs": scale * arguments["inputs"]})
    with tf.GradientTape():
        fastnce.nce_loss(**{**arguments, "inputs": 2.0 * arguments["inputs"]})


def test_expected_counts_may_be_watched():
    """TensorFlow does not differentiate with respect to them either."""
    problem = Case(batch=6, num_true=2).problem()
    ids, *counts = map(tf.constant, problem.sampled_values)
    with tf.GradientTape() as tape:
        tape.watch(counts)
        loss = fastnce.nce_loss(**{**as_tensors(problem), "sampled_values": (ids, *counts)})
    np.testing.assert_array_equal(loss, fastnce.nce_loss(**problem.arguments()))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_variables_are_refused(name):
    arguments = as_tensors(Case(batch=6, num_true=2).problem())
    variable = tf.Variable(arguments[name])
    refused = rf"{name} is a ResourceVariable: expected a tensor; pass {name}\.value\(\).*stop_gradient\({name}\)$"
    with pytest.raises(TypeError, match=refused):
        fastnce.nce_loss(**{**arguments, name: variable})
    expected = fastnce.nce_loss(**arguments)
    np.testing.assert_array_equal(fastnce.nce_loss(**{**arguments, name: variable.value()}), expected)
    with tf.GradientTape():
        loss = fastnce.nce_loss(**{**arguments, name: tf.stop_gradient(variable)})
    np.testing.assert_array_equal(loss, expected)


@pytest.mark.parametrize("kind", ["EagerTensor", "Variable", "ResourceVariable"])
def test_arrays_of_other_libraries_may_have_the_names_of_tensorflows(kind):
    problem = Case(batch=6, num_true=2).problem()
    lend = type(kind, (LegacyProducer,), {})
    np.testing.assert_array_equal(
        fastnce.nce_loss(**{**problem.arguments(), **{name: lend(getattr(problem, name)) for name in DIFFERENTIABLE}}),
        fastnce.nce_loss(**problem.arguments()),
    )


@pytest.mark.parametrize("name", [*DIFFERENTIABLE, "labels", "sampled_candidates", "true_expected_count"])
def test_symbolic_tensors_are_refused(name):
    arguments = Case(batch=6, num_true=2).problem().arguments()
    values = dict(zip(fastnce.SampledValues._fields, arguments["sampled_values"], strict=True))

    def call(tensor):
        chosen = {**values, name: tensor} if name in values else values
        others = arguments if name in values else {**arguments, name: tensor}
        fastnce.nce_loss(**{**others, "sampled_values": tuple(chosen.values())})

    refused = rf"{name} is a SymbolicTensor, which has no memory yet.*tf.numpy_function.*docs/tensorflow.md"
    with pytest.raises(TypeError, match=refused):
        tf.function(call, autograph=False)(tf.constant({**arguments, **values}[name]))


@pytest.fixture(scope="module")
def recipe():
    """The function that docs/tensorflow.md gives to take the place of ``tf.nn.nce_loss``."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (code,) = (block for block in blocks if block.startswith("def nce_loss("))
    namespace = {"tf": tf, "fastnce": fastnce}
    exec(compile(code, str(PAGE), "exec"), namespace)
    return namespace["nce_loss"]


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "tf.function"])
@pytest.mark.parametrize("case", SHAPES[:8], ids=str)
def test_the_recipe_of_the_page_has_the_gradients_of_nce_loss(case, graph, recipe):
    problem = case.problem()
    factors = np.random.default_rng(case.seed).standard_normal(case.batch).astype(np.float32)
    problem = replace(problem, options={**problem.options, "grad_loss": factors})

    def call(loss_function):
        def of(weights, biases, inputs):
            values = tuple(map(tf.constant, problem.sampled_values))
            sizes = (case.sampled, case.num_classes, case.num_true)
            labels = tf.constant(problem.labels)
            return loss_function(
                weights, biases, labels, inputs, *sizes, values, remove_accidental_hits=case.remove_hits
            )

        return tensorflow_gradients(problem, tf.function(of, autograph=False) if graph else of)

    for ours, theirs in zip(call(recipe), call(tf.nn.nce_loss), strict=True):
        assert_same_as_tensorflow(ours, theirs)


def test_the_recipe_takes_shards_and_draws_the_default_samples(recipe):
    problem = Case(batch=7, dim=6, sampled=10, num_true=2).problem()
    shards = [tf.Variable(shard) for shard in np.array_split(problem.weights, 3)]
    sizes = (5, problem.num_classes, 2)
    samples = fastnce.log_uniform_candidate_sampler(problem.labels, 2, 5, True, problem.num_classes, seed=977)
    gradients = []
    # tf.nn.nce_loss takes no seed.
    for loss_function, options in ((recipe, {"seed": 977}), (tf.nn.nce_loss, {"sampled_values": samples})):
        with tf.GradientTape() as tape:
            loss = loss_function(shards, problem.biases, problem.labels, problem.inputs, *sizes, **options)
        assert loss.shape == (7,)
        slices = tape.gradient(loss, shards)
        gradients.append([dense(part, shard.shape) for part, shard in zip(slices, shards, strict=True)])
    for ours, theirs in zip(*gradients, strict=True):
        assert_same_as_tensorflow(ours, theirs)


def test_the_recipe_takes_positional_arguments_as_tensorflow(recipe):
    # TensorFlow removes only one of several equal hits.
    problem = Case(batch=7, dim=6, sampled=10, num_true=2, remove_hits=True, distinct=True).problem()
    tables = tf.constant(problem.weights), tf.constant(problem.biases)
    samples = tuple(map(tf.constant, problem.sampled_values))
    arguments = (*tables, problem.labels, problem.inputs, 10, problem.num_classes, 2, samples, True, "name")
    assert_same_as_tensorflow(recipe(*arguments).numpy(), tf.nn.nce_loss(*arguments).numpy())


def test_the_recipe_refuses_another_partition_of_shards(recipe):
    """It reads shards as tf.nn.nce_loss does: "div"."""
    problem = Case().problem()
    with pytest.raises(TypeError, match="partition_strategy"):
        recipe(
            [problem.weights[::2], problem.weights[1::2]],
            problem.biases,
            problem.labels,
            problem.inputs,
            7,
            problem.num_classes,
            partition_strategy="mod",
        )


def test_the_rows_of_the_recipe_are_each_once(recipe):
    problem = Case(batch=9, sampled=10, num_true=2).problem()
    tables = [tf.Variable(problem.weights), tf.Variable(problem.biases)]
    with tf.GradientTape() as tape:
        loss = recipe(*tables, problem.labels, problem.inputs, 10, problem.num_classes, 2, problem.sampled_values)
    for slices in tape.gradient(loss, tables):
        assert len(set(slices.indices.numpy())) == len(slices.indices)


# NumPy's warning about the way in which TensorFlow passes bfloat16 tensors to tf.numpy_function.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_the_recipe_keeps_the_dtype_of_inputs(dtype, recipe):
    problem = Case(batch=6, num_true=2).problem()
    weights, biases, inputs = (tf.Variable(tf.cast(getattr(problem, name), dtype)) for name in DIFFERENTIABLE)
    with tf.GradientTape() as tape:
        loss = recipe(weights, biases, problem.labels, inputs, 7, problem.num_classes, 2, problem.sampled_values)
    assert loss.dtype == dtype
    assert {gradient.dtype.name for gradient in tape.gradient(loss, [weights, biases, inputs])} == {dtype}


def test_a_py_function_takes_detached_tensors():
    """Under a tape it has one of its own, which watches its arguments."""
    arguments = as_tensors(Case(batch=6, num_true=2).problem())

    def call(detach):
        def of(inputs):
            return fastnce.nce_loss(**{**arguments, "inputs": detach(inputs)})

        @tf.function(autograph=False)
        def gradient(inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                loss = tf.py_function(of, [inputs], tf.float32)
            return loss, tape.gradient(loss, inputs)

        return gradient(arguments["inputs"])

    loss, _ = call(tf.stop_gradient)
    np.testing.assert_array_equal(loss, fastnce.nce_loss(**arguments))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"inputs is watched by a tf\.GradientTape"):
        call(tf.identity)
