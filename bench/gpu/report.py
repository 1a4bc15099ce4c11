"""Puts results.json together and prints the tables: a short one last on the screen, all of them in report.md.

    python bench/gpu/report.py --work DIR --output DIR

Whatever a stage left undone is missing, and named.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterable
from math import floor, log10
from pathlib import Path
from typing import Any

WIDTH, LINES = 120, 60
NAME, CELL = 30, 11
Entry = dict[str, Any]


def load(path: Path) -> Any:
    """The file's JSON, or nothing where a stage did not get so far."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def load_lines(path: Path) -> list[Any]:
    """One value per line; without the line that was being written when its process was stopped."""
    values = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            values.append(json.loads(line))
    return values


def digits(value: float) -> str:
    """Three significant ones, without exponents."""
    return f"{value:.{max(0, 2 - floor(log10(value)))}f}" if 0 < value < 100 else f"{value:.0f}"


def ours(name: str) -> bool:
    return name.startswith("fastnce")


def timed(entry: Entry, what: str) -> str:
    """Time in microseconds and a ratio: fastnce over the bare products, all others over fastnce."""
    if entry.get("wrong"):
        return "WRONG"
    if f"{what}_ms" not in entry:
        return "failed" if entry.get("failed") else ""
    base = "products" if ours(entry["name"]) else "fastnce"
    ratio = entry.get(f"over_{base}" if what == "device" else f"wall_over_{base}")
    text = digits(1e3 * entry[f"{what}_ms"])
    return f"{text} {digits(ratio):.4}" if ratio else text


def table(
    title: str, shapes: list[Any], names: Iterable[str], cell: Callable[[Entry], str], *, empty: bool = False
) -> list[str]:
    """One row per contender, one column per shape."""
    lines = [f"{title:{NAME}.{NAME}}" + "".join(f"{shape['name']:>{CELL}}" for shape in shapes)]
    for name in names:
        cells = [cell({"name": name, **shape["contenders"].get(name, {})}) for shape in shapes]
        if empty or any(cells):
            lines.append(f"{name:{NAME}.{NAME}}" + "".join(f"{text:>{CELL}}" for text in cells))
    return lines


def every_name(shapes: list[Any]) -> list[str]:
    """Contenders in the order of their levels, fastnce first."""
    names = list(dict.fromkeys(name for shape in shapes for name in shape["contenders"]))
    levels = ("f32 highest", "f32 high", "f32 medium", "bf16 highest", "bf16 medium")

    def level(name: str) -> int:
        return next(i for i, key in enumerate(levels) if name.endswith(" " + key))

    return sorted(names, key=lambda name: (level(name), not ours(name)))


def megabytes(entry: Entry) -> str:
    return f"{entry['extra_bytes'] / 2**20:.1f}" if "extra_bytes" in entry else ""


def errors(entry: Entry) -> str:
    """Loss, and the worst of the gradients."""
    found = entry.get("errors")
    if not found:
        return ""
    worst = max((value for key, value in found.items() if key != "loss"), default=0.0)
    return f"{found['loss']:.0e}/{worst:.0e}".replace("e-0", "e-")


def head(results: dict[str, Any]) -> list[str]:
    facts = results["machine"]
    gpu, packages = facts.get("gpu") or {}, facts.get("packages", {})
    rates = [f"{name} {digits(values['median'])}" for name, values in facts.get("ceilings", {}).items()]
    stages = [f"{stage['name']} {stage['status']} ({stage['seconds']} s)" for stage in results["stages"]]
    lines = [
        f"fastnce {str(facts.get('commit'))[:16]}, {facts.get('date')}, {gpu.get('name', 'no GPU')}, "
        f"driver {gpu.get('driver_version')}, torch {packages.get('torch')}",
        "ceilings: " + (", ".join(rates) or "not measured"),
        *wrapped("stages: ", stages),
    ]
    # Of those that went well only the tests have something to say.
    quiet = ("requirements", "machine", "build", "cpp-build", "sampling", "measure")
    told: dict[str, list[str]] = {}  # by what there is to say: one thing missing can keep several stages from running
    for stage in results["stages"]:
        if stage["detail"] and not (stage["status"] == "ok" and stage["name"] in quiet):
            told.setdefault(stage["detail"], []).append(stage["name"])
    lines += [f"  {', '.join(names)}: {detail}"[:WIDTH] for detail, names in told.items()]
    checks = results["sampling"].get("checks", {})
    wrong = {name: value for name, value in checks.items() if value != "ok"}
    lines.append(f"sampling: {len(checks) - len(wrong)} of {len(checks)} comparisons with the CPU agree")
    lines += [f"  {name}: {value}"[:WIDTH] for name, value in list(wrong.items())[:3]]
    troubles = list(dict.fromkeys(filter(None, (shape["fastnce_missing"] for shape in results["shapes"]))))
    return lines + [line[:WIDTH] for line in troubles + results["supervise"].get("events", [])]


