"""Types: what type checkers see of the library, and whether the compiled module is what its stub says."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastnce import _core

ROOT = Path(__file__).parents[1]
USER_CODE = ROOT / "tests" / "typing"
STUB = ROOT / "python" / "fastnce" / "_core.pyi"


@pytest.fixture(scope="module")
def reports() -> dict[str, set[tuple[int, str]]]:
    """By file: the lines in which mypy finds errors, with their codes."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--output",
        "json",
        str(USER_CODE / "right.py"),
        str(USER_CODE / "wrong.py"),
    ]
    environment = {**os.environ, "MYPYPATH": str(ROOT / "python")}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 1, run.stdout + run.stderr  # some errors
    found: dict[str, set[tuple[int, str]]] = {"right.py": set(), "wrong.py": set()}
    for report in map(json.loads, run.stdout.splitlines()):
        if report["severity"] == "error":
            found[Path(report["file"]).name].add((report["line"], report["code"]))
    return found


def test_right_code_has_no_errors_and_the_types_it_claims(reports):
    assert reports["right.py"] == set()


def test_each_mistake_is_an_error_and_nothing_else_is(reports):
    lines = (USER_CODE / "wrong.py").read_text().splitlines()
    marks = (re.search(r"# error: ([\w-]+)$", line) for line in lines)
    assert reports["wrong.py"] == {(number, mark[1]) for number, mark in enumerate(marks, 1) if mark}


def written_signatures(body: list[ast.stmt]) -> dict[str, list[str]]:
    """By function of the stub: its parameters, positional-only ones as "_", keyword-only ones behind a star."""
    signatures = {}
    for function in body:
        if isinstance(function, ast.FunctionDef):
            of = function.args
            keywords = ["*"] * bool(of.kwonlyargs) + [arg.arg for arg in of.kwonlyargs]
            signatures[function.name] = ["_"] * len(of.posonlyargs) + [arg.arg for arg in of.args] + keywords
    return signatures


def compiled_signature(function: object) -> list[str]:
    """The same of a compiled function or property, from the first line that pybind11 writes into its docstring."""
    if isinstance(function, property):
        return ["self"]
    if isinstance(function, staticmethod):
        function = function.__func__
    (text,) = re.findall(r"^\w+\((.*)\) -> ", function.__doc__ or "", re.MULTILINE)
    parameters = re.findall(r"(?:^|, )(\w+(?=: )|\*(?=,))", re.sub(r"\[.*?\](?=,|$)", "", text))
    return ["_" if re.fullmatch(r"arg\d+", parameter) else parameter for parameter in parameters]


def test_the_stub_has_the_functions_and_parameters_of_the_compiled_module():
    body = ast.parse(STUB.read_text()).body
    functions = {name: value for name, value in vars(_core).items() if inspect.isroutine(value)}
    assert written_signatures(body) == {name: compiled_signature(value) for name, value in functions.items()}

    for stub in (node for node in body if isinstance(node, ast.ClassDef)):
        members = vars(getattr(_core, stub.name))
        written = written_signatures(stub.body)
        assert written == {name: compiled_signature(members[name]) for name in written}
        assert {name for name in members if not name.startswith("_")} <= set(written)
