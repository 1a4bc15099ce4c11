"""Arrays on a CUDA device come in through DLPack, are worked on in place, and results are their framework's."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest

import cuda_arrays
import fastnce
from cases import Case, assert_matches_twin
from cuda_arrays import EMULATED, HostBackedCudaArray, read_device_array
from fastnce import _core, _devices
from lending import CUDA, LegacyProducer

PROBLEM = Case(batch=6, dim=5, sampled=7, num_true=2).problem()
NAMES = ("weights", "biases", "labels", "inputs")

emulated = pytest.mark.skipif(not EMULATED, reason="looks into the memory of an emulated device")
cuda = pytest.mark.cuda


# ---- without a device --------------------------------------------------------------------------------------


def test_the_devices_and_what_is_missing_are_told(capsys):
    reason = fastnce.cuda.unavailable_reason()
    assert fastnce.cuda.is_available() == (not reason)
    devices = fastnce.cuda.devices()
    assert bool(devices) == fastnce.cuda.is_available()
    for device in devices:
        assert device.name and device.compute_capability >= (0, 0)
        assert device.multiprocessors > 0 and device.memory_bytes > 0
    fastnce.show_config()
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("CUDA"))
    config = fastnce.config()["cuda"]
    if config is False:
        assert line.split(maxsplit=1)[1] == "built without CUDA"
    elif reason:
        assert reason == config and line.split(maxsplit=1)[1] == f"unavailable: {reason}"
    else:
        assert devices[0].name in line and "GiB" in line


@pytest.mark.skipif(fastnce.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_arrays_are_refused_with_the_reason():
    reason = fastnce.cuda.unavailable_reason()
    lent = HostBackedCudaArray(PROBLEM.inputs)
    with pytest.raises(ValueError, match=f"inputs is on device cuda:0: expected cpu.*{reason}"):
        PROBLEM.solve(inputs=lent)
    with pytest.raises(ValueError, match=f"true_classes is on device cuda:0: expected cpu.*{reason}"):
        fastnce.log_uniform_candidate_sampler(HostBackedCudaArray(PROBLEM.labels), 2, 4, True, 50)
    assert lent.lent == 0
    with pytest.raises(ValueError, match=reason):
        fastnce.cuda.check()


def test_accidental_hits_are_found_on_the_cpu_only():
    lent = HostBackedCudaArray(PROBLEM.labels)
    for arguments in ((lent, PROBLEM.sampled_values[0]), (PROBLEM.labels, HostBackedCudaArray(PROBLEM.labels[:, 0]))):
        with pytest.raises(ValueError, match=r"is on device cuda:0: expected cpu.*remove_accidental_hits"):
            fastnce.compute_accidental_hits(*arguments, 2)


# ---- on a device, or an emulated one -----------------------------------------------------------------------


@cuda
def test_results_belong_to_the_framework_of_inputs(cuda_array):
    arguments = cuda_array.put_all(PROBLEM.arguments())
    loss, grads = fastnce.nce_loss_and_grad(**arguments)
    results = (loss, grads.inputs, *grads.rows)
    assert all(map(cuda_array.is_own, results))
    ids = np.unique(np.concatenate([PROBLEM.labels.ravel(), PROBLEM.sampled_values[0]]))
    expected = [("float32", (6,)), ("float32", (6, 5)), ("int64", ids.shape), ("float32", (len(ids), 5))]
    for result, (dtype, shape) in zip(results, expected, strict=False):
        got = cuda_array.get(result)
        assert got.shape == shape
        assert got.dtype == dtype


@cuda
def test_ids_are_32_bit_integers_for_jax_by_default():
    if reason := cuda_arrays.why_not("jax"):
        pytest.skip(reason)
    jax_array = cuda_arrays.CudaArrays("jax")
    _, grads = fastnce.nce_loss_and_grad(**jax_array.put_all(PROBLEM.arguments()))
    assert jax_array.is_own(grads.rows.ids) and grads.rows.ids.dtype == "int32"
    np.testing.assert_array_equal(jax_array.get(grads.rows.ids), PROBLEM.solve()[0])


@cuda
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.uint64])
def test_ids_may_have_any_integer_type(dtype, cuda_array):
    ids, *counts = PROBLEM.sampled_values
    changes = {"labels": PROBLEM.labels.astype(dtype), "sampled_values": (ids.astype(dtype), *counts)}
    assert_matches_twin(cuda_array.solve(PROBLEM, **changes), PROBLEM)


@cuda
def test_labels_may_be_a_vector_where_there_is_one_each(cuda_array):
    problem = Case(batch=6).problem()
    ids, true_count, sampled_count = problem.sampled_values
    changes = {"labels": problem.labels[:, 0], "sampled_values": (ids, true_count[:, 0], sampled_count)}
    assert_matches_twin(cuda_array.solve(problem, **changes), problem)


@cuda
def test_sampled_values_may_come_from_the_sampler(cuda_array):
    """And its results from the device go into the loss as they are."""
    labels = cuda_array.put(PROBLEM.labels)
    values = fastnce.log_uniform_candidate_sampler(labels, 2, 6, True, PROBLEM.num_classes, seed=(5, 6))
    arguments = cuda_array.put_all({**PROBLEM.arguments(), "sampled_values": None, "num_sampled": 6})
    given = fastnce.nce_loss(**{**arguments, "sampled_values": values})
    drawn = fastnce.nce_loss(**arguments, seed=(5, 6))
    np.testing.assert_array_equal(cuda_array.get(given), cuda_array.get(drawn))


@cuda
@pytest.mark.parametrize("name", [*NAMES[:3], "grad_loss"])
def test_an_array_on_the_cpu_is_refused(name, cuda_array):
    problem_arguments = {**PROBLEM.arguments(), "grad_loss": np.ones(6, np.float32)}
    arguments = {**cuda_array.put_all(problem_arguments), name: problem_arguments[name]}
    with pytest.raises(ValueError, match=f"{name} is on device cpu:0: expected cuda:0, the device of inputs"):
        fastnce.nce_loss_and_grad(**arguments)


@cuda
def test_lists_are_refused(cuda_array):
    arguments = cuda_array.put_all(PROBLEM.arguments())
    with pytest.raises(TypeError, match="labels is a list: expected an array on device cuda:0"):
        fastnce.nce_loss(**{**arguments, "labels": PROBLEM.labels.tolist()})
    with pytest.raises(TypeError, match="sampled_expected_count is a float: expected an array on device cuda:0"):
        ids, true_count, _ = arguments["sampled_values"]
        fastnce.nce_loss(**{**arguments, "sampled_values": (ids, true_count, 0.5)})


@cuda
def test_float64_is_refused(cuda_array):
    for name in ("weights", "biases", "inputs"):
        with pytest.raises(TypeError, match=rf"{name} has dtype float64.*float32, float16 or bfloat16"):
            cuda_array.solve(PROBLEM, **{name: getattr(PROBLEM, name).astype(np.float64)})
    arguments = cuda_array.put_all(PROBLEM.arguments())
    with pytest.raises(TypeError, match="grad_loss has dtype float64: expected float32"):
        fastnce.nce_loss_and_grad(**arguments, grad_loss=cuda_array.put(np.ones(6)))


@cuda
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grad_loss": np.ones((), np.float32)}, r"grad_loss has shape \[\]: expected \[B\] = \[6\]"),
        ({"grad_loss": np.ones((1,), np.float32)}, r"grad_loss has shape \[1\]: expected \[B\] = \[6\]"),
        ({"labels": PROBLEM.labels[:5]}, r"labels has shape \[5, 2\]"),
        ({"num_sampled": 6}, r"sampled_candidates has shape \[7\]: expected \[num_sampled\] = \[6\]"),
        ({"num_classes": 10**6}, "weights has 10 rows: expected at least num_classes"),
        (
            {"sampled_values": None, "num_sampled": 11},
            r"num_sampled = 11 is larger than the number of classes, 10 \(num_classes or range_max\)",
        ),
        ({"sampled_values": None, "num_sampled": -1}, "num_sampled = -1"),
        ({"inputs": PROBLEM.inputs[:, :4]}, r"weights has shape \[10, 5\]: expected \[V, D\] with D = 4"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_the_cpu_refuses_is_refused(changes, message, cuda_array):
    with pytest.raises(ValueError, match=message):
        cuda_array.solve(PROBLEM, **changes)


@cuda
def test_labels_of_floats_are_refused(cuda_array):
    with pytest.raises(TypeError, match="labels has dtype float32: expected integers"):
        cuda_array.solve(PROBLEM, labels=PROBLEM.labels.astype(np.float32))


@cuda
def test_a_device_that_is_not_there_is_refused(cuda_array):
    count = len(fastnce.cuda.devices())
    with pytest.raises(ValueError, match=f"device = {count}: expected 0 to {count - 1}"):
        fastnce.cuda.check(count)


# ---- what only a device in the host's memory shows ---------------------------------------------------------


def lent_arguments(**changes):
    """The problem's arguments, lent, and the lenders."""
    ids, *counts = PROBLEM.sampled_values
    lent = {name: HostBackedCudaArray(getattr(PROBLEM, name)) for name in NAMES} | changes
    values = tuple(map(HostBackedCudaArray, (ids, *counts)))
    return {**PROBLEM.arguments(), **lent, "sampled_values": values}, [*lent.values(), *values]


