"""Documents show examples as they are."""

from __future__ import annotations

import re

from tests.base import SynchronousTestCase
from tests.examples.loading import EXAMPLES, ROOT

MARKED = re.compile(r"<!-- (examples/\S+\.py) -->\n\n```python\n(.*?)```", re.DOTALL)


class ReadmeTests(SynchronousTestCase):
    """README.md, and the README of the examples."""

    def test_readme_shows_files_as_they_are(self) -> None:
        text = (ROOT / "README.md").read_text()
        shown = dict(MARKED.findall(text))
        for name in ("embed_master", "embed_agent", "embed_framework", "thirty_lines"):
            path = f"examples/{name}.py"
            self.assertIn(path, shown, f"after <!-- {path} --> README.md lacks a block")
            self.assertEqual(shown[path], (ROOT / path).read_text(), path)

    def test_every_mark_is_followed_by_its_file(self) -> None:
        text = (ROOT / "README.md").read_text()
        self.assertEqual(
            re.findall(r"<!-- (examples/\S+\.py) -->", text),
            [name for name, _ in MARKED.findall(text)],
        )

    def test_thirty_lines_are_thirty(self) -> None:
        lines = (EXAMPLES / "thirty_lines.py").read_text().splitlines()
        self.assertLessEqual(len([line for line in lines if line.strip()]), 30)

    def test_every_example_is_introduced(self) -> None:
        text = (EXAMPLES / "README.md").read_text()
        for path in EXAMPLES.rglob("*.py"):
            self.assertIn(f"`{path.relative_to(EXAMPLES)}`", text)
