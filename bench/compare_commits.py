"""Compare two commits of this repository: results to the bit, error texts, and time side by side.

    python bench/compare_commits.py HEAD~3 HEAD --builds build/commits
    python bench/compare_commits.py main HEAD --shapes w2v,"smallest call" --rounds 60

Builds each commit in a virtual environment of its own. Every function and error of the older commit must give the same
in the newer, on every instruction set of this machine, with one thread and two. Then each shape is timed in paired
rounds: a build's median over some calls, then the other's, in alternating order. The median ratio of new to old must be
at most 1.03, and of the smallest call the median difference at most 1 us: both at the upper end of a 95 % confidence
interval. All processes are started anew twice, because where their memory lies is worth a percent. Leave the machine
alone meanwhile: only then are the intervals narrow. If others use it, `--threads 1` suffers least.

Writes a JSON and a Markdown file and prints the latter. Exits with 1 unless everything passes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parent / folder) for folder in ("commits", "peers")]
from checkout import build
from comparison import SMALLEST, TIMED, compare_results, compare_times
from intervals import CALL_LIMIT_US, FEWEST_ROUNDS, RATIO_LIMIT, Interval
from options import add_output, header, names
from report import digits, disturbed, markdown, save


def passed(name: str, measured: dict[str, Any]) -> bool:
    """Whether a shape keeps its limit."""
    if name == SMALLEST:
        return Interval(**measured["difference_us"]).high <= CALL_LIMIT_US
    return Interval(**measured["ratio"]).high <= RATIO_LIMIT


def all_passed(results: dict[str, Any]) -> bool:
    return not results["results"]["differences"] and all(passed(*item) for item in results["shapes"].items())


def report(results: dict[str, Any]) -> str:
    """In Markdown."""
    old, new = results["commits"]["old"], results["commits"]["new"]
    compared, machine = results["results"], results["machine"]
    lines = [
        f"# {old['commit'][:12]} and {new['commit'][:12]}",
        "",
        f"- Old: {old['commit']}, {old['title']!r}. New: {new['commit']}, {new['title']!r}.",
        f"- Measured {results['date']} on {machine['cpu']}, {machine['cores']} cores, {results['threads']} threads.",
        f"- {compared['arrays']:,} arrays and {compared['errors']} error texts compared: "
        f"{len(compared['differences'])} differences.",
    ]
    if compared["differences"]:
        lines += ["", "```text", *compared["differences"], "```"]
    if results["shapes"]:
        head = ["shape", "old, ms", "new, ms", "new / old", "95 % interval", "new - old, us", "95 % interval", "rounds"]
        lines += ["", *markdown([*head, "passed"], (row(*item) for item in results["shapes"].items()))]
        lines += disturbed({name: measured["other_load"] for name, measured in results["shapes"].items()})
    return "\n".join([*lines, "", "Passed." if all_passed(results) else "FAILED."])


def row(name: str, measured: dict[str, Any]) -> list[str]:
    seconds = measured["round_seconds"]
    ratio, difference = Interval(**measured["ratio"]), Interval(**measured["difference_us"])
    return [
        name,
        *(digits(1e3 * sorted(seconds[which])[len(seconds[which]) // 2]) for which in ("old", "new")),
        f"{ratio.median:.4f}",
        f"{ratio.low:.4f} to {ratio.high:.4f}",
        f"{difference.median:+.2f}",
        f"{difference.low:+.2f} to {difference.high:+.2f}",
        str(len(seconds["new"])),
        "yes" if passed(name, measured) else "NO",
    ]


def count_of_rounds(text: str) -> int:
    if (count := int(text)) < FEWEST_ROUNDS:
        raise argparse.ArgumentTypeError(f"{count}: an interval needs at least {FEWEST_ROUNDS} rounds")
    return count


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    keep_lines = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=keep_lines)
    parser.add_argument("old", help="a commit, as git names it")
    parser.add_argument("new", help="another")
    parser.add_argument("--rounds", type=count_of_rounds, default=30, help="per shape (default 30)")
    parser.add_argument(
        "--shapes", type=names(TIMED), default=list(TIMED), metavar="w2v,lm,...", help="empty: no times"
    )
    parser.add_argument("--threads", type=int, default=2, help="of the timed calls (default 2)")
    parser.add_argument("--builds", type=Path, metavar="DIR", help="keep builds there, and use those that are there")
    add_output(parser, "commits")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse_options()
    with ExitStack() as stack:
        folder = options.builds or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        builds = {name: build(getattr(options, name), folder.resolve()) for name in ("old", "new")}
        results = {
            **header(),
            "commits": {name: {"commit": b.commit, "title": b.title} for name, b in builds.items()},
            "threads": options.threads,
            "results": compare_results(builds),
            "shapes": compare_times(builds, options.shapes, options.rounds, options.threads),
        }
    path = save("compare", results, options.output)
    path.with_suffix(".md").write_text(report(results) + "\n")
    print(f"written: {path} and .md", file=sys.stderr)
    print(report(results))
    return 0 if all_passed(results) else 1


if __name__ == "__main__":
    sys.exit(main())
