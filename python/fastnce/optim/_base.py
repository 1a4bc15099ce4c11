"""What all optimizers share: tables, states, steps."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, SupportsFloat, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from fastnce import _core
from fastnce._arrays import require_writable
from fastnce._devices import cuda_device_of
from fastnce._errors import is_a, number
from fastnce._seed import Seed, rounding_seed
from fastnce._types import DLPackArray, FloatsLike, IdsLike, PartitionStrategy, Table

Schedule: TypeAlias = float | Callable[[int], SupportsFloat]
"""A learning rate, or a function of the number of the step, from 1, that returns it."""

State: TypeAlias = dict[str, Any]

_DEFAULTS: dict[str, Any] = {
    "weight_decay": 0.0,
    "partition_strategy": "div",
    "stochastic_rounding": True,
    "seed": 1,
    "state": None,
}


_MOST_STEPS = 2**62


class Options(TypedDict, total=False):
    """Of every optimizer."""

    weight_decay: float
    partition_strategy: PartitionStrategy
    stochastic_rounding: bool | np.bool
    seed: Seed
    state: Mapping[str, npt.ArrayLike] | None


class Optimizer:
    """An optimizer of one class table and its biases. Use :class:`SGD`, :class:`Adagrad`, :class:`RowwiseAdagrad` or
    :class:`Adam`.

    A step updates the rows that it touches and leaves all others, and their states, as they are. Gradients of a row
    that occurs twice are added up first, so that it takes one step.

    Attributes:
        weights: The table, as given.
        biases: The biases, as given, or ``None``.
        lr: The learning rate, or its schedule. May be set between steps.
        state: All that a checkpoint has to keep beside the tables: NumPy arrays by name, as ``numpy.savez(**state)``
            takes them, or arrays of the table's library on a CUDA device. ``"step"`` is the number of steps made, int64
            ``[]``, in NumPy. :meth:`load_state` copies others into them.
    """

    _states: ClassVar[tuple[str, ...]] = ()
    """Names of the arrays that are kept for each table, in the core's order."""

    def __init__(
        self,
        kind: str,
        weights: Table,
        biases: Table | None,
        lr: Schedule,
        options: Options,
        initial_state: float = 0.0,
        **numbers: float,
    ) -> None:
        given: dict[str, Any] = {**_DEFAULTS, **options}
        if unknown := set(given) - set(_DEFAULTS):
            raise TypeError(
                f"{type(self).__name__} has no argument {min(unknown)}: expected one of {_argument_names(type(self))}"
            )
        self.weights = weights
        self.biases = biases
        self.lr = lr
        self._kind = kind
        numbers["weight_decay"] = given["weight_decay"]
        self._numbers = {name: number(value, name) for name, value in numbers.items()}
        self._partition_strategy = given["partition_strategy"]
        self._rounding_seed = rounding_seed(given["seed"]) if given["stochastic_rounding"] else None
        self._require_writable()
        self._device = self._find_device()
        with self._current_device():
            self.state: State = self._initial_state(kind, initial_state)
            self._make_core()
            self._core.check_tables(self._fields())
        if given["state"] is not None:
            self.load_state(given["state"])

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which have arrays of their own for the core to borrow."""
        return {name: value for name, value in vars(self).items() if name not in ("_arrays", "_core", "_device")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._device = self._find_device()
        with self._current_device():
            self._make_core()

    def _find_device(self) -> Any:
        shards = _shards(self.weights, "weights")
        return cuda_device_of(shards[0][0], "weights", 0) if shards else None

    def _current_device(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if self._device is None else self._device.current()

    def _make_core(self) -> None:
        self._arrays = dict(self.state)
        self._core = _core.Optimizer(
            self._kind,
            tuple(self.state[f"weights.{name}"] for name in self._states),
            None if self.biases is None else tuple(self.state[f"biases.{name}"] for name in self._states),
            self._device,
            (self.state["step"],),
        )
        self._set(int(self.state["step"]) + 1)  # refuses numbers that are out of range, before the first step

    def _require_writable(self) -> None:
        for table, name in ((self.weights, "weights"), (self.biases, "biases")):
            for shard, own_name in () if table is None else _shards(table, name):
                require_writable(shard, own_name)

    def _initial_state(self, kind: str, value: float) -> State:
        _, rowwise = _core.optimizer_states(kind)
        rows, width, wide = _core.table_shape(self.weights, "weights", True, self._device)
        shapes = {"weights": (rows,) if rowwise else (rows, width)}
        if self.biases is not None:
            shapes["biases"] = (_core.table_shape(self.biases, "biases", False, self._device)[0],)
        state: State = {"step": np.zeros((), np.int64)}
        for table, shape in shapes.items():
            for name in self._states:
                state[f"{table}.{name}"] = self._full(shape, value, np.float64 if wide else np.float32)
        return state

    def _full(self, shape: tuple[int, ...], value: float, dtype: type[np.floating[Any]]) -> Any:
        if self._device is not None:
            return self._device.full(shape, value)
        # zeros() takes memory of the operating system as rows are touched.
        return np.full(shape, value, dtype) if value else np.zeros(shape, dtype)

    def _set(self, step: int) -> None:
        rate = number(self.lr(step) if callable(self.lr) else self.lr, "lr")
        self._core.set(lr=self._rate(rate, step), step=step, rounding_seed=self._rounding_seed, **self._numbers)

    def _rate(self, lr: float, step: int) -> float:
        return lr

    def next_step(self, fields: dict[str, Any]) -> Any:
        """What the core needs of the next step of a call with these ``fields``. It counts the step once it is made."""
        for name, own in (("weights", self.weights), ("biases", self.biases)):
            if fields[name] is not own:
                raise ValueError(f"{name} is not the table of the optimizer: expected optimizer.{name}")
        if fields["partition_strategy"] != self._partition_strategy:
            raise ValueError(
                f"partition_strategy = {fields['partition_strategy']!r}: expected that of the optimizer, "
                f"{self._partition_strategy!r}"
            )
        self._require_writable()
        for name, array in self._arrays.items():
            if self.state.get(name) is not array:
                raise ValueError(
                    f"state[{name!r}] is not the array that the optimizer made: expected that one, with other numbers "
                    "written to it, as load_state() does"
                )
        self._set(int(self.state["step"]) + 1)
        return self._core

    def update_rows(self, ids: IdsLike, rows: DLPackArray | None, bias_rows: FloatsLike | None = None) -> None:
        """Makes a step with gradients that were computed before, here or anywhere else.

        Args:
            ids: ``[n]`` integer classes in [0, V), in any order. Gradients of an id that occurs several times are
                added up.
            rows: ``[n, D]`` gradients of rows of the weights, of any floating dtype beside float64 where tables are
                narrower; ``None`` updates the biases alone.
            bias_rows: ``[n]`` gradients of the biases; ``None`` leaves them as they are.

        Raises:
            ValueError: Shapes that do not fit, classes out of range, ``bias_rows`` without biases, gradients in the
                memory of the tables.
            TypeError: Unsupported dtypes.
        """
        if bias_rows is not None and self.biases is None:
            raise ValueError("bias_rows are given, but the optimizer has no biases: expected None")
        if rows is None and bias_rows is None:
            raise ValueError("rows and bias_rows are None: expected the gradients of weights, of biases, or both")
        fields = self._fields()
        on_device = contextlib.nullcontext() if self._device is None else self._device.call(ids, rows, bias_rows)
        step = self.next_step(fields)
        with on_device:
            step.update_rows(fields, ids, rows, bias_rows)

    def _fields(self) -> dict[str, Any]:
        return {
            "weights": self.weights,
            "biases": self.biases,
            "partition_strategy": self._partition_strategy,
            "device": self._device,
        }

    def load_state(self, state: Mapping[str, npt.ArrayLike]) -> None:
        """Copies a saved :attr:`state` into this one.

        Args:
            state: The arrays of :attr:`state` by name, as a dictionary or what ``numpy.load`` returns.

        Raises:
            ValueError: Names or shapes that are not those of this optimizer, a negative step.
            TypeError: Dtypes that are not those of this optimizer, a state that is no mapping.

        Nothing is changed by a state that is refused.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state {is_a(state)}: expected arrays by name, as optimizer.state has them")
        given = set(state)
        if given != set(self.state):
            raise ValueError(
                f"state has the arrays {sorted(given)}: expected {sorted(self.state)}, of a {type(self).__name__} of "
                f"{'weights alone' if self.biases is None else 'weights and biases'}"
            )
        arrays: dict[str, Any] = {name: state[name] for name in self.state}
        for name, array in arrays.items():
            own = self.state[name]
            if np.shape(array) != tuple(own.shape):
                raise ValueError(f"state[{name!r}] has shape {list(np.shape(array))}: expected {list(own.shape)}")
            if isinstance(own, np.ndarray) and not np.can_cast(np.asarray(array).dtype, own.dtype, "same_kind"):
                raise TypeError(f"state[{name!r}] has dtype {np.asarray(array).dtype}: expected {own.dtype}")
        if not 0 <= int(arrays["step"]) < _MOST_STEPS:
            raise ValueError(f"state['step'] = {arrays['step']}: expected at least 0, below 2^62")
        for name, array in arrays.items():
            own = self.state[name]
            if self._device is None or name == "step":
                np.copyto(own, array)
            else:
                self._device.assign(own, array)


def _argument_names(kind: type[Optimizer]) -> str:
    named = [each.name for each in inspect.signature(kind).parameters.values() if each.kind is not each.VAR_KEYWORD]
    return ", ".join([*named, *_DEFAULTS])


def require_optimizer(optimizer: object) -> None:
    """Refuses what is none of ours, such as an optimizer of PyTorch."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer {is_a(optimizer)}: expected one of fastnce.optim")


def _shards(table: Table, name: str) -> list[tuple[Any, str]]:
    """The shards of a table with their names."""
    if isinstance(table, list | tuple):
        return [(shard, f"{name}[{i}]") for i, shard in enumerate(table)]
    return [(table, name)]
