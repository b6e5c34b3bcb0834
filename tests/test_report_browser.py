"""The report in a browser: no complaint, no request, by keyboard, on a phone's width, in dark and in light."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, browsing
from madeup import JOB, RECORD, SETTINGS, make_run, points

from ganglion.engine.reportcommand import write_report

pytest.importorskip("bokeh", reason="needs the extra report: pip install ganglion[report]")

EVIL = "<img src=x onerror=alert(1)>"
ALARM = {"kind": "collapse", "sentence": f"samples are 97 % alike {EVIL}"}
LEFT, SPACE, ENTER = "\ue012", "\ue00d", "\ue007"  # selenium's names of keys
DRAWN = "[...document.querySelectorAll('.plot')].every(plot => plot.childElementCount > 0) && document.readyState"
PHONE = 360
WIDE = "discriminator.A_layer_with_a_name_that_is_wider_than_a_phone.argument"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with an alarm, a figure that is hostile and one that is nan."""
    runs = tmp_path_factory.mktemp("runs")
    trace: list[dict[str, Any]] = []
    for point in points():
        trace.append({**point, EVIL: None if point["iteration"] == 500 else 1.0})
        health: dict[str, Any] = {"iteration": point["iteration"], "health": {"coverage": point["iteration"] / 4000}}
        trace.append({**health, "alarms": [ALARM]} if 500 <= point["iteration"] <= 1000 else health)
    job = {**JOB, "settings": {**SETTINGS, WIDE: 1}}
    make_run(runs, "gan-1", trace, job, {**RECORD, "defaults": {WIDE: 0}}, samples=(0, 1000, 2000))
    make_run(runs, "gan-2", points(10))
    write_report(["gan-1", "gan-2"], runs=runs)
    return write_report(["gan-1"], runs=runs)[1]


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    """The page as it was at first; it is loaded once, because that takes the longest."""
    if browser.run("return location.href") != page.resolve().as_uri():
        browser.open(page)
    browser.prefer("light")
    browser.resize(1200)
    browser.run("document.querySelector('.all-charts button').click()")
    browser.wait(DRAWN)
    return browser


def values(browser: Browser, selector: str) -> list[str]:
    """The texts of all elements that the selector names, or the values of fields."""
    script = "return [...document.querySelectorAll(arguments[0])].map(each => each.value || each.textContent)"
    found: list[str] = browser.run(script, selector)
    return found


def test_nothing_is_complained_of_and_nothing_asked_for(opened: Browser) -> None:
    assert opened.complaints() == []
    assert opened.requests() == []
    assert opened.run("return performance.getEntriesByType('resource').filter(r => !r.name.startsWith('data:'))") == []
    titles = ["Losses", "Parts of the losses", "Health: coverage", "Speed (iterations per second)"]
    assert values(opened, ".chart h3") == titles
    assert values(opened, ".legend label")[:2] == ["discriminatorLoss", "generatorLoss"]


def test_words_of_a_run_are_text(opened: Browser) -> None:
    assert opened.run("return document.querySelectorAll('img[onerror], .legend img, .alarms img').length") == 0
    assert EVIL in values(opened, ".legend label")
    (alarm,) = values(opened, ".alarms li")
    assert EVIL in alarm and "from iteration 500 to 1,000, over since" in alarm


def test_the_keyboard_moves_through_the_pictures(opened: Browser) -> None:
    slider = opened.find("#samples-area input[type=range]")
    assert (
        opened.run("return document.querySelector('#samples-area img').alt")
        == "Samples of run gan-1 after 2,000 iterations"
    )
    slider.send_keys(LEFT)
    assert values(opened, "#samples-area output") == ["1,000"]
    assert (
        opened.run("return document.querySelector('#samples-area img').alt")
        == "Samples of run gan-1 after 1,000 iterations"
    )
    assert opened.run("return document.querySelector('#samples-area img').naturalWidth") == 16
    opened.find("#samples-area button").send_keys(SPACE)
    opened.wait("document.querySelector('#samples-area output').textContent === '2,000'")


