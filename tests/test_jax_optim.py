"""fastnce.jax.optim: the twin's numbers and NumPy's bits, in the memory of donated tables, under jit, scan and vmap."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pytest

import fastnce
from cases import Case
from jax_arrays import RUN_TIME_ERRORS, enable_x64, expected_rows, jax, jnp, ml_dtypes, split
from optimizers import EVERY_RULE, RULES, Twin

V = 60
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}
EXACT_RATE = 0.125
"""Which float32 holds, as JAX computes learning rates, and float64, as NumPy does."""
OPTIMIZERS = ("SGD", "Adagrad", "RowwiseAdagrad", "Adam")
EACH_KIND = [RULES[name] for name in ("sgd_decay", "momentum", "adagrad_keras", "rowwise_adagrad", "adam_decay")]


def made(rule, **options):
    return getattr(fastnce.jax.optim, rule.optimizer.__name__)(**rule.options | options)


def tables(dim, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(V, dim)).astype(dtype), rng.normal(size=V).astype(dtype)


def gradients(dim, dtype=np.float32, seed=1, rows=25):
    """Ids in any order, some of them several times, and their gradients."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(V, size=rows).astype(np.int32)
    return fastnce.RowGrads(ids, rng.normal(size=(rows, dim)).astype(dtype), rng.normal(size=rows).astype(dtype))


def start(optimizer, dim=5, dtype=np.float32):
    """Tables as JAX's arrays and their state."""
    given = tuple(map(jnp.array, tables(dim, dtype)))  # a copy: what shares memory with NumPy cannot be donated
    return *given, optimizer.init(*given)


def assert_equal(ours, expected):
    for actual, true in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(actual), np.asarray(true))


def together(step):
    """A function of the arrays of each rule, by name, and further arguments; one program, to compile once."""
    return lambda arrays, *given: {name: step(RULES[name], *arrays[name], *given) for name in arrays}


@cache
def after_50_steps(dtype):
    with enable_x64(dtype == "float64"):
        update = jax.jit(together(lambda rule, *given: made(rule).update_rows(*given)), donate_argnums=0)
        arrays = {rule.name: start(made(rule), 17, dtype) for rule in EVERY_RULE}
        for step in range(50):
            arrays = update(arrays, gradients(17, dtype, step))
        return jax.tree.map(np.asarray, arrays)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_50_steps_are_those_of_the_twin(rule, dtype):
    twin = Twin(rule, *tables(17, dtype))
    for step in range(50):
        twin.update_rows(*gradients(17, dtype, step))
    weights, biases, state = after_50_steps(dtype)[rule.name]
    assert weights.dtype == dtype and biases.dtype == dtype
    twin.assert_same(SimpleNamespace(weights=weights, biases=biases, state=state))


SEEDED = {"lr": EXACT_RATE, "seed": (3, 2**63 + 4)}


@cache
def after_a_scan(dtype, steps):
    def scanned(rule, *arrays_and_rows):
        *arrays, rows = arrays_and_rows
        optimizer = made(rule, **SEEDED)
        return jax.lax.scan(lambda carried, rows: (optimizer.update_rows(*carried, rows), None), tuple(arrays), rows)[0]

    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *(gradients(9, seed=step) for step in range(steps)))
    arrays = {rule.name: start(made(rule), 9, DTYPES[dtype]) for rule in EVERY_RULE}
    return jax.jit(together(scanned))(arrays, stacked)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_a_scan_of_steps_has_the_bits_of_numpys_with_stochastic_rounding(rule, dtype):
    expected = rule.make(*tables(9, DTYPES[dtype]), **SEEDED)
    for step in range(4):
        expected.update_rows(*gradients(9, seed=step))
    assert_equal(after_a_scan(dtype, 4)[rule.name], (expected.weights, expected.biases, expected.state))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_is_to_nearest_where_asked_for_and_else_follows_from_the_seed(dtype):
    def after(**options):
        optimizer = fastnce.jax.optim.SGD(lr=1.0, **options)
        weights = jnp.ones((V, 32), dtype)
        rows = fastnce.RowGrads(jnp.arange(V), jnp.full((V, 32), 1e-4), None)
        return np.asarray(optimizer.update_rows(weights, None, optimizer.init(weights), rows)[0], np.float32)

    assert (after(stochastic_rounding=False) == 1).all()
    assert (after(seed=1) < 1).any()
    np.testing.assert_array_equal(after(seed=1), after(seed=1))
    assert (after(seed=1) != after(seed=2)).any()
    assert (after(seed=None) != after(seed=None)).any()


