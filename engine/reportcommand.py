"""What the command `report` does: reads runs, writes their page, says where it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ganglion.engine.commands import own_settings, say, split_words
from ganglion.engine.errors import ConfigError
from ganglion.engine.files import write_atomic
from ganglion.engine.job import parse_tokens
from ganglion.engine.pages.assets import bokeh_path
from ganglion.engine.report.page import report_page
from ganglion.engine.report.reading import Reading, read_run
from ganglion.engine.report.results import directions_of
from ganglion.engine.repository import Repository
from ganglion.engine.settings import Settings, setting
from ganglion.engine.tables import clean_text, print_json

MOST = 24  # runs whose curves look different


class ReportSettings(Settings):
    """Keys of `ganglion report`."""

    out: str | None = setting(
        None, "the page's file; none: report.html, or report-compared.html of several, in the (first) run's directory"
    )
    better: tuple[str, ...] = setting(
        (), "metric.figure:higher or :lower: which way is better, so that the best of several runs is marked"
    )


def report(words: Sequence[str], runs: str | None, as_json: bool) -> None:
    """The command `report`. Raises ConfigError, StoreError."""
    tags, tokens = split_words(words)
    settings: ReportSettings = own_settings(ReportSettings, parse_tokens(tokens), "ganglion report")
    readings, path = write_report(tags, settings.out, settings.better, runs)
    for reading in readings:
        for problem in reading.problems:
            say(f"{reading.tag}: {problem}")
    if as_json:
        tags = [reading.tag for reading in readings]
        print_json({"tags": tags, "file": str(path), "bytes": path.stat().st_size})
    else:
        print(clean_text(path))


def write_report(
    tags: Sequence[str], out: str | None = None, better: Sequence[str] = (), runs: Path | str | None = None
) -> tuple[list[Reading], Path]:
    """Write the page of these runs, the newest one where none is named. Raises ConfigError, PluginError, StoreError."""
    bokeh = bokeh_path("report")
    repository = Repository(runs)
    found = [repository.find(tag) for tag in dict.fromkeys(tags)] if tags else [repository.find()]
    if len(found) > MOST:
        raise ConfigError(f"report: {len(found)} runs are more than the {MOST} that a page can tell apart")
    readings = [read_run(run) for run in found]
    name = "report.html" if len(found) == 1 else "report-compared.html"
    path = _checked(Path(out).expanduser()) if out else found[0].directory / name
    page = report_page(readings, bokeh, directions_of(better, readings))
    write_atomic(path, page.encode("utf-8", "replace"))
    return readings, path


def _checked(path: Path) -> Path:
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"out={path}: a report is a web page, so its name ends in .html")
    if not path.parent.is_dir():
        raise ConfigError(f"out={path}: there is no folder {path.parent}")
    return path