def wrapped(start: str, parts: list[str]) -> list[str]:
    lines = [start]
    for part in parts:
        if len(lines[-1]) + len(part) + 2 > WIDTH:
            lines.append("  ")
        lines[-1] += part + "; "
    return lines


def sampling(results: dict[str, Any]) -> list[str]:
    times = results["sampling"].get("times", {})
    cells = [f"{name} {1e3 * t['device_ms']:.1f}/{1e3 * t['wall_ms']:.1f}" for name, t in times.items()]
    return wrapped("sampling S=8192, us device/wall: ", cells) if cells else []


LEGEND = (
    "after each time its ratio: fastnce's to cuBLAS's bare products, all others' to fastnce of the same level",
    "f32 high: fastnce's three bf16 products are 1.5 times the work of TF32, for errors of 1e-5 instead of 1e-3",
)


def short(results: dict[str, Any]) -> list[str]:
    """What fits on a screen; the rest is in report.md."""
    shapes = results["shapes"]
    names = every_name(shapes)
    steps = [name for name in names if " loss" not in name and "wait" not in name] if shapes else []
    if not any(name.startswith("fastnce f32") for name in names):
        steps = [name for name in names if " loss" not in name]
    few = [n for n in names if ours(n) and n.endswith(("f32 high", "bf16 medium")) and " loss" not in n]
    lines = head(results) + sampling(results)
    if shapes:
        lines += [*LEGEND, *table("device us per step", shapes, steps, lambda entry: timed(entry, "device"))]
        lines += table("wall us per step", shapes, few[:6], lambda entry: timed(entry, "wall"))
        memory = [n for n in names if n.endswith("f32 high") and not any(w in n for w in (" graph", " loss", "cuBLAS"))]
        lines += table("extra MiB of a step", shapes, memory, megabytes)
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], "... (the rest is in report.md)"]


def full(results: dict[str, Any]) -> list[str]:
    shapes = results["shapes"]
    names = every_name(shapes)

    def rate(shape: Any) -> Callable[[Entry], str]:
        return lambda entry: digits(1e-9 * shape["flops"] / entry["device_ms"]) if "device_ms" in entry else ""

    lines = ["```text", *head(results), "", *LEGEND]
    for title, cell in (
        ("device us per step", lambda entry: timed(entry, "device")),
        ("wall us per step", lambda entry: timed(entry, "wall")),
        ("host us per step", lambda entry: digits(1e3 * entry["host_ms"]) if "host_ms" in entry else ""),
        ("spread of device times", lambda entry: f"{entry['spread']:.1%}" if "spread" in entry else ""),
        ("extra MiB of a step", megabytes),
        ("errors loss/gradient", errors),
    ):
        lines += ["", *table(title, shapes, names, cell)]
    rates = {shape["name"]: rate(shape) for shape in shapes}
    lines += ["", "effective TFLOP/s of the three products (6 B (S + T) D over the step's device time)"]
    for shape in shapes:
        found = [(n, rates[shape["name"]](shape["contenders"].get(n, {}))) for n in names if " loss" not in n]
        lines += wrapped(f"{shape['name']}: ", [f"{name} {value}" for name, value in found if value])
    bad = [
        f"{shape['name']}, {name}: {entry.get('wrong') or entry.get('failed')}"
        for shape in shapes
        for name, entry in shape["contenders"].items()
        if entry.get("wrong") or entry.get("failed")
    ]
    return [*lines, "", *sampling(results), "", *(bad or ["no wrong results, no failures"]), "```"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    results = {
        "machine": load(options.work / "machine.json"),
        "stages": load_lines(options.work / "stages.jsonl"),
        "sampling": load(options.work / "sampling.json"),
        "supervise": load(options.work / "supervise.json"),
        "shapes": load_lines(options.work / "shapes.jsonl"),
    }
    (options.output / "results.json").write_text(json.dumps(results) + "\n")
    (options.output / "report.md").write_text("\n".join(full(results)) + "\n")
    print("\n".join(short(results)), flush=True)


if __name__ == "__main__":
    main()
