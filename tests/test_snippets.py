"""Every code block of README and docs: Python blocks run, shell blocks name what exists, C++ blocks are excerpts."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import snippets
from fastnce.word2vec import _arguments
from snippets import ROOT, Block

BLOCKS = [block for page in snippets.pages() for block in snippets.blocks_of(page)]
RUN = list(dict.fromkeys((b.page, b.framework) for b in BLOCKS if b.language == "python" and not b.not_run))
FOLDERS = ("bench", "cmake", "csrc", "docs", "examples", "python", "tests", "tools")
TARGETS = set(re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split())


def named(blocks: list[Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", blocks, ids=lambda block: block.name)


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def run_page(page: Path | str, framework: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", snippets.__file__, "--run", str(page), framework]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)


@pytest.mark.parametrize(("page", "framework"), RUN, ids=[f"{page}-{framework}" for page, framework in RUN])
def test_python_blocks_run_without_warnings_and_print_what_the_page_shows(
    tmp_path: Path, page: str, framework: str
) -> None:
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    done = run_page(page, framework, tmp_path)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@named([block for block in BLOCKS if block.not_run])
def test_blocks_that_do_not_run_are_python_that_compiles(block: Block) -> None:
    assert block.language == "python", "only Python blocks are run"
    compile(block.text, block.name, "exec")
    pytest.skip(f"not run: {block.not_run}")


def test_every_block_names_a_known_language() -> None:
    assert [block.name for block in BLOCKS if block.language not in snippets.ACTIONS] == []


@named(of("sh"))
def test_shell_blocks_name_targets_paths_and_options_that_exist(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    for line in block.text.replace("\\\n", " ").splitlines():
        for command in re.split(r"&&|;|\|", line.partition(" #")[0]):
            words = [word for word in shlex.split(command, comments=True) if not re.match(r"[A-Z_a-z]+=", word)]
            if words[:1] == ["make"]:
                assert {word for word in words[1:] if not word.startswith("-")} <= TARGETS, command
            if words[:1] == ["fastnce"]:
                _arguments.parse(words[1:])  # ends the process where they are wrong
            paths = [ROOT / word for word in words if word.split("/")[0] in FOLDERS]
            assert [path for path in paths if not path.exists()] == [], command
            scripts = [path for path in paths if path.suffix == ".py"]
            if scripts:
                known = "".join(path.read_text() for path in scripts[0].parent.glob("*.py"))
                options = [word.partition("=")[0] for word in words if word.startswith("--")]
                assert [option for option in options if f'"{option}"' not in known] == [], command


@named(of("cpp", "cmake"))
def test_cpp_and_cmake_blocks_are_excerpts_of_the_example(block: Block) -> None:
    def lines(text: str) -> str:
        return "\n".join(line.strip() for line in text.splitlines())

    files = [path for path in (ROOT / "examples" / "cpp").iterdir() if path.is_file()]
    assert any(lines(block.text) in lines(path.read_text()) for path in files)


def page_with(folder: Path, code: str, output: str) -> Path:
    page = folder / "page.md"
    page.write_text(f"```python\n{code}\n```\n\n```text\n{output}\n```\n")
    return page


def test_an_output_that_differs_fails(tmp_path: Path) -> None:
    assert run_page(page_with(tmp_path, "print(1 + 1)", "2"), "numpy", tmp_path).returncode == 0
    assert run_page(page_with(tmp_path, "print('at', object())", "at <object ...>"), "numpy", tmp_path).returncode == 0
    done = run_page(page_with(tmp_path, "print(1 + 1)", "3"), "numpy", tmp_path)
    assert done.returncode == 1
    assert "but the page says:\n    3" in done.stdout


def test_a_warning_fails(tmp_path: Path) -> None:
    done = run_page(page_with(tmp_path, "import warnings\nwarnings.warn('deprecated')", ""), "numpy", tmp_path)
    assert done.returncode == 1
    assert 'page.md", line 3' in done.stderr
