"""What several devices compute over a table that is spread over them, against one device with the whole table."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

import fastnce
from jax_arrays import enable_x64, jax, jnp
from jax_meshes import P, mapped, mesh_of, sharded
from tolerances import JAX_SHARDED_RELATIVE

D, BATCH = 9, 8
LOSSES = {
    "nce": (sharded.nce_loss, sharded.nce_value_and_rows, fastnce.jax.nce_loss),
    "softmax": (sharded.sampled_softmax_loss, sharded.sampled_softmax_value_and_rows, fastnce.jax.sampled_softmax_loss),
    "negative": (
        sharded.negative_sampling_loss,
        sharded.negative_sampling_value_and_rows,
        fastnce.jax.negative_sampling_loss,
    ),
}


@dataclass(frozen=True)
class Case:
    """One setting of each option."""

    devices: int = 4
    loss: str = "nce"
    labels: str = "one"
    dtype: str = "float32"
    samples: str = "key"
    classes: int = 61
    sampled: int = 13
    batch: int = BATCH
    hits: bool = True
    padding: int | None = -1
    biases: bool = True
    weighted: bool = False
    exclude: bool = False
    checked: bool = True

    @property
    def name(self) -> str:
        """What differs from the default."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return " ".join(f"{name}={value}" for name, value in given.items() if value != getattr(Case, name)) or "default"


CASES = [
    Case(devices=1),
    Case(devices=1, loss="softmax", labels="three"),
    Case(devices=2, labels="three", padding=3),
    Case(devices=2, loss="softmax"),
    Case(devices=4, loss="softmax", labels="three"),
    Case(loss="softmax", dtype="bfloat16"),
    Case(labels="three", dtype="bfloat16", hits=False, biases=False),
    Case(devices=2, dtype="float64", labels="three", weighted=True),
    Case(labels="lists", exclude=True),
    Case(devices=2, loss="softmax", labels="lists", weighted=True, checked=False),
    Case(labels="axes", padding=None, exclude=True),
    Case(loss="negative", labels="three", samples="given", weighted=True, classes=60),
    Case(samples="given", labels="three"),
    Case(devices=2, samples="unigram"),
    Case(samples="callable", labels="three", hits=False, padding=2**40),
    Case(classes=3, sampled=2),
    Case(classes=1, sampled=1, labels="three"),
    Case(loss="softmax", classes=7, sampled=7, labels="three"),
    Case(sampled=60, batch=4, labels="three", checked=False),
    Case(classes=1200, sampled=5, batch=256, labels="one owner"),
    Case(devices=2, loss="softmax", labels="all padding"),
    Case(labels="padding on one device", dtype="bfloat16"),
    Case(batch=0),
    Case(batch=0, loss="softmax", labels="lists", exclude=True),
]


def close(name: str, got: Any, expected: Any, dtype: str) -> None:
    assert got.shape == expected.shape, f"{name}: shape {list(got.shape)}, expected {list(expected.shape)}"
    assert got.dtype == expected.dtype, f"{name}: dtype {got.dtype}, expected {expected.dtype}"
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    largest, error = np.abs(expected).max(initial=0), np.abs(got - expected).max(initial=0)
    assert error <= JAX_SHARDED_RELATIVE[dtype] * largest, f"{name}: off by {error:.3g} of {largest:.3g}"


