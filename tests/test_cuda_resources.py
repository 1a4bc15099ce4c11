"""tools/cuda_resources.py: what it reads from machine code, and how many blocks fit a multiprocessor."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from cuda_resources import Kernel, faults, launched_bytes, page, static_bytes, threads_of
from sass import Loads, basic_blocks, instructions, loads_in_flight

# As cuobjdump prints it, shortened: before the loop one load of 16 bytes; in the loop four of 4 bytes, then what needs
# them; after it loads that each wait for the one before.
LOOP = """
    Function : _ZN7fastnce4cuda1fEv
  .headerflags  @"EF_CUDA_SM90 EF_CUDA_VIRTUAL_SM(EF_CUDA_SM90)"
        /*0000*/                   LDC R1, c[0x0][0x28] ;                     /* 0x00000a00ff017b82 */
                                                                              /* 0x000ff00000000800 */
        /*0010*/               @P0 EXIT ;                                     /* 0x000000000000094d */
        /*0020*/                   LDG.E.128 R4, desc[UR6][R2.64] ;           /* 0x0000000602047981 */
        /*0030*/                   FADD R14, R6, R7 ;                         /* 0x00000007060e7221 */
        /*0310*/                   IADD3 R6, P1, R10, R2, RZ ;                /* 0x000000020a067210 */
        /*0340*/                   LDG.E R11, desc[UR6][R10.64] ;             /* 0x000000060a0b7981 */
        /*0370*/                   LDG.E R6, desc[UR6][R6.64] ;               /* 0x0000000606067981 */
        /*0390*/                   LDG.E R8, desc[UR6][R8.64] ;               /* 0x0000000608087981 */
        /*03a0*/                   LDG.E R25, desc[UR6][R12.64] ;             /* 0x000000060c197981 */
        /*0410*/                   IADD3 R10, P2, R12, R2, RZ ;               /* 0x000000020c0a7210 */
        /*0420*/                   FADD R11, R11.reuse, R14 ;                 /* 0x0000000e0b0b7221 */
        /*0430*/                   FADD R11, R11, R6 ;                        /* 0x000000060b0b7221 */
        /*0470*/               @P1 BRA 0x310 ;                                /* 0xfffffffc00a41947 */
        /*0480*/                   LDG.E.64 R2, desc[UR6][R16.64] ;           /* 0x0000000610027981 */
        /*0490*/                   LDG.E.U16 R4, desc[UR6][R2.64+0x4] ;       /* 0x0000000602047981 */
        /*04a0*/                   STG.E desc[UR6][R16.64], R4 ;              /* 0x0000000410007986 */
        /*04b0*/                   EXIT ;                                     /* 0x000000000000794d */
        /*04c0*/                   BRA 0x4c0;                                 /* 0xfffffffc00fc7947 */
        /*04d0*/                   NOP;                                       /* 0x0000000000007918 */
"""


def test_loads_in_flight_are_those_before_the_first_that_is_needed():
    in_loops, anywhere = loads_in_flight(LOOP)
    assert in_loops == Loads(bytes=16, count=4)
    assert anywhere == Loads(bytes=16, count=4)  # as many bytes in one load count less than in four
    assert loads_in_flight(LOOP.replace("LDG.E R25", "LDG.E.128 R25"))[0] == Loads(bytes=28, count=4)


def test_a_load_that_needs_the_one_before_is_not_in_flight_beside_it():
    chain = LOOP[LOOP.index("/*0480*/") :]
    assert loads_in_flight(chain) == (Loads(0, 0), Loads(bytes=8, count=1))


def test_a_store_waits_for_all_the_registers_that_it_writes():
    text = """
        /*0000*/   LDG.E R5, desc[UR6][R2.64] ;
        /*0010*/   STG.E.128 desc[UR6][R8.64], R4 ;
        /*0020*/   LDG.E R12, desc[UR6][R2.64+0x4] ;
    """
    assert loads_in_flight(text)[1] == Loads(bytes=4, count=1)


def test_blocks_end_at_branches_and_begin_at_their_targets():
    blocks, followers = basic_blocks(instructions(LOOP))
    assert [block[0].address for block in blocks] == [0x0, 0x20, 0x310, 0x480, 0x4C0, 0x4D0]
    assert followers[:4] == [[1], [2], [3, 2], []]


def kernel(**changes):
    values = dict(name="f", architecture="sm_90", threads=256, registers=32, stack=0, local_accesses=0, tensor_core=0)
    return Kernel(**{**values, "shared_bytes": 0, "looped": Loads(0, 0), "loads": Loads(0, 0), **changes})


@pytest.mark.parametrize(
    ("resources", "blocks", "occupancy"),
    [
        (dict(), 8, 1.0),  # threads limit it
        (dict(registers=72), 3, 0.375),
        (dict(registers=128, shared_bytes=64 << 10), 2, 0.25),
        (dict(threads=128, registers=254, shared_bytes=96 << 10), 2, 0.125),
        (dict(threads=128, registers=254, shared_bytes=96 << 10, architecture="sm_80"), 1, 0.0625),  # 164 KiB
        (dict(threads=32, registers=16), 32, 0.5),  # 32 blocks at most
    ],
    ids=str,
)
def test_blocks_of_a_multiprocessor(resources, blocks, occupancy):
    assert (kernel(**resources).blocks, kernel(**resources).occupancy) == (blocks, occupancy)


@pytest.mark.parametrize(
    ("name", "kibibytes"),
    [
        ("logits_kernel<LogisticTile<1, 3> >", 64),
        ("logits_kernel<SoftmaxTile<3, 3> >", 96),
        ("product_kernel<TileProduct<k along memory, m along memory, 128, 64, 1, 1, 1>, 128>", 64),
        ("product_kernel<TileProduct<m along memory, m along memory, 64, 32, 3, 1, 3>, 64>", 84),
        ("reduce_rows_kernel", 0),
    ],
)
def test_shared_memory_of_kernels_that_multiply(name, kibibytes):
    assert launched_bytes(name) == kibibytes << 10


def test_what_cuda_takes_of_shared_memory_is_not_the_kernels():
    assert [static_bytes("sm_80", 2000), static_bytes("sm_90", 3024), static_bytes("sm_90", 0)] == [2000, 2000, 0]


def test_threads_are_read_from_the_attributes_of_each_kernel():
    elf = """Fatbin elf code:
================
arch = sm_80

   b   1bd8     50  0  4                    CUDA_INFO       40    3       17 .nv.info._Z1fv
.nv.info._Z1fv
	<0x1>
	Attribute:	EIATTR_CUDA_API_VERSION
	Format:	EIFMT_SVAL
	Value:	0x82
	<0x11>
	Attribute:	EIATTR_MAX_THREADS
	Format:	EIFMT_SVAL
	Value:	0x100 0x1 0x1
"""
    assert list(threads_of(elf)) == [("sm_80", "_Z1fv", 256)]


def test_every_kernel_that_spills_is_a_fault():
    names = ("logits_kernel<>", "product_kernel<>", "scores_kernel<>")
    multiply = [kernel(name=name, tensor_core=32) for name in names]
    assert list(faults(multiply)) == []
    assert list(faults([*multiply, kernel(name="f", local_accesses=3)])) == [
        "f on sm_90: 0 bytes of stack, 3 accesses to local memory"
    ]
    assert list(faults(multiply[:2])) == ["no scores_kernel was found"]
    assert "| `f` | sm_90 | 256 | 32 | 0 | 8 | 100% | 0 / 0 | 0 | 0 | 16 (4) |" in page([kernel(loads=Loads(16, 4))])