@pytest.mark.parametrize("rule", EACH_KIND, ids=str)
def test_padding_of_rows_changes_nothing(rule):
    problem = Case(batch=9, dim=5, sampled=11, num_true=2).problem()
    arrays, static = split(problem.arguments())
    rows = fastnce.jax.nce_value_and_rows(**arrays, **static)[2]
    assert (np.diff(rows.ids) == 0).any()
    options = {"lr": EXACT_RATE}
    ours = made(rule, **options)
    weights, biases, state = arrays["weights"], arrays["biases"], ours.init(arrays["weights"], arrays["biases"])
    expected = rule.make(np.array(weights), np.array(biases), **options)
    ids, *grads = expected_rows(problem)[2:]
    of_one = np.append(True, np.diff(ids) != 0)
    for _ in range(3):
        weights, biases, state = ours.update_rows(weights, biases, state, rows)
        expected.update_rows(ids[of_one], *(grad[of_one] for grad in grads))
    assert_equal((weights, biases, state), (expected.weights, expected.biases, expected.state))


@pytest.mark.parametrize("rule", EACH_KIND, ids=str)
def test_a_batch_without_classes_touches_no_row(rule):
    optimizer = made(rule)
    before = optimizer.update_rows(*start(optimizer), gradients(5))
    nothing = jnp.zeros((2, 0), jnp.int32), jnp.ones((2, 0)), jnp.ones(0)
    for labels in (jnp.full((3, 1), -1), jnp.zeros((3, 0), int)):
        sampled = (jnp.zeros(0, jnp.int32), jnp.ones(labels.shape), nothing[2])
        inputs = jnp.ones((3, 5))
        rows = fastnce.jax.nce_value_and_rows(
            *before[:2], labels, inputs, 0, V, labels.shape[1], sampled_values=sampled, padding=-1
        )[2]
        weights, biases, state = jax.jit(optimizer.update_rows)(*before, rows)
        assert_equal((weights, biases), before[:2])
        assert_equal(state, {**before[2], "step": 2})


@pytest.mark.parametrize("rule", EACH_KIND, ids=str)
def test_rows_that_a_step_does_not_touch_stay_as_they_are(rule):
    optimizer = made(rule)
    before = optimizer.update_rows(*start(optimizer), gradients(5))
    rows = gradients(5, seed=2)
    after = optimizer.update_rows(*before, rows)
    others = np.setdiff1d(np.arange(V), rows.ids)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert old.ndim == 0 or np.array_equal(old[others], new[others])


