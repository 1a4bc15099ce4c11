"""Ctrl-C ends a long call on Python's main thread, changes nothing, and leaves later calls as they were."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

# In a process of its own, whose signals are its own. CPU time, not the clock: other work on the machine does not count.
SETUP = """
    import json, os, signal, threading, time
    import numpy as np
    import fastnce

    fastnce.set_num_threads(THREADS)
    # A shell without job control starts what runs in the background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(call):
        # CPU seconds that the call took before it was interrupted, or None.
        def interrupt():
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        begin = time.process_time()
        try:
            call()
        except KeyboardInterrupt:
            return time.process_time() - begin
        finally:
            thread.join()

    def report(**values):
        print(json.dumps(values))
"""

DRAW = """
    sampler = fastnce.LogUniformSampler(1_000_000, 1_000_000, seed=3)
    spent = interrupted(lambda: sampler([[0]]))
    calls = sampler.state.calls
    begin = time.process_time()
    ids = sampler([[0]]).sampled_candidates
    report(spent=spent, whole=time.process_time() - begin, calls=calls,
           complete=bool(np.array_equal(np.sort(ids), np.arange(1_000_000))))
"""

LOSS = """
    B, D, S, V = 120_000, 64, 8192, 20_000
    rng = np.random.default_rng(0)
    weights, biases = rng.standard_normal((V, D), np.float32), np.zeros(V, np.float32)
    labels, inputs = rng.integers(V, size=B), rng.standard_normal((B, D), np.float32)
    before = [array.copy() for array in (weights, biases, labels, inputs)]
    sampler = fastnce.LogUniformSampler(V, S, seed=3)
    values = sampler(labels[:, None])

    def call():
        return fastnce.nce_loss_and_grad(weights, biases, labels, inputs, S, V, sampled_values=values)[0]

    spent = interrupted(call)
    begin = time.process_time()
    loss = call()
    whole = time.process_time() - begin
    some = fastnce.nce_loss(weights, biases, labels[:100], inputs[:100], S, V,
                            sampled_values=(values[0], values[1][:100], values[2]))
    unchanged = all(map(np.array_equal, before, (weights, biases, labels, inputs)))
    report(spent=spent, whole=whole, calls=0,
           complete=bool(unchanged and np.isfinite(loss).all() and np.allclose(loss[:100], some, rtol=1e-6)))
"""

MANY_ENTRIES_PER_ROW = """
    B, D, S, V, T = 50_000, 512, 16, 1000, 100
    rng = np.random.default_rng(0)
    weights, biases = rng.standard_normal((V, D), np.float32), np.zeros(V, np.float32)
    labels, inputs = rng.integers(V, size=(B, T)), rng.standard_normal((B, D), np.float32)
    values = (np.arange(S), 1.0, np.ones(S))

    def call():
        return fastnce.nce_loss_and_grad(weights, biases, labels, inputs, S, V, T, sampled_values=values)

    begin = time.process_time()
    call()
    report(whole=time.process_time() - begin, spent=interrupted(call), calls=0, complete=True)
"""

ALL_CLASSES = """
    B, D, V = 4096, 64, 100_000
    rng = np.random.default_rng(0)
    weights, biases = 0.1 * rng.standard_normal((V, D), np.float32), np.zeros(V, np.float32)
    labels, inputs = rng.integers(V, size=B), rng.standard_normal((B, D), np.float32)
    out = np.zeros((V, D), np.float32), np.zeros(V, np.float32)

    def call():
        return fastnce.softmax_loss_and_grad(weights, biases, labels, inputs, out=out)[0]

    spent = interrupted(call)
    begin = time.process_time()
    loss = call()
    whole = time.process_time() - begin
    some = fastnce.softmax_loss(weights, biases, labels[:20], inputs[:20])
    report(spent=spent, whole=whole, calls=0, complete=bool(np.allclose(loss[:20], some, rtol=1e-6)))
"""

TRAIN_STEP = """
    B, D, S, V = 120_000, 64, 8192, 20_000
    rng = np.random.default_rng(0)
    weights, biases = rng.standard_normal((V, D), np.float32), np.zeros(V, np.float32)
    labels, inputs = rng.integers(V, size=B), rng.standard_normal((B, D), np.float32)
    optimizer = fastnce.optim.Adam(weights, biases, lr=0.1)
    before = [array.copy() for array in (weights, biases, *optimizer.state.values())]

    def call():
        return fastnce.train_step(fastnce.nce_loss_and_grad, optimizer, labels, inputs, S, V, seed=3)

    spent = interrupted(call)
    unchanged = all(map(np.array_equal, before, (weights, biases, *optimizer.state.values())))
    begin = time.process_time()
    call()
    report(spent=spent, whole=time.process_time() - begin, calls=0,
           complete=bool(unchanged and optimizer.state["step"] == 1 and not np.array_equal(before[0], weights)))
