"""Arrays lent through DLPack by hand: the structures of dlpack.h, and a producer of capsules."""

from __future__ import annotations

import ctypes

CPU, CUDA = 1, 2
TYPE_CODES = {"i": 0, "u": 1, "f": 2, "V": 4}
"""DLPack's code of a kind of NumPy dtype; ``V`` is bfloat16, of the package ml_dtypes."""


class DLTensor(ctypes.Structure):
    """``DLTensor`` of dlpack.h; device and dtype are spelled out in place."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("dtype_code", ctypes.c_uint8),
        ("dtype_bits", ctypes.c_uint8),
        ("dtype_lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class DLManagedTensor(ctypes.Structure):
    """``DLManagedTensor``, the capsule contents from before DLPack 1.0."""


DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(DLManagedTensor))
DLManagedTensor._fields_ = (("tensor", DLTensor), ("manager_context", ctypes.c_void_p), ("deleter", DELETER))


class DLManagedTensorVersioned(ctypes.Structure):
    """``DLManagedTensorVersioned``, of DLPack 1."""


VERSIONED_DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(DLManagedTensorVersioned))
DLManagedTensorVersioned._fields_ = (
    ("major", ctypes.c_uint32),
    ("minor", ctypes.c_uint32),
    ("manager_context", ctypes.c_void_p),
    ("deleter", VERSIONED_DELETER),
    ("flags", ctypes.c_uint64),
    ("tensor", DLTensor),
)

new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)

capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
capsule_pointer.restype = ctypes.c_void_p
capsule_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)

rename_capsule = ctypes.pythonapi.PyCapsule_SetName
rename_capsule.argtypes = (ctypes.py_object, ctypes.c_char_p)


class DLPackExchangeAPI(ctypes.Structure):
    """The table of C functions of DLPack 1.3, as far as it is used."""


BORROW = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(DLTensor))
DLPackExchangeAPI._fields_ = (
    ("major", ctypes.c_uint32),
    ("minor", ctypes.c_uint32),
    ("previous", ctypes.POINTER(DLPackExchangeAPI)),
    ("allocate", ctypes.c_void_p),
    ("managed_from_object", ctypes.c_void_p),
    ("managed_to_object", ctypes.c_void_p),
    ("tensor_from_object", BORROW),
    ("current_stream", ctypes.c_void_p),
)


class LegacyProducer:
    """Lends a NumPy array as libraries did before DLPack 1.0: no ``max_version``, no version, no flags."""

    def __init__(self, array, *, byte_offset=0, compact=False, device=(CPU, 0), lanes=1, bits=None):
        self.array = array
        self.device = device
        self.lent = self.returned = 0
        self.shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        steps = (ctypes.c_int64 * array.ndim)(*(step // array.itemsize for step in array.strides))
        tensor = DLTensor(
            data=array.ctypes.data - byte_offset,
            device_type=device[0],
            device_id=device[1],
            ndim=array.ndim,
            dtype_code=TYPE_CODES[array.dtype.kind],
            dtype_bits=8 * array.itemsize if bits is None else bits,
            dtype_lanes=lanes,
            shape=self.shape,
            strides=None if compact else steps,
            byte_offset=byte_offset,
        )
        self.managed = DLManagedTensor(tensor, None, DELETER(self._take_back))

    def _take_back(self, _managed):
        self.returned += 1

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, *, stream=None):
        assert stream is None  # what a CPU producer may be given
        return self.lend()

    def lend(self):
        """A new capsule."""
        self.lent += 1
        return new_capsule(ctypes.addressof(self.managed), b"dltensor", None)


class TableProducer(LegacyProducer):
    """Lends through DLPack's table of C functions, too, and counts how often."""

    refuses = False
    borrowed = 0


def _borrow(producer, tensor):
    producer.borrowed += 1
    if producer.refuses:
        return -1
    tensor[0] = producer.managed.tensor
    return 0


TABLE = DLPackExchangeAPI(1, 3, None, None, None, None, BORROW(_borrow), None)
TABLE_OF_DLPACK_2 = DLPackExchangeAPI(2, 0, ctypes.pointer(TABLE), None, None, None, BORROW(), None)


def exchange_capsule(table):
    """A capsule of a table that lives on."""
    return new_capsule(ctypes.addressof(table), b"dlpack_exchange_api", None)


TableProducer.__dlpack_c_exchange_api__ = exchange_capsule(TABLE)