@cuda
@emulated
@pytest.mark.parametrize(("stream", "number"), [(0, 1), (2, 2), (0x7F00, 0x7F00)])
def test_every_producer_is_told_the_stream_once(stream, number, cuda_array, monkeypatch):
    monkeypatch.setattr(_devices.Device, "stream", stream)
    arguments, lenders = lent_arguments()
    fastnce.nce_loss_and_grad(**arguments)
    assert [lender.streams for lender in lenders] == [[number]] * len(lenders)
    assert [(lender.lent, lender.returned) for lender in lenders] == [(1, 1)] * len(lenders)


@cuda
@emulated
def test_capsules_are_given_back_after_an_error_too(cuda_array):
    arguments, lenders = lent_arguments()
    with pytest.raises(ValueError, match="num_classes"):
        fastnce.nce_loss(**{**arguments, "num_classes": 10**6})
    assert [lender.returned for lender in lenders] == [lender.lent for lender in lenders]


@cuda
@emulated
def test_waiting_takes_no_memory(cuda_array, monkeypatch):
    made = []
    empty = cuda_arrays.PoisoningDevice.empty
    monkeypatch.setitem(_devices._DEVICES, cuda_arrays.__name__, cuda_arrays.PoisoningDevice)
    monkeypatch.setattr(
        cuda_arrays.PoisoningDevice, "empty", lambda self, *array: made.append(array) or empty(self, *array)
    )
    counts = []
    for waits in (False, True):
        monkeypatch.setattr(cuda_arrays.PoisoningDevice, "waits", waits)
        fastnce.nce_loss_and_grad(**lent_arguments()[0])
        counts.append(len(made))
    assert counts[1] == 2 * counts[0]


