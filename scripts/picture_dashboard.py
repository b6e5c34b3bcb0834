"""Draws the picture of the live page for the documentation: python scripts/picture_dashboard.py [FILE.png] [UNTIL].

A run on digits that has ended and one on made points that is still learning, watched in a headless Chromium.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "pictures" / "dashboard.png"
WIDTH, HEIGHT = 1280, 1500
ITERATIONS = 4000  # after which the picture is taken
TOKEN = "a-token-of-the-picture"
FINISHED = (
    "Generator,Discriminator Digits strategy=NSGAN penalty=R1 iterations=20 threads=1 execution=eager tag=digits-r1"
)
LEARNING = (
    "Generator,Discriminator Circle strategy=Minimax iterations=10000 traceInterval=50 sampleInterval=500 "
    "storeSeconds=5 threads=1 execution=eager tag=circle-minimax"
)


def draw(path: Path, iterations: int) -> None:
    """Learn, serve, and keep what the browser shows."""
    sys.path.insert(0, str(ROOT / "tests"))
    from browser import browsing

    with tempfile.TemporaryDirectory() as runs:
        environment = {**os.environ, "GANGLION_RUNS": runs, "GANGLION_DASHBOARD_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "ganglion.engine"]
        subprocess.run([*command, "learn", *FINISHED.split()], env=environment, check=True)
        learning = subprocess.Popen([*command, "learn", *LEARNING.split()], env=environment)
        words = [*command, "dashboard", "--port", "0"]
        server = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            with browsing() as browser:
                browser.resize(WIDTH, HEIGHT)
                browser.open(server.stdout.readline().strip())
                browser.run("location.hash = 'run/circle-minimax'")
                for _ in range(20):  # each wait is of a minute at most
                    if browser.run(f"return Number(document.getElementById('progress').value * 10000) >= {iterations}"):
                        break
                    browser.wait("new Promise((done) => setTimeout(() => done(true), 15000))")
                browser.run("document.getElementById('look').click()")
                browser.wait("document.getElementById('picture').naturalWidth > 0")
                browser.screenshot(path)
        finally:
            server.send_signal(signal.SIGINT)
            learning.send_signal(signal.SIGINT)
            learning.wait()
            server.wait()


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    draw(target, int(sys.argv[2]) if len(sys.argv) > 2 else ITERATIONS)
    print(target)