@pytest.mark.parametrize("dtype", DTYPES)
def test_donated_tables_and_states_are_updated_where_they_are(dtype):
    with enable_x64(dtype == "float64"):
        arrays = {rule.name: start(made(rule), dtype=DTYPES[dtype]) for rule in EACH_KIND}
        update = jax.jit(together(lambda rule, *given: made(rule).update_rows(*given)), donate_argnums=0)
        update.lower(arrays, gradients(5))

        def places(arrays):
            return [array.unsafe_buffer_pointer() for array in jax.tree.leaves(arrays) if array.ndim > 0]

        before = places(arrays)
        for _ in range(2):
            given, arrays = arrays, update(arrays, gradients(5))
            assert all(array.is_deleted() for array in jax.tree.leaves(given))
            assert places(arrays) == before


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_step_copies_no_table(name, dtype):
    # XLA's own account of temporary memory: a copy or a converted table would be in it.
    arrays, static = split(Case(batch=4, dim=64, sampled=8).problem().arguments())
    del arrays["weights"], arrays["biases"]
    optimizer = getattr(fastnce.jax.optim, name)()
    weights, biases = jnp.zeros((50_000, 64), dtype), jnp.zeros(50_000, dtype)
    state = optimizer.init(weights, biases)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(weights, biases, state, arrays):
        loss, _, rows = fastnce.jax.nce_value_and_rows(weights, biases, **arrays, **static)
        return *optimizer.update_rows(weights, biases, state, rows), loss

    memory = step.lower(weights, biases, state, arrays).compile().memory_analysis()
    assert memory.temp_size_in_bytes < weights.nbytes / 10
    assert memory.alias_size_in_bytes >= sum(array.nbytes for array in jax.tree.leaves((weights, biases, state)))


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_arrays_that_are_not_donated_stay_as_they_are(transform):
    optimizer = fastnce.jax.optim.Adam()
    arrays = optimizer.update_rows(*start(optimizer), gradients(5))
    before = jax.tree.map(np.array, arrays)
    jax.block_until_ready(transform(optimizer.update_rows)(*arrays, gradients(5, seed=2)))
    assert_equal(arrays, before)


def sgd_steps(weights, rates):
    """Of a gradient of ones for row 4."""
    weights = np.array(weights, np.float64)
    weights[4] -= sum(rates)
    return weights


ROW_4 = fastnce.RowGrads(np.array([4], np.int32), np.ones((1, 5), np.float32), None)


def test_a_schedule_is_traced_with_the_number_of_the_step():
    optimizer = fastnce.jax.optim.SGD(lr=lambda step: jnp.where(step < 3, 0.5 / step, 0.0))
    weights, _, _ = start(optimizer)
    update = jax.jit(optimizer.update_rows)
    after, state = weights, optimizer.init(weights)
    for _ in range(4):
        after, _, state = update(after, None, state, ROW_4)
    assert state["step"] == 4 and update._cache_size() == 1
    np.testing.assert_allclose(after, sgd_steps(weights, [1 / 2, 1 / 4]), rtol=1e-6)


def test_a_learning_rate_may_be_an_argument_of_the_jitted_step():
    @jax.jit
    def step(weights, state, rate):
        return fastnce.jax.optim.SGD(lr=rate).update_rows(weights, None, state, ROW_4)

    weights, _, state = start(fastnce.jax.optim.SGD())
    state = {"step": state["step"]}
    after = weights
    for rate in (0.5, np.float32(0.25), jnp.asarray(1)):
        after, _, state = step(after, state, jnp.float32(rate))
    assert step._cache_size() == 1
    np.testing.assert_allclose(after, sgd_steps(weights, [0.5, 0.25, 1]), rtol=1e-6)


def test_rates_may_decay_as_numpys():
    weights, biases = tables(5)
    expected = fastnce.optim.Adagrad(weights, biases, 0.1, 0.5)
    ours = fastnce.jax.optim.Adagrad(0.1, 0.5)
    arrays = start(ours)
    for step in range(3):
        arrays = jax.jit(ours.update_rows)(*arrays, gradients(5, seed=step))
        expected.update_rows(*gradients(5, seed=step))
    np.testing.assert_allclose(arrays[0], weights, rtol=1e-5)


@pytest.mark.parametrize("rule", EACH_KIND, ids=str)
def test_states_go_to_numpys_optimizer_and_back(rule, tmp_path):
    ours = made(rule, lr=EXACT_RATE)
    arrays = ours.update_rows(*start(ours), gradients(5))
    weights, biases = (np.array(table) for table in arrays[:2])
    np.savez(tmp_path / "state.npz", **arrays[2])
    theirs = rule.make(weights, biases, lr=EXACT_RATE, state=np.load(tmp_path / "state.npz"))
    theirs.update_rows(*gradients(5, seed=2))
    arrays = ours.update_rows(*arrays, gradients(5, seed=2))
    resumed = ours.update_rows(weights.copy(), biases.copy(), theirs.state, gradients(5, seed=3))
    assert_equal(resumed, ours.update_rows(*arrays, gradients(5, seed=3)))


