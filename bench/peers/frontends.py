"""What PyTorch's and JAX's idioms cost: fastnce.torch and fastnce.jax beside the NumPy functions and losses by hand.

    python bench/peers/frontends.py --shapes w2v,sgns

Measured as the peers are (run.py), written to a JSON file of its own; prints its table.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

from client import FASTNCE, FRONT_ENDS
from options import common_parser, conditions_of, header, names
from report import frontends_tables, save
from rounds import measure, start_workers
from shapes import SHAPES

# Beside what one would write by hand.
WORKERS = [FASTNCE, *FRONT_ENDS, "pytorch", "pytorch_compile", "jax"]


def main() -> None:
    parser = common_parser(__doc__, rounds=15, seconds=30.0)
    parser.add_argument("--shapes", type=names(SHAPES), default=list(SHAPES), metavar="w2v,lm,...")
    options = parser.parse_args()
    conditions = conditions_of(options)
    with ExitStack() as stack:
        workers, missing = start_workers(WORKERS, conditions, stack)
        results: dict[str, Any] = {
            **header(),
            **conditions.facts(),
            "versions": {name: worker.versions for name, worker in workers.items()},
            "missing": missing,
            "shapes": {},
        }
        for shape in options.shapes:
            print(f"{shape} ...", file=sys.stderr)
            results["shapes"][shape] = measure(workers, SHAPES[shape], options.rounds, options.seconds)
    print(f"written: {save('frontends', results, options.output)}", file=sys.stderr)
    print("\n".join(frontends_tables(results)))


if __name__ == "__main__":
    main()
