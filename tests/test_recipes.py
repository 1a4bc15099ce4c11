"""CONTRIBUTING's recipes, followed: what they add is small, is in no front end, and passes the tests of its kind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from fastnce import _core

ROOT = Path(__file__).parent.parent
RECIPES = Path(__file__).parent / "recipes"
MOST_FILES, MOST_LINES = {"loss": 5, "sampler": 5, "optimizer": 7}, 150
FRONT_ENDS = ("csrc/bindings/", "python/fastnce/torch/", "python/fastnce/jax/")


@pytest.mark.parametrize("recipe", MOST_FILES)
def test_a_recipe_is_a_few_small_files_and_no_front_end(recipe):
    text = (RECIPES / f"{recipe}.patch").read_text()
    files = re.findall(r"^\+\+\+ b/(.+)$", text, re.MULTILINE)
    assert len(files) <= MOST_FILES[recipe], files
    assert len(re.findall(r"^\+(?!\+\+ )", text, re.MULTILINE)) <= MOST_LINES
    assert [file for file in files if file.startswith(FRONT_ENDS)] == []


def follow(recipe: str, copy: Path, *also: str) -> None:
    """Applies a recipe to a copy of Python code and tests, and of `also`."""
    if shutil.which("git") is None:
        pytest.skip("needs git, which applies the patch")
    for name in ("python", "tests", "pyproject.toml", *also):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(ROOT / name, copy)
    subprocess.run(["git", "apply", RECIPES / f"{recipe}.patch"], cwd=copy, check=True)


def run(command: list[str | Path], copy: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=copy,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    return done.stdout


def count_passed(copy: Path, keyword: str, *files: str) -> int:
    # Without site, so that the tests import the copy, not what is installed.
    path = os.pathsep.join(map(str, (copy / "python", sysconfig.get_path("purelib"))))
    command = [sys.executable, "-S", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", keyword]
    (passed,) = re.findall(r"(\d+) passed", run([*command, *files], copy, PYTHONPATH=path))
    return int(passed)


def test_a_loss_passes_the_tests_of_every_loss(tmp_path):
    follow("loss", tmp_path)
    shutil.copy(_core.__file__, tmp_path / "python/fastnce")
    files = [f"tests/test_{name}.py" for name in ("loss_family", "targets", "gradients", "reference_losses")]
    assert count_passed(tmp_path, "damped", *files) > 50


def build_extension(copy: Path) -> None:
    """As fast as possible: not optimised, without CUDA, and for the baseline instruction set alone: the kernels of an
    instruction set draw from the log-uniform distribution only."""
    pybind11 = pytest.importorskip("pybind11", reason="needs pybind11, of which the extension is made")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    for tool in ("cmake", "ninja", os.environ.get("CXX", "c++").split()[0]):
        if shutil.which(tool, path=path) is None:
            pytest.skip(f"needs {tool}, which builds the extension")
    build, baseline = copy / "build", copy / "baseline.cmake"
    baseline.write_text("set(CMAKE_SYSTEM_PROCESSOR baseline)\n")  # of no name that cmake/isa_flags.cmake knows
    options = {
        "FASTNCE_PYTHON": "ON",
        "FASTNCE_CUDA": "OFF",
        "CMAKE_BUILD_TYPE": "None",
        "CMAKE_PROJECT_fastnce_INCLUDE": baseline,
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    defined = [f"-D{name}={value}" for name, value in options.items()]
    run(["cmake", "-G", "Ninja", "-S", copy, "-B", build, *defined], copy, PATH=path)
    run(["cmake", "--build", build], copy, PATH=path)
    (extension,) = build.glob("csrc/bindings/_core*.so")
    shutil.copy(extension, copy / "python/fastnce")


def check_sources(copy: Path, *sources: Path) -> None:
    """That these files compile, without a build."""
    compiler = os.environ.get("CXX", "c++").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}, which compiles them")
    folders = [f"-I{copy / folder}" for folder in ("csrc", "csrc/include")]
    run([compiler, "-std=gnu++20", "-fsyntax-only", *folders, *sources], copy)


def test_a_sampler_has_all_that_is_asked_of_a_distribution(tmp_path):
    """What visits every distribution compiles."""
    follow("sampler", tmp_path, "csrc")
    sources = [path for path in sorted(tmp_path.glob("csrc/**/*.cpp")) if "with_distribution(" in path.read_text()]
    assert len(sources) > 2
    check_sources(tmp_path, *sources)


def test_an_optimizer_has_all_that_is_asked_of_one(tmp_path):
    """What visits every optimizer compiles: its name and its states, and the loop over a row."""
    follow("optimizer", tmp_path, "csrc")
    check_sources(tmp_path, tmp_path / "csrc/core/optimizer.cpp", tmp_path / "csrc/cpu/isa_builds/baseline.cpp")


@pytest.mark.skipif(not os.environ.get("FASTNCE_TEST_ALL"), reason="builds the extension: make test-all")
def test_a_sampler_passes_the_tests_of_every_sampler(tmp_path):
    follow("sampler", tmp_path, "csrc", "cmake", "CMakeLists.txt")
    build_extension(tmp_path)
    files = ["tests/test_samplers.py", "tests/test_mixed_sampler.py", "tests/recipes/check_sampler.py"]
    assert count_passed(tmp_path, "zipf_mandelbrot or test_mixed_sampler or check_sampler", *files) > 50


@pytest.mark.skipif(not os.environ.get("FASTNCE_TEST_ALL"), reason="builds the extension: make test-all")
def test_an_optimizer_passes_the_tests_of_every_optimizer(tmp_path):
    follow("optimizer", tmp_path, "csrc", "cmake", "CMakeLists.txt")
    build_extension(tmp_path)
    assert count_passed(tmp_path, "lion", "tests/test_optim.py", "tests/test_train_step.py") > 20
