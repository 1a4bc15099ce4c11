"""What frontends.py and sampled_softmax.py have in common: certain workers timed side by side on the named shapes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from options import common_parser, conditions_of, header, names
from report import save
from rounds import measure, start_workers
from shapes import SHAPES


def compare(
    kind: str, members: Iterable[str], tables: Callable[[dict[str, Any]], list[str]], description: str | None
) -> None:
    """The command line: measures, writes a results file of that kind, prints its tables."""
    parser = common_parser(description, rounds=15, seconds=30.0)
    parser.add_argument("--shapes", type=names(SHAPES), default=list(SHAPES), metavar="w2v,lm,...")
    options = parser.parse_args()
    conditions = conditions_of(options)
    with ExitStack() as stack:
        workers, missing = start_workers(members, conditions, stack)
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
    print(f"written: {save(kind, results, options.output)}", file=sys.stderr)
    print("\n".join(tables(results)))
