"""One HTML page of everything: no network, no other file; its scripts are the only ones that a browser runs in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ganglion.engine.files import read_text
from ganglion.engine.pages.assets import SCRIPTS, asset
from ganglion.engine.pages.markup import Markup, data_script, element, joined, script, script_hash
from ganglion.engine.report import sections
from ganglion.engine.report.pictures import SAMPLES, STILLS, frames, stills
from ganglion.engine.report.reading import Reading

START = Path(__file__).with_name("report.js")


def report_page(readings: Sequence[Reading], bokeh: Path, directions: Mapping[str, str]) -> str:
    """The whole page of one run or several."""
    pictures = [frames(reading, SAMPLES // len(readings)) for reading in readings]
    still = [stills(reading, STILLS // len(readings)) for reading in readings]
    left_out = sum(len(reading.pictures) - len(made) for reading, made in zip(readings, pictures, strict=True) if made)
    several = len(readings) > 1
    body = [
        sections.heading(readings),
        sections.problems(readings),
        _navigation(several),
        sections.compared(readings, directions) if several else sections.repeating(readings),
        element(
            "div",
            sections.samples(any(pictures), left_out),
            sections.health(readings),
            class_=None if several else "overview",
        ),
        sections.curves(readings),
        sections.evaluation(readings, still),
        sections.all_settings(readings),
        sections.repeating(readings) if several else None,
        sections.environment(readings),
        element("p", f"Written by ganglion report on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC.", class_="note"),
    ]
    data = [
        {"label": reading.tag, "document": reading.history.document(), "frames": made}
        for reading, made in zip(readings, pictures, strict=True)
    ]
    scripts = [read_text(bokeh), *map(asset, SCRIPTS), read_text(START)]
    title = " and ".join(reading.tag for reading in readings[:3])
    return _document(f"{title}: Ganglion report", joined(body), data_script("runs", data), scripts)


def _navigation(several: bool) -> Markup:
    names = ["samples", "health", "curves", "evaluation", "settings", "environment"]
    links = [element("a", name.capitalize(), href=f"#{name}") for name in (["results", *names] if several else names)]
    return element("nav", *links, aria_label="Sections")


def _document(title: str, body: Markup, data: Markup, scripts: Sequence[str]) -> str:
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data: blob:",
            "style-src 'unsafe-inline'",
            f"script-src {' '.join(map(script_hash, scripts))}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    head = joined(
        [
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=policy),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", title),
            element("style", Markup(asset("page.css"))),
        ]
    )
    content = joined([element("main", body), data, *map(script, scripts)])
    return f"<!DOCTYPE html>\n{element('html', element('head', head), element('body', content), lang='en')}\n"
