"""Markdown files: links lead somewhere, and lines are short enough to read."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WIDTH = 100
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# Filled in for each bundle and held to its own width below; what a table or a link needs it needs.
TEMPLATES = "templates"


def markdown_files() -> list[Path]:
    """Every Markdown file that git would track, templates excepted."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    paths = [ROOT / name for name in listed]
    return [path for path in paths if path.is_file() and TEMPLATES not in path.parts]


def anchors(text: str) -> set[str]:
    """Of every heading, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


FILES = pytest.mark.parametrize(
    "path", markdown_files(), ids=lambda path: str(path.relative_to(ROOT))
)


def test_the_readmes_are_among_the_files() -> None:
    names = {str(path.relative_to(ROOT)) for path in markdown_files()}
    assert {"README.md", "benchmarks/README.md", "targets/README.md"} <= names


@FILES
def test_links_to_files_and_headings_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(FENCED.sub("", path.read_text())):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@FILES
def test_lines_are_short(path: Path) -> None:
    for line in path.read_text().splitlines():
        exempt = line.startswith("|") or LINK.search(line)
        assert len(line) <= WIDTH or exempt, line