"""

GROUPS = """
    sampler = fastnce.LogUniformSampler(2000, 1500, seed=3)
    labels = np.zeros(8000, int)
    spent = interrupted(lambda: sampler(labels, num_groups=8000))
    calls = sampler.state.calls
    begin = time.process_time()
    ids = sampler(labels, num_groups=8000).sampled_candidates
    report(spent=spent, whole=time.process_time() - begin, calls=calls,
           complete=bool((np.diff(np.sort(ids, axis=1)) > 0).all()))
"""

# Nearly every draw is of the class that is excluded. The call must take several times the 0.2 s in which it may notice
# the interrupt (0.1 s until it comes, 0.1 s between two looks).
EXCLUDED = """
    sampler = fastnce.UnigramSampler([1e30, 1.0], 15, unique=False, seed=3)
    exclude = fastnce.Ragged(np.array([0]), np.array([0, 1]))
    spent = interrupted(lambda: sampler([1], num_groups=1, exclude=exclude))
    calls = sampler.state.calls
    begin = time.process_time()
    ids = sampler([1], num_groups=1, exclude=exclude).sampled_candidates
    report(spent=spent, whole=time.process_time() - begin, calls=calls, complete=ids.tolist() == [[1] * 15])
"""

HANDLED = """
    seen = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    sampler = fastnce.LogUniformSampler(1_000_000, 1_000_000, seed=3)
    spent = interrupted(lambda: sampler([[0]]))
    report(spent=spent, seen=seen, calls=sampler.state.calls)
"""

RAISED_BY_THE_HANDLER = """
    class Stop(Exception):
        pass

    def handler(number, frame):
        raise Stop("the handler's own")

    signal.signal(signal.SIGINT, handler)
    try:
        interrupted(lambda: fastnce.LogUniformSampler(1_000_000, 1_000_000, seed=3)([[0]]))
    except Stop as error:
        report(message=str(error))
"""

COMPUTED_BY_THE_HANDLER = """
    D, V = 64, 20_000
    rng = np.random.default_rng(0)
    weights, biases = 0.1 * rng.standard_normal((V, D), np.float32), np.zeros(V, np.float32)

    def problem(B, S):
        labels, inputs = rng.integers(V, size=B), rng.standard_normal((B, D), np.float32)
        values = fastnce.LogUniformSampler(V, S, seed=3)(labels[:, None])
        return lambda: fastnce.nce_loss_and_grad(weights, biases, labels, inputs, S, V, sampled_values=values)

    outer, smaller, larger = problem(40_000, 8192), problem(500, 500), problem(2000, 20_000)
    undisturbed, inside = outer(), []

    def handler(number, frame):
        inside.append([smaller()[0], larger()[0]])
        np.full(40_000_000, 7, np.uint8)  # what was freed is written to

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.15)
    loss, grads = outer()
    same = [np.array_equal(loss, undisturbed[0]), np.array_equal(grads.inputs, undisturbed[1].inputs),
            np.array_equal(grads.rows.weights, undisturbed[1].rows.weights)]
    own = [np.allclose(a, b(), rtol=1e-5) for a, b in zip(inside[0], (lambda: smaller()[0], lambda: larger()[0]))]
    report(same=same, own=own)
"""

# A sampler that learns: what is drawn, and what it is counted by, must be of the same weights.
ACTED_ON_BY_THE_HANDLER = """
    import copy

    S, V = 4_000_000, 1000

    def call(sampler):
        return sampler(np.zeros(200_000, int)).true_expected_count.shape

    def restore(sampler):
        sampler.state = sampler.state

    def call_of_a_copy(sampler):
        return copy.copy(sampler)([0]).true_expected_count.shape

    def during_a_call(sampler, act):
        # What acting on the sampler returns or raises.
        seen = []

        def handler(number, frame):
            try:
                seen.append(act(sampler))
            except RuntimeError as error:
                seen.append(str(error))

        signal.signal(signal.SIGVTALRM, handler)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.01)  # of CPU time, of which the call takes several times as much
        values = sampler([0])
        return *seen, float(values.true_expected_count[0, 0])

    rows = []
    for act in call, restore, call_of_a_copy:
        learned = fastnce.LearnedUnigramSampler(V, S, unique=False, seed=(1, 2))
        mixed = fastnce.MixedSampler([(learned, S)])
        for sampler in learned, mixed:
            seen = during_a_call(sampler, act)
            state = sampler.state if sampler is learned else sampler.state[0]
            rows.append([act.__name__, type(sampler).__name__, *seen, state.calls, int(state.weights[0])])
    report(rows=rows)