@pytest.mark.parametrize("rule", EACH_KIND, ids=str)
def test_biases_may_be_left_out(rule):
    optimizer = made(rule)
    weights, biases, state = start(optimizer)
    both = optimizer.update_rows(weights, biases, state, gradients(5))
    state = optimizer.init(weights)
    alone, none, state = optimizer.update_rows(weights, None, state, gradients(5)._replace(biases=None))
    assert none is None and not any(name.startswith("biases") for name in state)
    assert_equal(alone, both[0])
    assert_equal(state, {name: both[2][name] for name in state})


def test_vmap_is_a_loop():
    optimizer = fastnce.jax.optim.Adam()
    arrays = [optimizer.update_rows(*start(optimizer), gradients(5, seed=seed)) for seed in (1, 2)]
    given = [gradients(5, seed=seed) for seed in (3, 4)]
    stack = partial(jax.tree.map, lambda *parts: jnp.stack(parts))
    together = jax.vmap(optimizer.update_rows)(*stack(*arrays), stack(*given))
    assert_equal(together, stack(*(optimizer.update_rows(*own, rows) for own, rows in zip(arrays, given, strict=True))))


def test_a_step_without_rows_is_one():
    optimizer = fastnce.jax.optim.Adam()
    arrays = start(optimizer)
    *after, state = jax.jit(optimizer.update_rows)(*arrays, gradients(5, rows=0))
    assert_equal(after, arrays[:2])
    assert_equal(state, {**arrays[2], "step": 1})


