"""What all optimizers share: states, checks, steps.

What an optimizer keeps, what its numbers are and which it refuses is known by that of :mod:`fastnce.optim`: each makes
one, of a table of one row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fastnce import optim
from fastnce._errors import is_a
from fastnce._seed import Seed
from fastnce._types import RowGrads
from fastnce.jax._arguments import compute_dtype, floating, number, require_array
from fastnce.jax._handlers import update_rows
from fastnce.jax._rows import checked
from fastnce.jax._varying import axes_of, vary

Schedule: TypeAlias = Any | Callable[[Any], Any]
"""A learning rate, or a function of the number of the step, from 1, that returns it. Either may be traced."""

State: TypeAlias = dict[str, Any]

_NARROW = (jnp.float32, jnp.float16, jnp.bfloat16)


@dataclass(frozen=True)
class Optimizer:
    """An optimizer of a class table and its biases. Use :class:`SGD`, :class:`Adagrad`, :class:`RowwiseAdagrad` or
    :class:`Adam`.

    It holds numbers alone, never changes, and is hashable if its learning rate is: it may be closed over, or made where
    a learning rate is traced.

    A step updates the rows that it touches and leaves all others, and their states, as they are. Gradients of a row
    that occurs twice are added up first, so that it takes one step.

    On a CUDA device a step waits for its learning rate and its number, which the host needs. Ids out of range are an
    error on the CPU; there they are left out, and :func:`fastnce.cuda.check` reports them.
    """

    _of: ClassVar[Any]
    """The class of :mod:`fastnce.optim`."""
    lr: Schedule
    weight_decay: float = field(default=0.0, kw_only=True)
    stochastic_rounding: bool = field(default=True, kw_only=True)
    seed: Seed = field(default=1, kw_only=True)
    _numpy: optim.Optimizer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        options = {of.name: getattr(self, of.name) for of in fields(self) if of.init}
        if isinstance(self.lr, jax.Array) or callable(self.lr):
            options["lr"] = 0.0  # what it is will be known in each step
        object.__setattr__(self, "_numpy", self._of(np.zeros((1, 1)), np.zeros(1), **options))

    def init(self, weights: Any, biases: Any = None) -> State:
        """The state before the first step.

        Args:
            weights: ``[V, D]``; float32, float64, float16 or bfloat16.
            biases: ``[V]``, or ``None``.

        Returns:
            Arrays by name, those of :attr:`fastnce.optim.Optimizer.state`, from which and for which they may be saved:
            ``"step"``, the number of steps made, int32 ``[]``, and the states of each table, such as ``"weights.sum"``,
            float32, of float64 tables float64. Where rows are spread over devices, so are those of the states; the step
            is the same on all.

        Raises:
            ValueError: Shapes that are no tables'.
            TypeError: Arguments of the wrong kind, dtypes that are not supported.
        """
        tables = {"weights": floating(weights, "weights")}
        if biases is not None:
            tables["biases"] = floating(biases, "biases")

        def initial(name: str, like: jax.ShapeDtypeStruct) -> Any:
            table, value = tables[name.partition(".")[0]], float(self._numpy.state[name].flat[0])
            return vary(axes_of(table), jnp.full_like(table, value, like.dtype, shape=like.shape))

        states = {name: initial(name, like) for name, like in self._states_of(tables).items()}
        return {"step": jnp.zeros((), jnp.int32), **states}

    def update_rows(self, weights: Any, biases: Any, state: State, rows: RowGrads) -> tuple[Any, Any, State]:
        """A step. A pure function: it returns new tables and a new state.

        Under a ``jit`` to which tables and state are donated (``donate_argnums``), XLA updates them in place, in
        O(rows); otherwise it copies them first.

        Args:
            weights: ``[V, D]``.
            biases: ``[V]``; ``None`` where ``rows`` has none.
            state: What :meth:`init` returned for tables like these, or the last step.
            rows: Gradients of rows, as :func:`fastnce.jax.nce_value_and_rows` returns them, or with ids in any order.
                Gradients of an id that occurs several times are added up: padding, which repeats the last id with
                gradients of zero, changes nothing. If all rows have one id and gradients of zero, as those of a batch
                without classes, all of them are padding.

        Returns:
            ``(weights, biases, state)``. The step of a 16-bit table is computed in float32 and rounded once, at random
            or to nearest. The same seed, step, row and gradient give the same numbers, to the bit.

        Raises:
            ValueError: When traced: rows or a state that do not fit the tables, a learning rate that is no scalar.
            TypeError: When traced: arguments of the wrong kind, dtypes that are not supported.
            jax.errors.JaxRuntimeError: When run: an id that is no row of the tables (on the CPU), a learning rate that
                is negative or not finite, float64 tables on a CUDA device.
        """
        weights, biases, rows = checked(weights, biases, rows)
        tables = {"weights": weights} if biases is None else {"weights": weights, "biases": biases}
        state = self._checked_state(state, tables)
        step = state["step"] + 1
        lr = number(self.lr(step) if callable(self.lr) else self.lr, "lr")
        new = {**tables, **state, "step": step}
        if rows.ids.size:
            parts = {table: [table, *self._names(table)] for table in tables}
            updated = update_rows(
                self._numpy._kind,
                self._numpy._numbers,
                self._numpy._rounding_seed,
                rows.ids,
                self._numpy._rate(jnp.asarray(lr, jnp.result_type(float)), step),
                step,
                [
                    (_gradients(table, getattr(rows, table), weights), [new[name] for name in parts[table]])
                    for table in tables
                ],
            )
            for table, arrays in zip(tables, updated, strict=True):
                new |= zip(parts[table], arrays, strict=True)
        return new.pop("weights"), new.pop("biases", None), new

    def _states_of(self, tables: dict[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the states by name, if these are tables."""
        for table, array in tables.items():
            expected, rank = ("[V, D]", 2) if table == "weights" else ("[V]", 1)
            if array.ndim != rank:
                raise ValueError(f"{table} has shape {list(array.shape)}: expected {expected}")
        weights = tables["weights"]
        if weights.dtype not in (*_NARROW, jnp.float64):
            raise TypeError(f"weights has dtype {weights.dtype}: expected float32, float64, float16 or bfloat16")
        biases = tables.get("biases", weights)
        if biases.dtype not in _beside(weights):
            names = " or ".join(np.dtype(dtype).name for dtype in _beside(weights))
            raise TypeError(f"biases has dtype {biases.dtype}: expected {names}, beside weights of {weights.dtype}")
        return {
            name: jax.ShapeDtypeStruct(array.shape[: self._numpy.state[name].ndim], compute_dtype(weights))
            for table, array in tables.items()
            for name in self._names(table)
        }

    def _names(self, table: str) -> list[str]:
        """Of the states of a table, in the core's order."""
        return [f"{table}.{name}" for name in self._numpy._states]

    def _checked_state(self, state: Any, tables: dict[str, Any]) -> State:
        """The state as JAX arrays, if it is one of this optimizer and of these tables."""
        if not isinstance(state, dict):
            raise TypeError(f"state {is_a(state)}: expected the dictionary that init returned")
        expected = self._states_of(tables)
        if set(state) != {"step", *expected}:
            raise ValueError(
                f"state has the arrays {sorted(state)}: expected {sorted(['step', *expected])}, of the init of a "
                f"{type(self).__name__} with {' and '.join(tables)}"
            )
        require_array(state["step"], "state['step']")
        arrays = {"step": jnp.asarray(state["step"])}
        if arrays["step"].shape or not jnp.issubdtype(arrays["step"].dtype, jnp.integer):
            raise ValueError(f"state['step'] is {arrays['step'].aval.str_short()}: expected an integer")
        for name, like in expected.items():
            array = arrays[name] = floating(state[name], f"state[{name!r}]")
            if array.shape != like.shape:
                raise ValueError(f"state[{name!r}] has shape {list(array.shape)}: expected {list(like.shape)}")
            if array.dtype != like.dtype:
                raise TypeError(f"state[{name!r}] has dtype {array.dtype}: expected {like.dtype}")
        return arrays


def _beside(weights: Any) -> tuple[Any, ...]:
    """The dtypes that biases and gradients may have."""
    return (jnp.float64,) if weights.dtype == jnp.float64 else _NARROW


def _gradients(table: str, rows: Any, weights: Any) -> Any:
    """As the handler takes them: those of biases are not of 16 bits."""
    narrow = table == "weights" and rows.dtype in _beside(weights)
    return rows if narrow else rows.astype(compute_dtype(weights))
