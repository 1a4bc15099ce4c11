"""Memory is given back, or freed, once no kernel uses it: on an emulated device, which reports where it is not."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest

import cuda_arrays
import fastnce
from cases import Case
from fastnce import _core, _devices
from fastnce._all_classes import run
from fastnce._request import ARRAYS_OF_PARTS, compute_part
from fastnce._samplers import _counter
from lending import CUDA, LegacyProducer

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not cuda_arrays.EMULATED, reason="only an emulated device reports it"),
]

PROBLEM = Case(batch=6, dim=5, sampled=7, num_true=2).problem()


class OtherStream(_devices.Device):
    """Work of somebody else."""

    waits = False
    stream = 0x7F00


OTHER = OtherStream(0)


class Lender(LegacyProducer):
    """An array of a library that, once it has the memory back, gives it to its own stream."""

    def __init__(self, array):
        super().__init__(array, device=(CUDA, 0))
        self.memory = _core.new_device_array("uint8", [array.nbytes], OTHER)
        _core.cuda_synchronize(OTHER)
        ctypes.memmove(self.memory.address, array.ctypes.data, array.nbytes)
        self.managed.tensor.data = self.memory.address

    def __dlpack__(self, *, stream):
        return self.lend()

    def _take_back(self, managed):
        super()._take_back(managed)
        self.memory = None  # frees it


def lent_problem(**changes):
    """Keyword arguments with arrays that are lent, and the lenders."""
    ids, *counts = PROBLEM.sampled_values
    arrays = {name: getattr(PROBLEM, name) for name in ("weights", "biases", "labels", "inputs")} | changes
    lent = {name: Lender(array) for name, array in arrays.items()}
    values = tuple(map(Lender, (ids, *counts)))
    return {**PROBLEM.arguments(), **lent, "sampled_values": values}, [*lent.values(), *values]


def register(monkeypatch, device):
    """Makes `device` that of the framework of lenders."""
    monkeypatch.setitem(_devices._DEVICES, __name__, device)


def released_address():
    array = _core.new_device_array("float32", [1000], _devices.Device(0))
    return array.address  # of an array that ends here


# ---- arguments ---------------------------------------------------------------------------------------------


def test_arguments_go_back_after_the_kernels_that_read_them():
    arguments, lenders = lent_problem(grad_loss=np.ones(6, np.float32))
    fastnce.nce_loss_and_grad(**arguments)
    fastnce.log_uniform_candidate_sampler(Lender(PROBLEM.labels), 2, 4, True, 50)
    assert all(lender.memory is None for lender in lenders)


def test_arguments_go_back_after_the_kernels_of_a_call_that_is_refused():
    """Labels of int32 are converted by a kernel before the rest is looked at."""
    arguments, lenders = lent_problem(labels=PROBLEM.labels.astype(np.int32), grad_loss=np.ones((6, 1), np.float32))
    with pytest.raises(ValueError, match="grad_loss has shape"):
        fastnce.nce_loss_and_grad(**arguments)
    assert [lender.returned for lender in lenders] == [lender.lent for lender in lenders]


def test_arguments_go_back_after_the_kernels_of_a_call_that_fails(monkeypatch):
    """The last kernels fail, when earlier ones have read all arguments."""

    class Failing(_devices.Device):
        def empty(self, dtype, shape):
            array, address = super().empty(dtype, shape)
            return array, released_address() if shape == PROBLEM.inputs.shape else address

    register(monkeypatch, Failing)
    arguments, lenders = lent_problem()
    with pytest.raises(RuntimeError, match="memory that was released"):
        fastnce.nce_loss_and_grad(**arguments)
    assert all(lender.memory is None for lender in lenders)


ARRAYS = ["weights", "biases", "labels", "grad_loss", 0, 1, 2]
"""Names, and positions in ``sampled_values``."""


@pytest.mark.parametrize("foreign", ARRAYS)
def test_arguments_of_another_framework_go_back_after_the_kernels_that_read_them(foreign, monkeypatch):
    """The framework that the stream belongs to needs no wait; others reuse memory without regard to that stream."""
    monkeypatch.setitem(_devices._DEVICES, cuda_arrays.__name__, cuda_arrays.PoisoningDevice)
    arguments = {**PROBLEM.arguments(), "grad_loss": np.ones(6, np.float32)}
    values = list(map(cuda_arrays.HostBackedCudaArray, arguments["sampled_values"]))
    names = ("weights", "biases", "labels", "inputs", "grad_loss")
    arguments |= {name: cuda_arrays.HostBackedCudaArray(arguments[name]) for name in names}
    if isinstance(foreign, int):
        values[foreign] = lender = Lender(PROBLEM.sampled_values[foreign])
    else:
        lender = Lender(arguments[foreign].array)
        arguments[foreign] = [lender] if foreign == "weights" else lender
    fastnce.nce_loss_and_grad(**arguments | {"sampled_values": tuple(values)}, pad_rows=True)
    assert lender.memory is None


@pytest.mark.parametrize("all_classes", [False, True])
@pytest.mark.parametrize("foreign", ARRAYS_OF_PARTS)
def test_what_another_framework_says_of_other_parts_goes_back_after_the_kernels_that_read_it(
    foreign, all_classes, monkeypatch
):
    monkeypatch.setitem(_devices._DEVICES, cuda_arrays.__name__, cuda_arrays.PoisoningDevice)
    numbers = {
        "label_counts": np.full(6, 3),
        "label_weight_sums": np.full(6, 2.5),
        "other_log_sum_exp": np.zeros(6),
    }
    arrays = {name: getattr(PROBLEM, name) for name in ("weights", "biases", "labels", "inputs")} | numbers
    fields = {name: cuda_arrays.HostBackedCudaArray(array) for name, array in arrays.items()}
    fields[foreign] = lender = Lender(numbers[foreign])
    values = tuple(map(cuda_arrays.HostBackedCudaArray, PROBLEM.sampled_values))
    options = {"family": "softmax", "num_true": 2, "log_sum_exp": True, "pad_rows": True, "gradients": (True,) * 3}
    if all_classes:
        run(_core.full_loss, fields | options, None, None)
    else:
        compute_part(fields | options | {"sampled_values": values})
    assert lender.memory is None


@pytest.mark.parametrize("foreign", [0, 1])
def test_scores_and_offsets_of_another_framework_go_back_after_the_kernels_that_read_them(foreign, monkeypatch):
    monkeypatch.setitem(_devices._DEVICES, cuda_arrays.__name__, cuda_arrays.PoisoningDevice)
    names = ("weights", "biases", "inputs")
    fields = {name: cuda_arrays.HostBackedCudaArray(getattr(PROBLEM, name)) for name in names}
    arrays = [np.zeros(6, np.float32), np.arange(7)]
    lists = list(map(cuda_arrays.HostBackedCudaArray, arrays))
    lists[foreign] = lender = Lender(arrays[foreign])
    run(_core.rank_of_scores, fields, *lists)
    assert lender.memory is None


@pytest.mark.parametrize("captures", [False, True])
def test_only_a_call_that_is_captured_does_not_wait_for_another_framework(captures, monkeypatch):
    monkeypatch.setattr(cuda_arrays.PoisoningDevice, "captures", captures)
    own, other = cuda_arrays.HostBackedCudaArray(PROBLEM.inputs), Lender(PROBLEM.weights)
    for arguments, waits in (((own, None, [own]), False), ((own, [own, other]), not captures)):
        device = cuda_arrays.PoisoningDevice(0)
        monkeypatch.setitem(_devices._DEVICES, cuda_arrays.__name__, cuda_arrays.PoisoningDevice)
        with device.call(*arguments):
            assert device.waits == waits


# ---- results -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [None, 1, OTHER.stream, -1])
def test_a_result_is_freed_after_the_consumers_kernels_that_read_it(stream):
    """Whatever stream the consumer named, it reads on one that we do not know, and gives back what it still reads."""
    labels = np.arange(4)
    result = _core.new_device_array("int64", [4], _devices.Device(0))
    address = result.address
    ctypes.memmove(address, labels.ctypes.data, labels.nbytes)
    capsule = result.__dlpack__(stream=stream)
    del result
    _core.cuda_synchronize(_devices.Device(0))
    values = _core.candidates("log_uniform", capsule, 1, 3, True, 50, 1, 2, 0, OTHER, 0)
    _core.cuda_read(address, OTHER)  # not freed yet
    _core.new_device_array("int64", [1], _devices.Device(0))
    with pytest.raises(RuntimeError, match="memory that was released"):
        _core.cuda_read(address, OTHER)
    expected = fastnce.log_uniform_candidate_sampler(labels, 1, 3, True, 50, seed=(1, 2))
    np.testing.assert_array_equal(cuda_arrays.read_device_array(values[0], stream=1), expected[0])


# ---- counters of samplers ----------------------------------------------------------------------------------


def test_the_counter_of_a_sampler_outlives_it():
    """A CUDA graph may go on counting there."""
    ids = np.arange(4)[:, None]
    sampler = fastnce.LogUniformSampler(1000, 20, seed=(0, 1))
    sampler(Lender(ids))
    address = sampler._counter.address
    del sampler
    gc.collect()
    others = [fastnce.LogUniformSampler(1000, 20, seed=(0, 1)) for _ in range(3)]
    for other in others:
        other(Lender(ids))
    device = _devices.Device(0)
    replayed = _core.candidates("log_uniform", Lender(ids), 1, 20, True, 1000, 0, 1, 0, device, address)
    assert _core.cuda_read(address, device) == 2
    assert [other.state.calls for other in others] == [1, 1, 1]
    on_cpu = fastnce.LogUniformSampler(1000, 20, seed=(0, 1))
    on_cpu.state = on_cpu.state._replace(calls=1)
    expected = on_cpu(ids)
    np.testing.assert_array_equal(cuda_arrays.read_device_array(replayed[0], stream=1), expected[0])


def test_a_sampler_may_end_while_another_stream_counts():
    sampler = fastnce.LogUniformSampler(1000, 20, seed=(0, 1))
    sampler(Lender(np.arange(4)))
    address = sampler._counter.address
    _core.candidates("log_uniform", Lender(np.arange(4)), 1, 20, True, 1000, 0, 1, 0, OTHER, address)
    del sampler
    gc.collect()
    assert _core.cuda_read(address, OTHER) == 2


def test_samplers_may_begin_on_different_streams(monkeypatch):
    class OwnStream(_devices.Device):
        waits = False

    monkeypatch.setitem(_devices._DEVICES, cuda_arrays.__name__, OwnStream)
    monkeypatch.setattr(_counter.Counter, "_free", {})
    samplers = {0x7000 + i: fastnce.LogUniformSampler(1000, 20, seed=1) for i in range(3)}
    for stream, sampler in samplers.items():
        monkeypatch.setattr(OwnStream, "stream", stream)
        sampler(cuda_arrays.HostBackedCudaArray(np.arange(4)))
        for _ in range(8):  # the emulated device does not tell neighbours within 64 bytes apart
            _counter.Counter._take(OwnStream(0))
    for stream, sampler in samplers.items():
        monkeypatch.setattr(OwnStream, "stream", stream)
        assert sampler.state.calls == 1
    assert len(_counter.Counter._free) == 1


def test_a_page_of_counters_is_followed_by_another():
    samplers = [fastnce.LogUniformSampler(10, 2, seed=1) for _ in range(2 * 512 + 1)]
    for sampler in samplers:
        sampler(Lender(np.arange(1)))
    assert len({sampler._counter.address for sampler in samplers}) == len(samplers)
    samplers[0](Lender(np.arange(1)))
    assert [samplers[i].state.calls for i in (0, 1, -1)] == [2, 1, 1]
