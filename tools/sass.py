"""Loads in flight of a kernel, read from its machine code (SASS) as `cuobjdump --dump-sass` prints it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# "/*0470*/  @P0 LDG.E.64 R6, desc[UR8][R12.64] ;": the encoding that follows in a comment begins with a blank.
_LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);")
_ENDS = ("BRA", "BRX", "JMP", "EXIT", "RET", "CALL")
_WRITES_NO_REGISTER = ("ST", "STG", "STS", "STL", "RED", "BAR", "MEMBAR")
_BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


class Loads(NamedTuple):
    """Of one thread."""

    bytes: int
    count: int


class Instruction(NamedTuple):
    address: int
    predicate: str
    opcode: str
    operands: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.opcode.partition(".")[0]

    @property
    def bytes(self) -> int:
        """What a load or store moves."""
        return next((size for part, size in _BYTES.items() if part in self.opcode.split(".")), 4)

    @property
    def target(self) -> int | None:
        """Where a branch goes."""
        if self.name not in ("BRA", "JMP") or not self.operands or not self.operands[-1].startswith("0x"):
            return None
        return int(self.operands[-1], 16)

    @property
    def goes_on(self) -> bool:
        """Whether the next instruction may follow."""
        if self.name in ("EXIT", "RET", "BRX"):
            return bool(self.predicate)
        return self.target is None or bool(self.predicate) or len(self.operands) > 1

    def loaded(self) -> list[int]:
        """Registers that a load from global memory fills."""
        found = re.fullmatch(r"R(\d+)", self.operands[0]) if self.name in ("LDG", "LD") else None
        return list(range(int(found[1]), int(found[1]) + (self.bytes + 3) // 4)) if found else []

    def touched(self) -> set[int]:
        """Registers whose loads have to arrive first: all that are read, and what is overwritten."""
        width = {"HMMA": 4, "DADD": 2, "DMUL": 2, "DFMA": 2}.get(self.name, 1)
        if self.name in _WRITES_NO_REGISTER:
            width = (self.bytes + 3) // 4
        found = set()
        for operand in self.operands:
            for number, pair in re.findall(r"\bR(\d+)((?:\.\w+)*\.64)?", operand):
                found |= set(range(int(number), int(number) + (2 if pair else width)))
        return found


def instructions(text: str) -> list[Instruction]:
    return [
        Instruction(int(address, 16), predicate, opcode, tuple(part.strip() for part in operands.split(",")))
        for address, predicate, opcode, operands in _LINE.findall(text)
    ]


def basic_blocks(code: list[Instruction]) -> tuple[list[list[Instruction]], list[list[int]]]:
    """The blocks in the order of addresses, and the indices of those that may follow each."""
    starts = {instruction.target for instruction in code}
    blocks: list[list[Instruction]] = []
    for i, instruction in enumerate(code):
        if i == 0 or instruction.address in starts or code[i - 1].name in _ENDS:
            blocks.append([])
        blocks[-1].append(instruction)
    at = {block[0].address: i for i, block in enumerate(blocks)}
    followers = []
    for i, block in enumerate(blocks):
        end = block[-1]
        behind = [i + 1] if end.goes_on and i + 1 < len(blocks) else []
        followers.append(behind + ([at[end.target]] if end.target in at else []))
    return blocks, followers


def in_loops(followers: list[list[int]]) -> Iterator[int]:
    """The blocks that can run again after themselves."""
    for start in range(len(followers)):
        seen: set[int] = set()
        left = [start]
        while left:
            new = set(followers[left.pop()]) - seen
            seen |= new
            left += new
        if start in seen:
            yield start


def most_in_flight(block: list[Instruction]) -> Loads:
    """The most bytes of loads that are all issued before the first instruction that needs one of them."""
    most = Loads(0, 0)
    waiting: dict[int, Instruction] = {}  # by the registers that they fill
    for instruction in block:
        late = {load for register in instruction.touched() if (load := waiting.get(register)) is not None}
        waiting = {register: load for register, load in waiting.items() if load not in late}
        waiting |= dict.fromkeys(instruction.loaded(), instruction)
        loads = set(waiting.values())
        most = max(most, Loads(sum(load.bytes for load in loads), len(loads)))
    return most


def loads_in_flight(text: str) -> tuple[Loads, Loads]:
    """`most_in_flight` of the basic blocks that are in loops, and of all."""
    blocks, followers = basic_blocks(instructions(text))
    each = [most_in_flight(block) for block in blocks]
    return max((each[i] for i in in_loops(followers)), default=Loads(0, 0)), max(each, default=Loads(0, 0))