class Problem:
    """Arrays of all devices together, and the same arguments for the whole table and for each device."""

    def __init__(self, case: Case) -> None:
        self.case, random = case, np.random.default_rng(3)
        dtype = jnp.dtype(case.dtype)
        self.weights = jnp.asarray(random.normal(size=(case.classes, D)), dtype)
        self.biases = jnp.asarray(random.normal(size=case.classes), dtype) if case.biases else None
        shape = (case.batch // 2, 2) if case.labels == "axes" else (case.batch,)
        self.inputs = jnp.asarray(random.normal(size=(*shape, D)), dtype)
        self.upstream = jnp.asarray(random.uniform(0.5, 1.5, shape), jnp.promote_types(dtype, jnp.float32))
        self.num_true = 3 if case.labels == "three" else 1
        self.labels = self._labels(random, shape)
        values = self.labels.values if case.labels == "lists" else self.labels
        self.label_weights = random.uniform(0.5, 1.5, values.shape).astype(np.float32) if case.weighted else None
        self.exclude = self._lists(random) if case.exclude else None

    def _ids(self, random: np.random.Generator, *shape: int) -> Any:
        return (self.case.classes * random.random(shape) ** 3).astype(int)  # small ones often, as hits need

    def _padded(self, random: np.random.Generator, ids: Any) -> Any:
        padding = self.case.padding
        if padding is None or padding >= 2**31:  # none of JAX's labels is that
            return ids
        return np.where(random.random(ids.shape) < 0.3, padding, ids)

    def _labels(self, random: np.random.Generator, shape: tuple[int, ...]) -> Any:
        kind, devices = self.case.labels, self.case.devices
        if kind == "lists":
            lists = self._lists(random)
            return lists._replace(values=self._padded(random, lists.values))
        if kind == "one owner":  # distinct classes of the last device
            return devices - 1 + devices * (np.arange(self.case.batch) % (self.case.classes // devices))
        labels = self._padded(random, self._ids(random, *shape, *([3] if kind == "three" else [])))
        if kind == "all padding":
            labels[:] = -1
        if kind == "padding on one device":
            labels[-(self.case.batch // devices) :] = -1
        return labels

    def _lists(self, random: np.random.Generator) -> fastnce.Ragged:
        """Lists of 0 to 3 classes, with room for one more on each device, which holds what is no class."""
        devices = self.case.devices
        rows = self.case.batch // devices
        lengths = random.integers(0, 4, (devices, rows))
        offsets = np.concatenate([np.zeros((devices, 1), int), lengths.cumsum(axis=1)], axis=1)
        values = self._ids(random, devices, 3 * rows + 1)
        values = np.where(np.arange(3 * rows + 1) < offsets[:, -1:], values, self.case.classes + 5)
        return fastnce.Ragged(values.reshape(-1), offsets.reshape(-1))

    def joined(self, lists: Any) -> Any:
        """The lists of all devices; of anything else, the same."""
        if not isinstance(lists, fastnce.Ragged):
            return lists
        values, offsets = (np.reshape(array, (self.case.devices, -1)) for array in lists)
        used = np.arange(values.shape[1]) < offsets[:, -1:]
        lengths = np.diff(offsets, axis=1).reshape(-1)
        return fastnce.Ragged(values[used], np.concatenate([[0], lengths.cumsum()]))

    def static(self) -> dict[str, Any]:
        case = self.case
        static = {"num_true": self.num_true, "remove_accidental_hits": case.hits}
        if case.padding is not None:
            static["padding"] = case.padding
        if case.loss == "negative":
            return {**static, "negative_weight": 0.7}
        return {**static, "num_sampled": case.sampled, "num_classes": case.classes}

    def samples(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arguments that decide the samples: arrays, the same on all devices or with rows of each; and others."""
        case, key = self.case, jax.random.key(11)
        if case.samples == "key":
            return {}, {"key": key}
        if case.samples == "unigram":
            counts = range(case.classes, 0, -1)
            sampler = fastnce.UnigramSampler.from_counts(counts, num_sampled=case.sampled)
            return {}, {"key": key, "sampled_values": sampler}
        arguments = (self.num_true, case.sampled, True, case.classes)
        if case.samples == "callable":
            draw = fastnce.jax.log_uniform_candidate_sampler
            return {}, {"sampled_values": lambda labels: draw(labels, *arguments, key=key)}
        labels = np.maximum(np.asarray(self.labels), 0)
        with_repetition = (self.num_true, case.sampled, False, case.classes)
        values = fastnce.jax.log_uniform_candidate_sampler(labels, *with_repetition, key=key)
        assert len(np.unique(values.sampled_candidates)) < case.sampled
        if case.loss == "negative":
            return {"sampled_candidates": values.sampled_candidates}, {}
        return {"sampled_values": values}, {}

    def arrays(self, whole: bool) -> dict[str, Any]:
        lists = self.joined if whole else lambda lists: lists
        weights = self.label_weights
        if whole and weights is not None and self.case.labels == "lists":
            values, offsets = (np.reshape(array, (self.case.devices, -1)) for array in self.labels)
            weights = weights[(np.arange(values.shape[1]) < offsets[:, -1:]).reshape(-1)]
        arrays = {"labels": lists(self.labels), "label_weights": weights, "exclude": lists(self.exclude)}
        given, _ = self.samples()
        return jax.tree.map(jnp.asarray, {**{k: v for k, v in arrays.items() if v is not None}, **given})


def specs_of(arrays: dict[str, Any]) -> dict[str, Any]:
    """How the arrays are spread: samples are the same on all devices, all else has rows of each."""
    specs = jax.tree.map(lambda _: P("rows"), arrays)
    if "sampled_candidates" in specs:
        specs["sampled_candidates"] = P()
    if "sampled_values" in specs:
        specs["sampled_values"] = fastnce.SampledValues(P(), P("rows"), P())
    return specs


def run(case: Case) -> None:
    """Losses, gradients by ``grad`` and as rows, and updated tables."""
    with enable_x64(case.dtype == "float64"):
        _run(case, Problem(case))


def _run(case: Case, problem: Problem) -> None:
    loss, with_rows, of_whole = LOSSES[case.loss]
    static = {**problem.static(), **problem.samples()[1]}
    tables = (problem.weights, problem.biases, problem.inputs)
    wanted = (0, 1, 2) if case.biases else (0, 2)
    whole, arrays = problem.arrays(whole=True), problem.arrays(whole=False)

    @functools.partial(jax.grad, argnums=wanted, has_aux=True)
    def of_whole_table(weights: Any, biases: Any, inputs: Any) -> Any:
        losses = of_whole(weights=weights, biases=biases, inputs=inputs, **whole, **static)
        return (losses * problem.upstream).sum(), losses

    grads, losses = jax.jit(of_whole_table)(*tables)
    expected = dict(zip(wanted, grads, strict=True))
    mesh = mesh_of(case.devices)
    in_specs = (P("rows"), P("rows") if case.biases else None, P("rows"), P("rows"), specs_of(arrays))
    spread = functools.partial(mapped, mesh=mesh, checked=case.checked, in_specs=in_specs, out_specs=P("rows"))
    own = [None if table is None else sharded.shard_rows(table, case.devices) for table in tables[:2]]

    @spread
    def losses_of(weights: Any, biases: Any, inputs: Any, _: Any, arrays: Any) -> Any:
        return loss(weights=weights, biases=biases, inputs=inputs, **arrays, **static, axis_name="rows")

    @spread
    def rows_of(weights: Any, biases: Any, inputs: Any, upstream: Any, arrays: Any) -> Any:
        place = {"axis_name": "rows", "grad_loss": upstream}
        return with_rows(weights=weights, biases=biases, inputs=inputs, **arrays, **static, **place)

    @jax.jit
    def both(*tables: Any) -> Any:
        def total(*tables: Any) -> Any:
            losses = losses_of(*tables, problem.upstream, arrays)
            return (losses * problem.upstream).sum(), losses

        return jax.grad(total, wanted, has_aux=True)(*tables), rows_of(*tables, problem.upstream, arrays)

    (ours, got), (loss_beside_rows, dinputs, rows) = both(*own, problem.inputs)
    close("loss", got, losses, case.dtype)
    for i, grad in zip(wanted, ours, strict=True):
        natural = grad if i == 2 else sharded.natural_rows(grad, case.devices, case.classes)
        close(f"gradient {i}", natural, expected[i], case.dtype)

    close("loss beside rows", loss_beside_rows, losses, case.dtype)
    close("gradient of inputs beside rows", dinputs, expected[2], case.dtype)
    ids = np.asarray(rows.ids).reshape(case.devices, -1)
    for i, (table, grad) in enumerate(zip(own, (rows.weights, rows.biases), strict=True)):
        if table is None:
            assert grad is None
            continue
        dense = np.zeros((case.devices, len(table) // case.devices, *table.shape[1:]))
        for device in range(case.devices):
            # Later rows of the same id would be added twice if they were not zeros.
            np.add.at(
                dense[device], ids[device], np.asarray(grad, np.float64).reshape(*ids.shape, *grad.shape[1:])[device]
            )
        natural = sharded.natural_rows(jnp.asarray(dense.reshape(table.shape), table.dtype), case.devices, case.classes)
        close(f"rows of table {i}", natural, expected[i], case.dtype)
    for of_device in ids:
        assert (np.diff(of_device) >= 0).all(), of_device
        assert 0 <= of_device.min(initial=0) <= of_device.max(initial=0) < len(own[0]) // case.devices, of_device
