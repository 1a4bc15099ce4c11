"""The precision levels: what each promises, and the three ways to ask for one."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import fastnce
from cases import Case, assert_matches_twin
from rounding import naive_float32
from tolerances import PRECISION_PER_TENSOR, Results

LEVELS = ("highest", "high", "medium")


@pytest.fixture
def restored_precision():
    before = fastnce.get_precision()
    yield
    fastnce.set_precision(before)


def tensor_errors(actual: Results, truth: Results) -> dict[str, float]:
    return {
        name: float(np.linalg.norm(getattr(actual, name) - true) / np.linalg.norm(true))
        for name, true in truth._asdict().items()
    }


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("case", [Case(1, 1, 1), Case(33, 64, 65), Case(16, 31, 33, 3), Case(130, 100, 300)], ids=str)
def test_every_element_keeps_the_promise(case, level):
    problem = case.problem()
    assert_matches_twin(problem.solve(precision=level), problem, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("case", [Case(128, 128, 64), Case(300, 64, 700), Case(90, 512, 300)], ids=str)
def test_every_tensor_keeps_the_promise(case, level):
    problem = case.problem()
    truth = problem.truth()[1]
    plain = tensor_errors(naive_float32(problem), truth)
    for name, error in tensor_errors(problem.solve(precision=level)[1], truth).items():
        # Errors are random: the comparison with NumPy's is one of sizes.
        assert error <= (2 * plain[name] + 1e-7 if level == "highest" else PRECISION_PER_TENSOR[level]), name


@pytest.mark.parametrize("level", LEVELS)
def test_bias_gradients_and_true_classes_do_not_depend_on_it_more_than_the_logits_do(level):
    """Without sampled classes there is nothing to be less precise about."""
    problem = Case(batch=20, dim=40, sampled=0, num_true=2).problem()
    np.testing.assert_equal(problem.solve(precision=level), problem.solve(precision="highest"))


@pytest.mark.parametrize("level", LEVELS)
def test_float64_is_float64_at_every_level(level):
    problem = Case(batch=33, dim=64, sampled=65, dtype="float64").problem()
    np.testing.assert_equal(problem.solve(precision=level), problem.solve(precision="highest"))


@pytest.mark.usefixtures("restored_precision")
@pytest.mark.parametrize("level", LEVELS)
def test_the_default_is_what_was_set(level):
    problem = Case(batch=33, dim=64, sampled=65).problem()
    fastnce.set_precision(level)
    assert fastnce.get_precision() == fastnce.config()["precision"] == level
    np.testing.assert_equal(problem.solve(), problem.solve(precision=level))


@pytest.mark.usefixtures("restored_precision")
@pytest.mark.parametrize(("wrong", "error"), [("low", ValueError), ("", ValueError), (None, TypeError), (1, TypeError)])
def test_set_precision_takes_nothing_else(wrong, error):
    before = fastnce.get_precision()
    with pytest.raises(error, match=r"precision.*expected 'highest', 'high' or 'medium'"):
        fastnce.set_precision(wrong)
    assert fastnce.get_precision() == before


def import_with(precision: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FASTNCE_PRECISION": precision}
    code = "import fastnce; print(fastnce.get_precision())"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("variable", "level"), [("medium", "medium"), ("", "highest")])
def test_the_environment_sets_the_default(variable, level):
    assert import_with(variable).stdout.strip() == level


def test_an_unknown_level_in_the_environment_is_refused_at_import():
    finished = import_with("low")
    assert finished.returncode == 1
    assert "FASTNCE_PRECISION = 'low': expected 'highest', 'high' or 'medium'" in finished.stderr
