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

    def interrupted(call):
        sent = []

        def interrupt():
            time.sleep(0.3)
            sent.append(time.process_time())
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            call()
        except KeyboardInterrupt:
            return time.process_time() - sent[0]
        finally:
            thread.join()

    def report(**values):
        print(json.dumps(values))
"""

DRAW = """
    sampler = fastnce.LogUniformSampler(1_000_000, 1_000_000, seed=3)
    after = interrupted(lambda: sampler([[0]]))
    calls = sampler.state.calls
    begin = time.process_time()
    ids = sampler([[0]]).sampled_candidates
    report(after=after, whole=time.process_time() - begin, calls=calls,
           complete=bool(np.array_equal(np.sort(ids), np.arange(1_000_000))))
"""

LOSS = """
    B, D, S, V = 60_000, 64, 8192, 20_000
    rng = np.random.default_rng(0)
    weights, biases = rng.standard_normal((V, D), np.float32), np.zeros(V, np.float32)
    labels, inputs = rng.integers(V, size=B), rng.standard_normal((B, D), np.float32)
    before = [array.copy() for array in (weights, biases, labels, inputs)]
    sampler = fastnce.LogUniformSampler(V, S, seed=3)
    values = sampler(labels[:, None])

    def call():
        return fastnce.nce_loss_and_grad(weights, biases, labels, inputs, S, V, sampled_values=values)[0]

    after = interrupted(call)
    begin = time.process_time()
    loss = call()
    whole = time.process_time() - begin
    some = fastnce.nce_loss(weights, biases, labels[:100], inputs[:100], S, V,
                            sampled_values=(values[0], values[1][:100], values[2]))
    unchanged = all(map(np.array_equal, before, (weights, biases, labels, inputs)))
    report(after=after, whole=whole, calls=0,
           complete=bool(unchanged and np.isfinite(loss).all() and np.allclose(loss[:100], some, rtol=1e-6)))
"""

HANDLED = """
    seen = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    sampler = fastnce.LogUniformSampler(1_000_000, 1_000_000, seed=3)
    after = interrupted(lambda: sampler([[0]]))
    report(after=after, seen=seen, calls=sampler.state.calls)
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

ELSEWHERE = """
    from concurrent.futures import ThreadPoolExecutor

    sampler = fastnce.LogUniformSampler(1_000_000, 1_000_000, seed=3)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(sampler, [[0]])
        after = interrupted(lambda: time.sleep(1.0))
        report(woken=after is not None, drawn=len(future.result().sampled_candidates))
"""


def run(script: str, threads: int = 1) -> dict:
    source = textwrap.dedent(SETUP).replace("THREADS", str(threads)) + textwrap.dedent(script)
    finished = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("script", [DRAW, LOSS], ids=["unique draw", "loss and gradients"])
def test_ctrl_c_ends_a_call_early_and_changes_nothing(script, threads):
    got = run(script, threads)
    assert got["whole"] > 1.0, "the call is too short to show anything"
    assert got["after"] is not None and got["after"] < 0.5 * threads
    assert got["calls"] == 0 and got["complete"]


def test_a_signal_handler_that_returns_lets_the_call_go_on():
    got = run(HANDLED)
    assert got == {"after": None, "seen": [2], "calls": 1}


def test_what_a_signal_handler_raises_reaches_the_caller():
    assert run(RAISED_BY_THE_HANDLER) == {"message": "the handler's own"}


def test_calls_on_other_threads_go_on():
    """Python handles signals on its main thread alone."""
    assert run(ELSEWHERE) == {"woken": True, "drawn": 1_000_000}