@cuda
@emulated
def test_producers_from_before_dlpack_1_are_asked_again(cuda_array):
    class Old(LegacyProducer):
        def __dlpack__(self, *, stream=None):
            assert stream == 1
            return self.lend()

    old = Old(PROBLEM.weights, device=(CUDA, 0))
    arguments, _ = lent_arguments(weights=old)
    fastnce.nce_loss(**arguments)
    assert old.lent == old.returned == 1


@cuda
@emulated
def test_another_device_is_refused(cuda_array):
    for name in NAMES[:3]:
        elsewhere = HostBackedCudaArray(getattr(PROBLEM, name), device=1)
        arguments, _ = lent_arguments(**{name: elsewhere})
        with pytest.raises(ValueError, match=f"{name} is on device cuda:1: expected cuda:0, the device of inputs"):
            fastnce.nce_loss(**arguments)
        assert elsewhere.lent == 0


@cuda
@emulated
def test_strides_are_honoured(cuda_array):
    wide = np.full((2 * len(PROBLEM.weights), 9), np.nan, np.float32)
    wide[::2, 3:8] = PROBLEM.weights
    spread = np.full((3 * 6, 9), np.nan, np.float32)
    spread[::3, :5] = PROBLEM.inputs
    changes = dict(
        weights=wide[::2, 3:8],
        biases=np.repeat(PROBLEM.biases, 3)[::3],
        labels=np.asfortranarray(PROBLEM.labels),
        inputs=spread[::3, :5],
        sampled_values=(np.repeat(PROBLEM.sampled_values[0], 2)[::2], *PROBLEM.sampled_values[1:]),
    )
    assert_matches_twin(cuda_array.solve(PROBLEM, **changes), PROBLEM)