def test_the_keyboard_zooms_reads_values_and_switches(opened: Browser) -> None:
    first = opened.find(".all-charts input[type=number]")
    first.clear()
    first.send_keys("500", ENTER)
    assert values(opened, ".all-charts input[type=number]") == ["500", "2000"]
    first.clear()
    first.send_keys("9000", ENTER)  # beyond the other end: put back
    assert values(opened, ".all-charts input[type=number]") == ["500", "2000"]
    first.clear()
    assert values(opened, ".all-charts input[type=number]") == ["500", "2000"]
    opened.find(".all-charts button").send_keys(ENTER)
    assert values(opened, ".all-charts input[type=number]") == ["0", "2000"]
    opened.run("document.querySelector('.cursor input').value = 1001")
    opened.find(".cursor input").send_keys(LEFT)
    assert values(opened, ".cursor output") == ["1,000"]
    assert values(opened, ".reading")[:2] == ["0.55", "0.75"]
    opened.find(".chart summary").send_keys(ENTER)
    opened.wait("document.querySelector('.chart tbody tr')")
    assert values(opened, ".chart tbody tr:first-child td")[1:3] == ["0.505 (at 100)", "0.6 (at 2,000)"]
    opened.find(".legend input").send_keys(SPACE)
    opened.find(".all-charts input[type=checkbox]").send_keys(SPACE)  # on a log scale all are drawn anew
    opened.wait(DRAWN)
    assert opened.complaints() == []


def test_the_mouse_zooms_into_all_charts(opened: Browser) -> None:
    from selenium.webdriver import ActionChains

    plot = opened.find(".plot")
    opened.run("arguments[0].scrollIntoView({block: 'center'})", plot)
    ActionChains(opened.driver).move_to_element(plot).click_and_hold().move_by_offset(100, 0).release().perform()
    opened.wait("document.querySelectorAll('.all-charts input')[0].value !== '0'")
    start, end = (int(value) for value in values(opened, ".all-charts input[type=number]"))
    assert 500 < start < end < 2000
    assert values(opened, ".cursor output") != ["2,000"]
    ActionChains(opened.driver).double_click(plot).perform()
    opened.wait("document.querySelectorAll('.all-charts input')[0].value === '0'")


def test_a_phone_needs_no_sideways_scrolling(opened: Browser) -> None:
    opened.resize(PHONE, 740)
    opened.wait("document.querySelector('.plot').clientWidth < 360")
    assert opened.run("return document.documentElement.scrollWidth") <= PHONE
    assert opened.run("return document.querySelector('.plot').clientWidth") > 300


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_curves_stand_out(opened: Browser, scheme: str) -> None:
    opened.prefer(scheme)
    paper = colour(opened, "body", "background-color")
    assert (sum(paper) > 600) == (scheme == "light")
    for selector in ("body", ".note", "a", ".alarms strong", "figcaption"):
        assert contrast(colour(opened, selector, "color"), paper) >= 4.5, selector
    assert contrast(colour(opened, "button", "color"), colour(opened, "button", "background-color")) >= 4.5
    for number in range(1, 7):
        shown = f"getComputedStyle(document.documentElement).getPropertyValue('--curve-{number}').trim()"
        text = opened.run(f"return {shown}")
        assert contrast(tuple(int(text[place : place + 2], 16) for place in (1, 3, 5)), paper) >= 3, text


def test_several_runs_are_overlaid(opened: Browser, page: Path) -> None:
    opened.open(page.with_name("report-compared.html"))
    opened.wait(DRAWN)
    assert values(opened, ".chart h3")[:2] == ["discriminatorLoss", "generatorLoss"]
    assert values(opened, ".legend li label")[:2] == ["gan-1", "gan-2"]
    dashes = (
        "[...document.querySelectorAll('.chart:first-child line')].map(each => each.getAttribute('stroke-dasharray'))"
    )
    assert opened.run(f"return new Set({dashes}).size") == 2
    assert opened.complaints() == []


def colour(browser: Browser, selector: str, name: str) -> tuple[int, ...]:
    text = browser.run("return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name)
    return tuple(int(part) for part in text[text.index("(") + 1 : -1].split(",")[:3])


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The ratio of luminances by which readable text is told."""

    def luminance(colour: tuple[int, ...]) -> float:
        linear = [(part / 255 / 12.92) if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)
