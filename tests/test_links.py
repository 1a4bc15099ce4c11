"""Links between the pages of the project lead somewhere: files exist, and so do the headings that anchors name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import snippets

CODE = re.compile(r"^\s*```.*?^\s*```\s*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them: lower case, spaces become hyphens, other punctuation goes."""
    text = re.sub(r"^\s*```.*?^\s*```\s*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    links = LINK.findall(CODE.sub("", page.read_text(encoding="utf-8")))
    found = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if re.match(r"[a-z]+:", link):
            continue  # another site
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", snippets.pages(), ids=lambda page: str(page.relative_to(snippets.ROOT)))
def test_relative_links_and_anchors_resolve(page: Path) -> None:
    assert broken(page) == []


def test_a_missing_file_and_a_missing_heading_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# In `short`: why?\n\n[a](#in-short-why) [b](page.md) [c](none.md) [d](#none) [e](https://e.org)\n"
    )
    assert broken(page) == ["none.md", "#none"]
