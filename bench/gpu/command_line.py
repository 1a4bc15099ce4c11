"""What every stage of bench/gpu/run.sh can be told."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser(description: str | None, output: str) -> argparse.ArgumentParser:
    """``--device``, ``--quick`` and ``--output``, a file's name."""
    new = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    new.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    new.add_argument("--quick", action="store_true", help="tiny shapes and two rounds")
    new.add_argument("--output", type=Path, default=Path(output))
    return new
