"""bench/gpu/run.sh on machines that lack something: it says what in one line, and does the rest within its time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "bench" / "gpu"))
import requirements
import toolkit
from programs import ask

GPU = Path(requirements.__file__).parent


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def nvcc(folder: Path, release: str, compiles: str = "exit 0") -> str:
    """A compiler that says which it is, and then compiles, or not."""
    told = f"Cuda compilation tools, release {release}, V{release}.99"
    return str(script(folder / "nvcc", f'case "$*" in *--version*) echo "{told}" ;; *) {compiles} ;; esac'))


# ---- which nvcc --------------------------------------------------------------------------------------------


@pytest.fixture
def choose(tmp_path, monkeypatch):
    """Among the compilers of the test alone."""
    monkeypatch.setattr(toolkit, "FOLDERS", (f"{tmp_path}/usr/local/cuda*/bin",))

    def call(path=(), capability="9.0", driver=(13, 0), **environment):
        folders = os.pathsep.join(str(tmp_path / folder) for folder in path)
        return toolkit.choose({"PATH": folders, **environment}, capability, driver)

    return call


def test_an_old_nvcc_on_the_path_does_not_win_over_cuda_home(choose, tmp_path):
    nvcc(tmp_path / "bin", "11.5")
    good = nvcc(tmp_path / "home" / "bin", "12.4")
    assert choose(["bin"], CUDA_HOME=str(tmp_path / "home")).nvcc == good


def test_the_most_specific_variable_wins(choose, tmp_path):
    named = nvcc(tmp_path / "named", "12.0")
    home = nvcc(tmp_path / "home" / "bin", "12.4")
    path = nvcc(tmp_path / "path" / "bin", "12.6")
    nvcc(tmp_path / "bin", "13.0")
    variables = {"CUDACXX": named, "CUDA_HOME": str(tmp_path / "home"), "CUDA_PATH": str(tmp_path / "path")}
    for expected, variable in zip((named, home, path), list(variables), strict=True):
        assert choose(["bin"], **variables).nvcc == expected
        del variables[variable]


def test_without_a_variable_the_newest_that_works_is_taken(choose, tmp_path):
    nvcc(tmp_path / "bin", "11.8")
    nvcc(tmp_path / "usr/local/cuda-12.2/bin", "12.2")
    newer = nvcc(tmp_path / "usr/local/cuda-12.10/bin", "12.10")
    nvcc(tmp_path / "usr/local/cuda-13.1/bin", "13.1", compiles='echo "#error -- unsupported GNU version!"; exit 1')
    assert choose(["bin"]).nvcc == newer


def test_an_nvcc_that_is_named_and_cannot_be_used_is_told(choose, tmp_path):
    old = nvcc(tmp_path / "old", "11.5")
    good = nvcc(tmp_path / "bin", "12.4")
    choice = choose(["bin"], CUDACXX=old)
    assert choice.nvcc == good
    assert choice.refused == (f"CUDACXX: {old} of CUDA 11.5 is too old: 12.0 or later is needed",)


def test_an_nvcc_that_the_driver_is_too_old_for_is_not_taken(choose, tmp_path):
    new = nvcc(tmp_path / "new", "13.0")
    good = nvcc(tmp_path / "bin", "12.4")
    assert choose(["new", "bin"], driver=(12, 4)).nvcc == good
    os.remove(good)
    missing = choose(["new", "bin"], driver=(12, 4)).missing
    assert f"{new} of CUDA 13.0 is too new for the driver, which supports CUDA 12.4" in missing


def test_without_any_nvcc_the_reason_is_one_line(choose, tmp_path):
    assert choose().missing == (
        f"an nvcc of CUDA 12.0 or later that works: none on the PATH, in CUDA_HOME or in {toolkit.FOLDERS[0]}"
    )
    broken = str(script(tmp_path / "bin" / "nvcc", "echo cannot execute; exit 126"))
    assert choose(["bin"]).missing.endswith(f": {broken} does not run: cannot execute")


@pytest.mark.parametrize(("capability", "target"), [("8.6", "86"), ("9.0", "90a"), ("12.0", "120a")])
def test_the_probe_is_compiled_for_the_gpu(choose, tmp_path, capability, target):
    nvcc(tmp_path / "bin", "13.0", compiles=f'case "$*" in *-arch=sm_{target}\\ *) ;; *) exit 1 ;; esac')
    assert choose(["bin"], capability=capability).nvcc


# ---- what else is missing ----------------------------------------------------------------------------------


def test_packages_that_are_missing_broken_or_too_old_are_told(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "a_package_too_old.py").write_text("__version__ = '2.13.6'")
    (tmp_path / "a_package_that_fails.py").write_text("raise RuntimeError('built for another NumPy')")
    assert requirements.package("a_package_too_old", (2, 13)) == ""
    assert requirements.package("a_package_too_old", (3, 0)) == "a_package_too_old >= 3.0: it is 2.13.6"
    assert requirements.package("a_package_that_fails") == "a_package_that_fails: built for another NumPy"
    assert requirements.package("a_package_there_is_not") == (
        "a_package_there_is_not: No module named 'a_package_there_is_not'"
    )


def test_missing_headers_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert requirements.headers() == f"Python's headers: no {tmp_path}/Python.h (python3-dev)"
    (tmp_path / "Python.h").touch()
    assert requirements.headers() == ""


def test_a_compiler_that_does_not_know_cxx20_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", str(script(tmp_path / "c++", "echo 'error: unrecognized option -std=c++20'; exit 1")))
    assert requirements.cxx().endswith("c++: error: unrecognized option -std=c++20")


def test_a_program_that_hangs_is_given_up_with_all_that_it_started(tmp_path):
    child = script(tmp_path / "hangs", f"sleep 60 & echo $! >{tmp_path}/pid; wait")
    begin = time.monotonic()
    assert ask([str(child)], 0.5) == (False, "no answer within 0.5 s")
    assert time.monotonic() - begin < 5
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("it left a process behind")


# ---- run.sh ------------------------------------------------------------------------------------------------

TORCH = """
class cuda:
    get_device_capability = staticmethod(lambda: (9, 0))