@pytest.mark.parametrize("shape", [(V, 0), (V, 1)])
@pytest.mark.parametrize("rule", EACH_KIND, ids=str)
def test_tables_may_have_few_columns(rule, shape):
    weights, biases = jnp.ones(shape), jnp.ones(V)
    optimizer = made(rule)
    after = optimizer.update_rows(weights, biases, optimizer.init(weights, biases), gradients(shape[1]))
    assert after[0].shape == shape and not np.array_equal(after[1], biases)


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_gradients_of_another_dtype_are_taken(dtype, ascending):
    optimizer = fastnce.jax.optim.Adagrad()
    rows = gradients(5)
    rows = rows._replace(ids=np.arange(len(rows.ids), dtype=np.int32)) if ascending else rows
    rounded = rows._replace(weights=rows.weights.astype(dtype), biases=rows.biases.astype(dtype))
    widened = rows._replace(weights=rounded.weights.astype(np.float32), biases=rounded.biases.astype(np.float32))
    assert_equal(*(optimizer.update_rows(*start(optimizer), given) for given in (rounded, widened)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_arguments_and_defaults_are_those_of_numpys(name):
    ours = inspect.signature(getattr(fastnce.jax.optim, name)).parameters
    theirs = dict(inspect.signature(getattr(fastnce.optim, name)).parameters)
    for of_tables in ("weights", "biases", "options"):
        del theirs[of_tables]
    for argument, parameter in theirs.items():
        assert (ours[argument].default, ours[argument].kind) == (parameter.default, parameter.kind), argument
    assert set(ours) - set(theirs) == {"weight_decay", "stochastic_rounding", "seed"}


def test_an_optimizer_may_be_copied_and_pickled():
    optimizer = fastnce.jax.optim.Adam(0.1, seed=3)
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert copied == optimizer and hash(copied) == hash(optimizer)
        results = [each.update_rows(*start(each), gradients(5)) for each in (optimizer, copied)]
        assert all(map(np.array_equal, *map(jax.tree.leaves, results)))


def test_an_optimizer_may_be_a_static_argument():
    step = jax.jit(lambda optimizer, *arguments: optimizer.update_rows(*arguments), static_argnums=0)
    for rate in (0.1, 0.1, 0.2):
        optimizer = fastnce.jax.optim.SGD(rate, 0.9)
        step(optimizer, *start(optimizer), gradients(5))
    assert step._cache_size() == 2


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda o: o.SGD(lr=-1.0), ValueError, "lr = -1: expected a finite number, at least 0"),
        (lambda o: o.SGD(lr="fast"), TypeError, "lr is a str: expected a number"),
        (lambda o: o.SGD(momentum=-0.1), ValueError, "momentum = -0.1: expected a finite number"),
        (lambda o: o.Adam(betas=(1.0, 0.9)), ValueError, r"betas[0] = 1: expected a number in [0, 1)"),
        (lambda o: o.Adagrad(lr_decay=-1), ValueError, "lr_decay = -1: expected a finite number"),
        (lambda o: o.Adam(weight_decay=np.inf), ValueError, "weight_decay = inf: expected a finite number"),
        (lambda o: jax.jit(lambda eps: o.Adam(eps=eps).eps)(1e-3), TypeError, "expected a number"),
        (lambda o: o.SGD(seed=0.5), TypeError, "seed is a float: expected an integer"),
    ],
)
def test_what_makes_no_optimizer_is_refused(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make(fastnce.jax.optim)


@pytest.mark.parametrize(
    ("of_tables", "error", "message"),
    [
        (lambda w, b: ([w, w], b), TypeError, "weights is a list: expected an array"),
        (lambda w, b: (w[0], b), ValueError, "weights has shape [5]: expected [V, D]"),
        (lambda w, b: (w, w), ValueError, "biases has shape [60, 5]: expected [V]"),
        (lambda w, b: (w.astype(int), b), TypeError, "weights has dtype int32: expected floating point"),
        (
            lambda w, b: (w.astype(jnp.float8_e4m3fn), b),
            TypeError,
            "weights has dtype float8_e4m3fn: expected float32, float64, float16 or bfloat16",
        ),
        (
            lambda w, b: (w, b.astype(jnp.float8_e4m3fn)),
            TypeError,
            "biases has dtype float8_e4m3fn: expected float32 or float16 or bfloat16, beside weights of float32",
        ),
    ],
)
def test_what_is_no_table_is_refused(of_tables, error, message):
    weights, biases, _ = start(fastnce.jax.optim.Adam())
    with pytest.raises(error, match=re.escape(message)):
        fastnce.jax.optim.Adam().init(*of_tables(weights, biases))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda w, b, s, r: (w, b, [s], r), TypeError, "state is a list: expected the dictionary that init returned"),
        (
            lambda w, b, s, r: (w, b, {"step": s["step"]}, r),
            ValueError,
            "state has the arrays ['step']: expected ['biases.sum', 'step', 'weights.sum'], of the init of a "
            "RowwiseAdagrad with weights and biases",
        ),
        (
            lambda w, b, s, r: (w, b, s | {"weights.sum": w}, r),
            ValueError,
            "state['weights.sum'] has shape [60, 5]: expected [60]",
        ),
        (
            lambda w, b, s, r: (w, b, s | {"weights.sum": b.astype(jnp.bfloat16)}, r),
            TypeError,
            "state['weights.sum'] has dtype bfloat16: expected float32",
        ),
        (
            lambda w, b, s, r: (w, b, s | {"step": b}, r),
            ValueError,
            "state['step'] is float32[60]: expected an integer",
        ),
        (lambda w, b, s, r: (w, b, s, r[0]), TypeError, "rows is a"),
        (lambda w, b, s, r: (w, b, s, r._replace(biases=None)), TypeError, "rows.biases is None: expected an array"),
        (lambda w, b, s, r: (w[:, :4], b, s, r), ValueError, "weights has shape [60, 4], but rows.weights has shape"),
        (lambda w, b, s, r: (w, b, s, r._replace(ids=r.ids[:3])), ValueError, "for ids of shape [3]"),
    ],
)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_states_and_rows_that_do_not_fit_are_refused(change, error, message, transform):
    optimizer = fastnce.jax.optim.RowwiseAdagrad()
    given = change(*start(optimizer), jax.tree.map(jnp.asarray, gradients(5)))
    with pytest.raises(error, match=re.escape(message)):
        transform(lambda: optimizer.update_rows(*given))()


