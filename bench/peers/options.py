"""What the entry points have in common: options of the command line, and the header of results."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client import ALLOCATORS, Conditions
from machine import commit, machine

ROOT = Path(__file__).resolve().parents[2]


def names(known: Iterable[str]) -> Any:
    """An argparse type: comma-separated members of `known`."""
    known = list(known)

    def parse(text: str) -> list[str]:
        chosen = [name for name in text.split(",") if name]
        if unknown := set(chosen) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {sorted(unknown)}; known: {known}")
        return chosen

    return parse


def add_output(parser: argparse.ArgumentParser, folder: str = "peers") -> None:
    where = f"where the JSON file goes (default build/{folder})"
    parser.add_argument("--output", type=Path, default=ROOT / "build" / folder, metavar="DIR", help=where)


def common_parser(description: str | None, *, rounds: int, seconds: float) -> argparse.ArgumentParser:
    keep_lines = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=keep_lines)
    add_output(parser)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"at most this many (default {rounds})")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"per shape (default {seconds:g})")
    parser.add_argument("--threads", type=int, default=2, help="of every worker (default 2)")
    parser.add_argument("--allocator", choices=ALLOCATORS, default="retain", help="(default retain)")
    parser.add_argument("--isa", help="of fastnce (FASTNCE_ISA); avx2 holds the peers to it, too")
    parser.add_argument("--venvs", type=Path, default=ROOT / ".venv-peers", help="where setup.sh made them")
    return parser


def conditions_of(options: argparse.Namespace) -> Conditions:
    return Conditions(options.venvs.resolve(), options.threads, options.allocator, options.isa)


def header() -> dict[str, Any]:
    """What every results file starts with."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "fastnce_commit": commit(),
    }