"""

# The interrupt comes once a row is updated: the call finishes its step, which counts, and then raises.
IN_THE_UPDATE = """
    V, D = 400_000, 64
    rng = np.random.default_rng(0)
    weights, rows = np.zeros((V, D), np.float32), np.ones((V, D), np.float32)
    optimizer = fastnce.optim.SGD(weights, lr=1.0)

    def interrupt():
        end = time.monotonic() + 60
        while weights[1, 0] == 0 and time.monotonic() < end:
            pass
        os.kill(os.getpid(), signal.SIGINT)

    steps = []
    calls = (
        lambda: optimizer.update_rows(np.arange(V), rows),
        lambda: fastnce.train_step(fastnce.nce_loss_and_grad, optimizer, [0], rows[:1], V, V,
                                   sampled_values=(np.arange(V), 1.0, 1.0)),
    )
    for call in calls:
        weights[:] = 0
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            call()
            thread.join()
        except KeyboardInterrupt:
            pass
        thread.join()
        steps.append([int(optimizer.state["step"]), bool((weights[1:] != 0).all())])
    report(steps=steps)
"""

ELSEWHERE = """
    from concurrent.futures import ThreadPoolExecutor

    sampler = fastnce.LogUniformSampler(1_000_000, 1_000_000, seed=3)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(sampler, [[0]])
        spent = interrupted(lambda: time.sleep(1.0))
        report(woken=spent is not None, drawn=len(future.result().sampled_candidates))
"""


def run(script: str, threads: int = 1) -> dict:
    source = textwrap.dedent(SETUP).replace("THREADS", str(threads)) + textwrap.dedent(script)
    finished = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "script",
    [DRAW, GROUPS, EXCLUDED, LOSS, MANY_ENTRIES_PER_ROW, ALL_CLASSES, TRAIN_STEP],
    ids=["unique draw", "groups", "excluded draws", "loss and gradients", "many entries", "all classes", "train step"],
)
def test_ctrl_c_ends_a_call_early_and_changes_nothing(script, threads):
    got = run(script, threads)
    assert got["spent"] is not None and got["spent"] < got["whole"] / 2
    assert got["calls"] == 0 and got["complete"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_that_is_interrupted_in_its_update_is_finished_and_counted(threads):
    assert run(IN_THE_UPDATE, threads)["steps"] == [[1, True], [2, True]]


def test_a_signal_handler_that_returns_lets_the_call_go_on():
    got = run(HANDLED)
    assert got == {"spent": None, "seen": [2], "calls": 1}


def test_what_a_signal_handler_raises_reaches_the_caller():
    assert run(RAISED_BY_THE_HANDLER) == {"message": "the handler's own"}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_signal_handler_may_call_the_library(threads):
    assert run(COMPUTED_BY_THE_HANDLER, threads) == {"same": [True] * 3, "own": [True] * 2}


def test_a_signal_handler_may_not_change_a_learning_sampler_that_draws():
    rows = run(ACTED_ON_BY_THE_HANDLER)["rows"]
    assert len(rows) == 6
    for act, name, seen, *after in rows:
        refused = f"the {name} is drawing: expected no other call of it, and no change of its state"
        assert seen == [1, 1] if act == "call_of_a_copy" else seen.startswith(refused), (act, name, seen)
        # Its count, calls and weight of class 0: as if nothing had been tried.
        assert after == [pytest.approx(4000, rel=1e-6), 1, 2]


# The GIL changes hands while the slow function runs; nothing of the library may hold a lock then.
FIRST_CALLS = """
    import faulthandler
    faulthandler.dump_traceback_later(60, exit=True)
    main_thread = threading.main_thread
    threading.main_thread = lambda: (time.sleep(0.2), main_thread())[1]
    drawn = []

    def draw():
        drawn.append(len(fastnce.log_uniform_candidate_sampler([[0]], 1, 1, True, 5).sampled_candidates))

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report(drawn=drawn)
"""


def test_the_first_calls_may_be_those_of_two_threads():
    assert run(FIRST_CALLS) == {"drawn": [1, 1]}


def test_calls_on_other_threads_go_on():
    """Python handles signals on its main thread alone."""
    assert run(ELSEWHERE) == {"woken": True, "drawn": 1_000_000}
