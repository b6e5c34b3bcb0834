"""Draws the picture of a report for the documentation: python scripts/picture_report.py [FILE.png].

A short run on made points, its report in a headless Chromium, from the page's top to its curves.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "pictures" / "report.png"
WIDTH, HEIGHT = 1160, 1560
JOB = {
    "strategy": "Minimax",
    "iterations": 4000,
    "traceInterval": 25,
    "sampleInterval": 500,
    "threads": 1,
    "execution": "eager",
    "tag": "circle",
    "traces": "lines,pictures",
}


def draw(path: Path) -> None:
    """Learn, report, and keep what the browser shows."""
    sys.path.insert(0, str(ROOT / "tests"))
    from browser import browsing

    from ganglion.engine.api import learn
    from ganglion.engine.reportcommand import write_report

    with tempfile.TemporaryDirectory() as runs:
        learn("Generator,Discriminator", "Circle", JOB, runs=runs)
        page = write_report(["circle"], runs=runs)[1]
        with browsing() as browser:
            browser.resize(WIDTH, HEIGHT)
            browser.open(page)
            browser.wait("[...document.querySelectorAll('.plot')].every((plot) => plot.childElementCount > 0)")
            browser.wait("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
            browser.screenshot(path)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    draw(target)
    print(target)
