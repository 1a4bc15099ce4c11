"""README's speed claim and table are those of the results in bench/results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_readme_says_what_the_results_say() -> None:
    summary = Path(__file__).parents[1] / "bench" / "peers" / "summary.py"
    done = subprocess.run([sys.executable, str(summary), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
