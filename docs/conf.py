"""How Sphinx builds the documentation: python -m sphinx -b html -W -n --keep-going docs OUT, without a network."""

import re
from pathlib import Path

project = "Ganglion"
author = "the Ganglion authors"
copyright = author
version = release = re.findall(
    r'^version = "(.*)"$', (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
)[0]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["examples", "pictures"]
nitpicky = True
highlight_language = "none"

myst_heading_anchors = 3  # headings can be linked to as code hosts do it: page.md#heading

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["page.css"]
html_title = f"Ganglion {release}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
