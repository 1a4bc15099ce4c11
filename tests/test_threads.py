"""Threads: how many are used changes no id and no more than rounding; other threads and processes go on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import fastnce
from cases import Case, assert_matches_twin

LARGE = Case(batch=300, dim=70, sampled=400, num_true=2, remove_hits=True)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("distinct", [False, True], ids=["repeated", "distinct"])
def test_results_are_accurate_on_any_number_of_threads(threads, distinct, set_threads):
    problem = Case(batch=300, dim=70, sampled=400, num_true=2, remove_hits=True, distinct=distinct).problem()
    set_threads(threads)
    assert fastnce.get_num_threads() == threads
    assert_matches_twin(problem.solve(), problem)


def test_the_same_call_on_the_same_threads_gives_the_same_bits(set_threads):
    problem = LARGE.problem()
    set_threads(2)
    np.testing.assert_equal(problem.solve(), problem.solve())


def test_openmps_variable_sets_the_number_of_threads():
    finished = subprocess.run(
        [sys.executable, "-c", "import fastnce; print(fastnce.get_num_threads())"],
        env={**os.environ, "OMP_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.stdout.strip() == "3", finished.stderr


@pytest.mark.parametrize(
    ("threads", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (10**6, ValueError),
        (2**40, ValueError),
        (1.5, TypeError),
        ("2", TypeError),
        (None, TypeError),
    ],
)
def test_a_bad_number_of_threads_is_refused_and_changes_nothing(threads, error, set_threads):
    before = fastnce.get_num_threads()
    with pytest.raises(error):
        set_threads(threads)
    assert fastnce.get_num_threads() == before


def test_two_python_threads_compute_at_once():
    problems = [Case(batch=300, dim=70, sampled=400, seed=seed).problem() for seed in range(2)]
    start, solutions = threading.Barrier(2), [[], []]

    def work(number):
        start.wait()
        solutions[number] = [problems[number].solve() for _ in range(6)]

    workers = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for number, problem in enumerate(problems):
        for solution in solutions[number]:
            assert_matches_twin(solution, problem)


def test_python_runs_on_while_the_library_computes(set_threads):
    """The interpreter lock is released: another thread's clock ticks in the middle of a call."""
    set_threads(1)
    arguments = Case(batch=4096, dim=256, sampled=4096).problem().arguments()
    ticks, stop = [], threading.Event()

    def clock():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    ticker = threading.Thread(target=clock)
    ticker.start()
    begin = time.perf_counter()
    fastnce.nce_loss_and_grad(**arguments)
    end = time.perf_counter()
    stop.set()
    ticker.join()
    quarter = (end - begin) / 4
    assert any(begin + quarter < tick < end - quarter for tick in ticks), f"no tick in a call of {end - begin:.3f} s"


# The thread computes nearly all the time, so that the interpreter ends in the middle of a call.
ENDING = """
    import threading, time
    import fastnce
    from cases import Case

    arguments = Case(batch=1500, dim=64, sampled=700).problem().arguments()

    def forever():
        while True:
            fastnce.nce_loss_and_grad(**arguments)

    threading.Thread(target=forever, daemon=True).start()
    time.sleep(0.3)
"""


def test_the_interpreter_may_end_while_a_daemon_thread_computes(request):
    script = textwrap.dedent(ENDING)
    here = request.path.parent
    finished = subprocess.run([sys.executable, "-c", script], cwd=here, timeout=60, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


# In a process of its own: forking the one that runs the tests would fork whatever other threads it has.
FORKING = """
    import os, sys, warnings
    import fastnce
    from cases import Case, assert_matches_twin

    fastnce.set_num_threads(2)
    problem = Case(batch=300, dim=70, sampled=400).problem()
    problem.solve()  # starts whatever threads the library keeps
    warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons: fork of a multi-threaded process
    child = os.fork()
    if child == 0:
        assert_matches_twin(problem.solve(), problem)
        assert fastnce.get_num_threads() == 1  # what it computes on
        fastnce.set_num_threads(3)
        assert fastnce.get_num_threads() == 1
        os._exit(0)
    assert_matches_twin(problem.solve(), problem)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_the_library_works_in_a_forked_child(request):
    script = textwrap.dedent(FORKING)
    here = request.path.parent
    finished = subprocess.run([sys.executable, "-c", script], cwd=here, timeout=60, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
