"""Every instruction set that this machine can run gives accurate results and TensorFlow's ids."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import fastnce

CHECKS = [
    "test_all_classes.py::test_every_element_is_accurate_at_every_shape",
    "test_all_classes.py::test_every_element_keeps_the_promise_of_its_precision",
    "test_all_classes.py::test_evaluation_is_the_twins_at_every_shape",
    "test_all_classes.py::test_excluded_classes_are_left_out",
    "test_all_classes.py::test_equal_rows_tie_bit_for_bit_wherever_they_stand",
    "test_all_classes.py::test_scores_that_are_not_finite",
    "test_groups.py::test_every_element_is_accurate_at_every_shape",
    "test_groups.py::test_all_options_together",
    "test_groups.py::test_lists_of_excluded_classes_of_any_length",
    "test_groups.py::test_an_infinite_weight_gives_what_the_formulas_give",
    "test_sampled_loss.py::test_every_element_is_accurate_at_every_shape",
    "test_sampled_loss.py::test_empty_and_lopsided_problems_are_accurate",
    "test_sampled_loss.py::test_huge_logits_stay_finite_and_accurate",
    "test_sampled_loss.py::test_a_nan_example_spoils_only_what_it_touches",
    "test_targets.py::test_every_loss_is_accurate",
    "test_in_batch.py::test_loss_and_gradients_of_both_towers_are_accurate",
    "test_precision.py::test_every_element_keeps_the_promise",
    "test_precision.py::test_every_tensor_keeps_the_promise",
    "test_sampler.py::test_successive_calls_are_tensorflows",
    "test_sampler.py::test_samples_are_what_a_sequential_walk_keeps",
    "test_samplers.py::test_successive_calls_are_tensorflows",
    "test_skip_gram.py::test_one_thread_is_the_twin",
    "test_skip_gram.py::test_every_width_of_a_row_is_the_twins",
    "test_skip_gram.py::test_padding_between_rows_is_neither_read_nor_written",
]


def run(arguments, isa, directory):
    """A fresh interpreter, since the instruction set is chosen when the library is imported.

    On one thread: problems so small take half the time there. The C++ tests have several on each instruction set.
    """
    environment = {**os.environ, "FASTNCE_ISA": isa, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("isa", fastnce.config()["isa_available"])
def test_checks_pass_on(isa, request):
    here = request.path.parent
    in_use = run(["-c", "import fastnce; print(fastnce.config()['isa'])"], isa, here)
    assert in_use.stdout.strip() == isa, in_use.stderr
    if isa == fastnce.config()["isa"]:
        pytest.skip("in use: every test of this run is on it")
    # The parent's command line and configuration are not the child's business, its warnings are.
    checked = run(["-m", "pytest", "-q", "-x", "-W", "error", "-p", "no:cacheprovider", *CHECKS], isa, here)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_baseline_is_always_available():
    assert "baseline" in fastnce.config()["isa_available"]


def test_the_configuration_is_printed(capsys):
    fastnce.show_config()
    printed = capsys.readouterr().out
    for item in (fastnce.__version__, fastnce.config()["isa"], str(fastnce.get_num_threads())):
        assert item in printed


def test_an_unknown_instruction_set_is_refused_at_import(request):
    finished = run(["-c", "import fastnce"], "avx9000", request.path.parent)
    assert finished.returncode == 1
    message = finished.stderr.strip().splitlines()[-1]
    assert message.startswith(("ImportError", "RuntimeError"))
    assert "FASTNCE_ISA" in message and "avx9000" in message
    for isa in fastnce.config()["isa_available"]:
        assert isa in message
