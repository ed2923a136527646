"""The report in Chromium: at both widths, light and dark, by keyboard, with no network and no complaint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bglora.report import build_report
from tests.browser.chromium import Browser, executable
from tests.browser.contrast import CONTRAST, SMALL
from tests.report.recorded import full_project

VIEWS = [(1280, False), (1280, True), (390, False), (390, True)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(executable(), tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    view = full_project(tmp_path_factory.mktemp("film"))
    return build_report(view.root, view, view.status())


@pytest.mark.parametrize(("width", "dark"), VIEWS)
def test_nothing_is_wider_than_the_window(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width, dark=dark)
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("width", "dark"), VIEWS)
def test_the_page_is_silent_and_asks_for_nothing(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width, dark=dark)
    browser.evaluate("new Promise((done) => { scrollTo(0, 1e6); setTimeout(done, 100); })")
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == [page.resolve().as_uri()]


def test_names_stay_text(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    assert browser.evaluate("document.querySelectorAll('script').length") == 1
    assert browser.evaluate("document.querySelector('h1').textContent").startswith("<script>alert(1)</script> 漢字")


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_can_be_read_against_its_background(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, 1280, dark=dark)
    assert browser.evaluate(CONTRAST) == []


def test_a_finger_meets_every_control(browser: Browser, page: Path) -> None:
    browser.open(page, 390)
    browser.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.evaluate("document.querySelectorAll('summary').length") > 3
    assert browser.evaluate(SMALL) == []


def test_the_menu_jumps_to_its_part_at_once(browser: Browser, page: Path) -> None:
    browser.open(page, 390)
    tops = browser.evaluate(
        """[...document.querySelectorAll(".parts a")].map((link) => {
          link.click();
          return document.querySelector(link.hash).getBoundingClientRect().top;
        })"""
    )
    assert len(tops) > 3 and all(0 <= top < 900 for top in tops), tops


def test_dark_is_dark_and_light_is_light(browser: Browser, page: Path) -> None:
    grounds = []
    for dark in (False, True):
        browser.open(page, 1280, dark=dark)
        color = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        grounds.append(sum(int(part) for part in color[4:-1].split(",")))
    assert grounds[0] > 600 > 150 > grounds[1]


def test_every_picture_is_decoded(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    broken = browser.evaluate(
        "Promise.allSettled([...document.images].map((i) => i.decode()))"
        ".then((all) => all.filter((one) => one.status !== 'fulfilled').length)"
    )
    assert broken == 0


def test_the_switch_shows_where_pixels_come_from(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    shown = "getComputedStyle(document.querySelector('.layer')).opacity"
    settled = f"new Promise((d) => {{ const look = () => {shown} === '1' ? d(1) : setTimeout(look, 20); look(); }})"
    assert browser.evaluate(shown) == "0"
    browser.evaluate("document.querySelector('.layer').scrollIntoView()")
    browser.evaluate("document.getElementById('origin').focus()")
    browser.press(" ", 32)
    assert browser.evaluate(f"Promise.race([{settled}, new Promise((d) => setTimeout(() => d(0), 5000))])") == 1


def test_the_viewer_works_by_keyboard_alone(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    is_open = "document.getElementById('viewer').open"
    words = "document.getElementById('viewer-words').textContent"
    browser.evaluate("document.querySelector('.strip').focus()")
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "focus must show"
    browser.press("Enter", 13)
    assert browser.evaluate(is_open) is True
    first = browser.evaluate(words)
    assert first.startswith("Frame 0")
    browser.press("ArrowRight", 39)
    assert browser.evaluate(words).startswith("Mask of frame 0")
    browser.press("ArrowRight", 39)
    browser.evaluate("document.getElementById('viewer-origin').focus()")
    browser.press(" ", 32)
    assert browser.evaluate("document.getElementById('origin').checked") is True, "the layer can be laid over here, too"
    browser.press("ArrowLeft", 37)
    browser.press("ArrowLeft", 37)
    assert browser.evaluate(words) == first
    browser.press("Escape", 27)
    assert browser.evaluate(is_open) is False
    assert browser.evaluate("document.activeElement.className").startswith("strip")
    browser.evaluate("document.querySelector('.sheet').focus()")
    browser.press("Enter", 13)
    assert browser.evaluate("document.getElementById('viewer-origin').hidden") is True, "a sheet has no layers"


def test_every_control_has_a_name_for_screen_readers(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"link", "button", "checkbox", "region", "image", "navigation", "dialog"}
    nameless = [
        node["role"]["value"]
        for node in nodes
        if not node.get("ignored")
        and node.get("role", {}).get("value") in roles
        and not node.get("name", {}).get("value")
    ]
    assert nameless == []


@pytest.mark.parametrize("width", [1280, 390])
def test_an_empty_project_is_a_page_too(browser: Browser, tmp_path: Path, width: int) -> None:
    view = full_project(tmp_path)
    view.tables, view.remarks = {}, {}
    browser.open(build_report(tmp_path, view, view.status()), width)
    assert browser.complaints() == []
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert "bglora run --all" in browser.evaluate("document.body.innerText")