@pytest.mark.parametrize(
    ("rate", "error", "message"),
    [
        (np.zeros(3), ValueError, r"lr has shape [3]: expected a scalar"),
        ("fast", TypeError, "lr is a str: expected a number"),
    ],
)
def test_a_schedule_that_returns_no_number_is_refused(rate, error, message):
    optimizer = fastnce.jax.optim.SGD(lr=lambda step: rate)
    with pytest.raises(error, match=re.escape(message)):
        optimizer.update_rows(*start(optimizer), gradients(5))


@pytest.mark.parametrize("wrong", [V, -1])
def test_ids_that_are_no_rows_are_refused(wrong):
    optimizer = fastnce.jax.optim.Adam()
    rows = gradients(5)
    rows.ids[7] = wrong
    with pytest.raises(RUN_TIME_ERRORS, match=rf"ids\[7\] = {wrong} is outside \[0, num_classes = 60\)"):
        jax.block_until_ready(jax.jit(optimizer.update_rows)(*start(optimizer), rows))


@pytest.mark.parametrize("rate", [-1.0, np.nan, np.inf])
def test_traced_rates_out_of_range_are_refused(rate):
    optimizer = fastnce.jax.optim.SGD(lr=lambda step: jnp.float32(rate) * step)
    with pytest.raises(RUN_TIME_ERRORS, match=rf"lr = {rate:g}: expected a finite number, at least 0"):
        jax.block_until_ready(jax.jit(optimizer.update_rows)(*start(optimizer), gradients(5)))


def test_a_step_is_not_differentiable():
    optimizer = fastnce.jax.optim.SGD()
    weights, biases, state = start(optimizer)
    with pytest.raises(ValueError, match="FFI"):
        jax.grad(lambda weights: optimizer.update_rows(weights, biases, state, gradients(5))[0].sum())(weights)


def test_a_step_is_lowered_for_cuda_devices_too():
    optimizer = fastnce.jax.optim.Adam()
    traced = jax.jit(optimizer.update_rows).trace(*start(optimizer), gradients(5))
    assert "fastnce_update_rows" in traced.lower(lowering_platforms=("cuda",)).as_text()


def direct_call(weights=(V, 5), sums=(V, 5), rows=(3, 5), rate=(), step=(), states=1, kind="adagrad"):
    """The handler without fastnce.jax: it refuses shapes that do not fit, since XLA's buffers have no other guard."""
    table, state = jax.ShapeDtypeStruct(weights, jnp.float32), jax.ShapeDtypeStruct(sums, jnp.float32)
    call = jax.ffi.ffi_call("fastnce_update_rows", (table, *[state] * states))
    operands = [jnp.arange(3), jnp.full(rate, 0.5), jnp.ones(step, int), jnp.ones(weights), jnp.ones(rows)]
    return jax.block_until_ready(call(*operands, *[jnp.ones(sums)] * states, kind=kind))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sums": (V, 4)}, "a state has 240 elements: expected 300"),
        ({"rows": (2, 5)}, "gradients of rows have 10 elements: expected 15"),
        ({"rate": (2,)}, "the learning rate has 2 elements: expected 1"),
        ({"step": (0,)}, "the step has 0 elements: expected 1"),
        ({"states": 2}, "2 states of a table: expected 1"),
        ({"kind": "lion"}, "optimizer = 'lion': expected one of 'sgd'"),
    ],
)
def test_the_handler_refuses_what_does_not_fit(changes, message):
    direct_call()
    with pytest.raises(RUN_TIME_ERRORS, match=re.escape(message)):
        direct_call(**changes)


def test_the_table_of_rules_has_these_optimizers():
    for rules in (EVERY_RULE, EACH_KIND):
        assert {rule.optimizer.__name__ for rule in rules} == set(OPTIMIZERS)
