"""The code blocks of the project's pages: read, listed and run.

    python tests/snippets.py                              lists every block and what the tests do with it
    python tests/snippets.py --run docs/torch.md torch    runs the Python blocks of a page, as test_snippets.py does

Conventions of the pages:

- The Python blocks of a page run in order, in one namespace. A block belongs to the framework that was imported last on
  the page, or to NumPy before any import of one; it runs where that framework is installed.
- A block marked ``text`` directly after a Python block is its output. ``...`` stands for anything, as in doctest.
- A comment ``<!-- not run: REASON -->`` directly before a block exempts it.
- Shell blocks are not run: their targets of make, paths and options must exist.
- C++ and CMake blocks are excerpts of files in examples/cpp, which the C++ tests build.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import re
import sys
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = ("*.md", "docs/**/*.md", "examples/**/*.md", "bench/**/*.md", "tests/data/*.md")
FRAMEWORKS = ("torch", "jax", "tensorflow")
NUMPY = "numpy"
ACTIONS = {
    "python": "run",
    "sh": "targets, paths and options checked",
    "cpp": "compared with examples/cpp",
    "cmake": "compared with examples/cpp",
    "text": "output or text",
}
"""The languages that a block may name, and what is done with it."""

FENCE = re.compile(r"^\s*```(\w*)\s*$")
NOT_RUN = re.compile(r"^\s*<!-- not run: (.+) -->\s*$")
IMPORT = re.compile(rf"^\s*(?:import|from)\s+(?:fastnce\.)?({'|'.join(FRAMEWORKS)})\b", re.MULTILINE)


@dataclass
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    """Of its first line of code, from 1."""
    language: str
    text: str
    not_run: str | None
    """Why it is exempt."""
    framework: str = NUMPY
    output: str | None = None
    """What the page says that it prints."""

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page of the project."""
    return sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern)})


def fenced(page: Path) -> Iterator[Block]:
    """The blocks of a page as they stand."""
    lines = page.read_text(encoding="utf-8").splitlines()
    name = str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else str(page)
    start: int | None = None
    language, reason = "", None
    for i, line in enumerate(lines):
        fence = FENCE.match(line)
        if start is None and fence:
            start, language = i + 1, fence[1]
            before = NOT_RUN.match(lines[i - 1]) if i else None
            reason = before[1] if before else None
        elif start is not None and fence and not fence[1]:
            yield Block(name, start + 1, language, textwrap.dedent("\n".join(lines[start:i])) + "\n", reason)
            start = None
    if start is not None:
        raise ValueError(f"{name}:{start}: this block is never closed")


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, each with its framework and output."""
    blocks = list(fenced(page))
    framework = NUMPY
    for block, following in zip_longest(blocks, blocks[1:]):
        if block.language == "python":
            framework = [framework, *IMPORT.findall(block.text)][-1]
            block.framework = framework
            end = block.line + block.text.count("\n")
            if following is not None and following.language == "text" and following.line <= end + 3:
                block.output = following.text
    return blocks


def run(page: Path, framework: str) -> int:
    """Run the blocks of a page that need nothing but NumPy and ``framework``. The number of outputs that differ."""
    if framework != NUMPY:
        with warnings.catch_warnings(action="ignore"):  # what a framework warns of at import is not ours
            importlib.import_module(framework)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    wrong = 0
    for block in blocks_of(page):
        if block.language != "python" or block.not_run or block.framework not in (NUMPY, framework):
            continue
        # Line numbers of a traceback are those of the page.
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, namespace)
        got = printed.getvalue()
        print(f"{block.name}:\n{textwrap.indent(got, '    ')}", end="")
        if block.output is not None and not checker.check_output(block.output, got, flags):
            print(f"  but the page says:\n{textwrap.indent(block.output, '    ')}", end="")
            wrong += 1
    return wrong


def listing() -> Iterator[str]:
    """One line for every block."""
    for page in pages():
        for block in blocks_of(page):
            done = f"not run: {block.not_run}" if block.not_run else ACTIONS.get(block.language, "UNKNOWN LANGUAGE")
            if done == "run":
                done += f" with {block.framework}" + (", output compared" if block.output is not None else "")
            yield f"{block.name:36} {block.language:7} {done}"


def main() -> int:
    if sys.argv[1:2] == ["--run"]:
        return run(ROOT / sys.argv[2], sys.argv[3])
    print("\n".join(listing()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
