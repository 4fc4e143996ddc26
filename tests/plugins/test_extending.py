"""docs/extending.md shows the example package: every block of code is a file of it, and every file is there."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
EXAMPLE = Path(__file__).with_name("example")
BLOCK = re.compile(r"^`(?P<file>[^`\n]+)`\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_block_is_a_file_of_the_package() -> None:
    page = PAGE.read_text()
    blocks = {match["file"]: match["text"] for match in BLOCK.finditer(page)}
    assert len(blocks) == page.count("\n```") // 2
    for name, text in blocks.items():
        assert text == (EXAMPLE / name).read_text(), name
    here = {str(path.relative_to(EXAMPLE)) for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".toml", ".yaml")}
    assert blocks.keys() == here - {"example/__init__.py"}


def test_every_file_that_the_page_points_to_is_there() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", PAGE.read_text())
    assert len(targets) == 3
    for target in targets:
        assert (PAGE.parent / target).exists(), target