def ones(n, device):
    {ones}
    return type("Tensor", (), {{"sum": lambda self: self, "item": lambda self: n}})()
"""
NVIDIA_SMI = (
    """case "$*" in *compute_cap*) echo 9.0 ;; *) echo "| Driver Version: 550.1  CUDA Version: 12.4 |" ;; esac"""
)


class Machine:
    """One on which run.sh finds what the test puts there, and this Python behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([f"{folder}/packages", *sys.path]),
            "FASTNCE_WORK": f"{folder}/work",
            "PYTHON": sys.executable,
        }
        for variable in ("CUDACXX", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES"):
            self.environment.pop(variable, None)

    def program(self, name: str, text: str) -> None:
        script(self.folder / "bin" / name, text)

    def package(self, name: str, text: str) -> None:
        path = self.folder / "packages" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def python(self, text: str) -> None:
        """In front of the real one, which gets what it leaves."""
        text += f'\nexec {sys.executable} {"-S " if sys.flags.no_site else ""}"$@"'
        self.environment["PYTHON"] = str(script(self.folder / "python", text))

    def run(self, **environment: str) -> tuple[int, str, dict[str, dict[str, object]]]:
        """Exit status, what the screen shows, and the stages by name."""
        done = subprocess.run(
            ["bash", str(GPU / "run.sh"), str(self.folder / "out")],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        path = self.folder / "out" / "results.json"
        stages = json.loads(path.read_text())["stages"] if path.exists() else []
        return done.returncode, done.stdout, {stage["name"]: stage for stage in stages}


@pytest.fixture
def machine(tmp_path):
    found = Machine(tmp_path)
    found.python("")
    return found


def test_run_says_what_is_missing_and_every_stage_has_its_turn(machine):
    """A machine that lacks pybind11, with an old nvcc on the PATH; one stage hangs, one fails."""
    machine.program("nvidia-smi", NVIDIA_SMI)
    nvcc(machine.folder / "bin", "11.5")
    good = nvcc(machine.folder / "home" / "bin", "12.4")
    machine.package("torch", TORCH.format(ones=""))
    machine.package("pybind11", "raise ImportError('No module named pybind11')")
    machine.python('case "$*" in *ceilings.py*) sleep 50 ;; *supervise.py*) echo "supervise: lost"; exit 3 ;; esac')
    code, screen, stages = machine.run(
        FASTNCE_STAGES="machine build measure", FASTNCE_BUDGET="50", CUDA_HOME=str(machine.folder / "home")
    )
    assert "\nmissing: pybind11 >= 3.0: No module named pybind11 (for build)\n" in screen
    assert f"CUDACXX={good}" in (machine.folder / "work" / "requirements.sh").read_text()
    status = {name: stage["status"] for name, stage in stages.items()}
    assert status["requirements"] == "ok"
    assert status["machine"] == "out of time"
    assert status["build"] == "left out" and stages["build"]["detail"] == "pybind11 >= 3.0: No module named pybind11"
    assert status["measure"] == "FAILED (3)" and stages["measure"]["detail"] == "supervise: lost"
    assert "stages: requirements ok" in screen
    assert code == 1


def test_without_a_gpu_one_line_says_so_and_nothing_is_tried(machine):
    machine.program("nvidia-smi", "echo 'No devices were found'; exit 6")
    machine.package("torch", TORCH.format(ones="raise RuntimeError('No CUDA GPUs are available')"))
    code, screen, stages = machine.run()
    reason = "a GPU: nvidia-smi: No devices were found; PyTorch: No CUDA GPUs are available"
    assert screen.count("\nmissing: ") == 1 and f"\nmissing: {reason} (for " in screen
    assert {stage["status"] for name, stage in stages.items() if name != "requirements"} == {"left out"}
    assert stages["measure"]["detail"] == reason
    assert code == 1


def test_a_gpu_is_used_though_nvidia_smi_does_not_work(machine):
    machine.program("nvidia-smi", "exit 127")
    machine.package("torch", TORCH.format(ones=""))
    nvcc(machine.folder / "home" / "bin", "12.4")
    machine.run(FASTNCE_STAGES="none", CUDA_HOME=str(machine.folder / "home"))
    found = (machine.folder / "work" / "requirements.sh").read_text()
    assert "ARCH=90a-real\n" in found and "LACKS[measure]" not in found


def test_a_python_that_is_too_old_or_missing_is_told_in_one_line(machine):
    for python, reason in (
        (str(script(machine.folder / "old", "echo 3.9.2; exit 1")), "3.9.2"),
        ("no-such", "No such"),
    ):
        code, screen, _ = machine.run(PYTHON=python)
        assert code == 1
        assert screen.startswith(f"missing: Python 3.11 or later: PYTHON={python}: ") and reason in screen
        assert screen.count("\n") == 1


def in_stages(folder: Path, commands: str, budget: int = 530) -> str:
    setup = f"set -uo pipefail; BUDGET={budget}; WORK={folder}; LOG={folder}/log; : >$LOG; declare -A LACKS=()"
    command = f"{setup}; . {GPU}/stages.sh; {commands}"
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True).stdout


def test_without_time_nothing_is_started(tmp_path):
    started = f"touch {tmp_path}/started"
    shown = in_stages(tmp_path, f"stage late 60 10 . {started}; limited 0 {started}; limited -3 {started}; true", 4)
    assert shown == "--- late: no time after 0 s. \n"
    assert in_stages(tmp_path, f"start 0 {started}; start -1 {started}; sleep 0.5; limit_for 60 600", 4) == "0\n"
    assert not (tmp_path / "started").exists()


def test_background_jobs_end_before_anything_is_timed(tmp_path):
    shown = in_stages(tmp_path, f'start 50 sh -c "echo begun; sleep 50" >{tmp_path}/out; sleep 0.3; end_jobs; jobs -pr')
    assert shown == "" and (tmp_path / "out").read_text() == "begun\n"
