"""The Markdown table of one results file: `python bench/peers/report.py results/peers-....json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from client import FASTNCE

# Share of the machine that others may take before the report says so.
OTHER_LOAD = 0.05


def save(results: dict[str, Any], folder: Path) -> Path:
    """Write the results under a name made of their date; the path."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = "".join(c for c in results["date"].removesuffix("+00:00") if c.isalnum())
    path = folder / f"peers-{stamp}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path


def _setting(results: dict[str, Any]) -> list[str]:
    machine, versions = results["machine"], results["versions"]
    libraries = (
        f"{key} {value}"
        for name, facts in versions.items()
        if name != FASTNCE
        for key, value in facts.items()
        if key != "python"
    )
    ours = (f"{key} {value}" for key, value in versions[FASTNCE].items() if isinstance(value, str | int))
    return [
        f"{results['date']}, {machine['cpu']}, {machine['cores']} cores, {results['threads']} threads, "
        f"{results['allocator']} allocator, "
        f"{' '.join(machine['flags'])}",
        "",
        f"fastnce at {results['fastnce_commit'] or 'unknown commit'}: {', '.join(ours)}",
        "",
        f"peers: {', '.join(dict.fromkeys(libraries))}",
    ]


def _notes(results: dict[str, Any]) -> list[str]:
    """The figures that fastnce alone has, and the peers that were not there."""
    overhead = results["overhead"]
    lowest, median = (f"{overhead[key]:.1f} us" for key in ("min_us", "median_us"))
    lines = ["", f"Smallest call: {lowest} at best, median {median}."]
    if memory := results.get("memory"):
        extra, returned = (f"{memory[key] / 2**20:.1f} MiB" for key in ("extra_bytes", "output_bytes"))
        where = f"{memory['shape']}, by {memory['method']}"
        lines += ["", f"Extra peak memory of one call ({where}): {extra} beside {returned} of results."]
    disturbed = {name: measured["other_load"] for name, measured in results["shapes"].items()}
    if disturbed := {name: share for name, share in disturbed.items() if share > OTHER_LOAD}:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in disturbed.items())
        lines += ["", f"Do not trust these: other processes took part of the machine meanwhile: {shares}."]
    for name, reason in results["missing"].items():
        lines += ["", f"Left out: {name} ({reason})."]
    return lines


def table(results: dict[str, Any]) -> str:
    """Median ms per call, and in brackets how many times fastnce's time that was in the median round."""
    names = list(results["versions"])
    lines = [*_setting(results), "", f"| shape | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for shape, measured in results["shapes"].items():
        milliseconds, ratio = measured["median_ms"], measured["ratio"]
        cells = [f"{milliseconds[FASTNCE]:.3f}"]
        cells += [f"{milliseconds[name]:.3f} ({ratio[name]:.2f}x)" for name in names if name != FASTNCE]
        lines.append(f"| {shape} | {' | '.join(cells)} |")
    return "\n".join(lines + _notes(results))


def main() -> None:
    for path in sys.argv[1:]:
        print(table(json.loads(Path(path).read_text())))


if __name__ == "__main__":
    main()
