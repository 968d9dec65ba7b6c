"""The pages of the repository say something in every line."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (".", "cli", "datamodules", "lightning_zoo", "notebooks", "tests")
PLACEHOLDER = re.compile(r"^\W*(RESULTS|TODO|TBD|FIXME|XXX)\W*$")


def test_no_line_is_a_placeholder():
    pages = {page for folder in FOLDERS for page in (ROOT / folder).glob("*.md" if folder == "." else "**/*.md")}
    assert ROOT / "lightning_zoo/generative/FACES.md" in pages
    lines = [(page.name, line) for page in sorted(pages) for line in page.read_text().splitlines()]
    assert [found for found in lines if PLACEHOLDER.match(found[1])] == []
    assert PLACEHOLDER.match("RESULTS")
    assert PLACEHOLDER.match("- TODO:")