@cuda
@emulated
def test_counts_and_factors_must_be_contiguous(cuda_array):
    factors = np.ones(12, np.float32)[::2]
    with pytest.raises(ValueError, match="grad_loss is not contiguous"):
        fastnce.nce_loss_and_grad(**lent_arguments()[0], grad_loss=HostBackedCudaArray(factors))
    counts = HostBackedCudaArray(np.asfortranarray(PROBLEM.sampled_values[1]))
    arguments, _ = lent_arguments()
    values = (arguments["sampled_values"][0], counts, arguments["sampled_values"][2])
    with pytest.raises(ValueError, match="true_expected_count is not contiguous"):
        fastnce.nce_loss(**{**arguments, "sampled_values": values})


@cuda
@emulated
def test_a_producer_that_fails_is_named(cuda_array):
    class Broken(HostBackedCudaArray):
        def __dlpack__(self, **_):
            raise BufferError("use detach()")

    arguments, _ = lent_arguments(weights=Broken(PROBLEM.weights))
    with pytest.raises(ValueError, match=r"weights cannot be exported through DLPack: use detach\(\)"):
        fastnce.nce_loss(**arguments)


# ---- arrays of our own -------------------------------------------------------------------------------------


def device_array(dtype="float32", shape=(3, 2)):
    return _core.new_device_array(dtype, list(shape), _devices.Device(0))


@cuda
def test_a_device_array_says_what_it_is(cuda_array):
    array = device_array("bfloat16")
    assert (array.shape, array.dtype, array.__dlpack_device__()) == ((3, 2), "bfloat16", (CUDA, 0))
    assert repr(array) == "DeviceArray(shape=[3, 2], dtype=bfloat16, device=cuda:0)"
    assert array.address % 256 == 0
    assert array[:1].shape == (1, 2) and array[:1].address == array.address
    assert array[1:].shape == (2, 2) and array[1:][1:].address == array.address + 2 * 2 * 2
    assert array[2:1].shape == (0, 2) and array[:9].shape == (3, 2)
    with pytest.raises(ValueError, match="step = 2: expected 1"):
        array[::2]


@cuda
@pytest.mark.parametrize("options", [{"copy": True}, {"dl_device": (1, 0)}, {"dl_device": (CUDA, 1)}])
def test_a_device_array_is_neither_copied_nor_moved(options, cuda_array):
    with pytest.raises(BufferError):
        device_array().__dlpack__(**options)
    device_array().__dlpack__(stream=-1, copy=False, dl_device=(CUDA, 0), max_version=(1, 0))


@cuda
@pytest.mark.parametrize("stream", [0, -2])
def test_a_device_array_refuses_streams_that_are_none(stream, cuda_array):
    with pytest.raises(ValueError, match=f"stream = {stream}: expected None, -1, 1, 2"):
        device_array().__dlpack__(stream=stream)


@cuda
@emulated
@pytest.mark.parametrize("options", [{}, {"stream": 2}, {"max_version": (1, 3)}, {"max_version": (0, 8), "stream": -1}])
def test_capsules_keep_the_memory_of_a_device_array(options, cuda_array):
    numbers = np.arange(6, dtype=np.float32).reshape(3, 2)
    array = device_array()
    write_memory(array.address, numbers)
    first = array[:2]
    capsules = [array.__dlpack__(**options) for _ in range(3)]
    del array, capsules[0]  # one is never consumed
    gc.collect()
    np.testing.assert_array_equal(read_device_array(first, **options), numbers[:2])


@cuda
@emulated
def test_device_arrays_are_arguments_like_others(cuda_array):
    inputs = device_array(shape=PROBLEM.inputs.shape)
    write_memory(inputs.address, PROBLEM.inputs)
    arguments, _ = lent_arguments(inputs=inputs)
    loss = fastnce.nce_loss(**arguments)
    expected = fastnce.nce_loss(**lent_arguments()[0])
    np.testing.assert_array_equal(cuda_array.get(loss), cuda_array.get(expected))


def write_memory(address, array):
    ctypes.memmove(address, array.ctypes.data, array.nbytes)
