"""`bglora review` as a person starts it, and its page in the system's Chromium through Playwright."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bglora
from tests.browser.chromium import executable

PATIENCE_MS = 60_000
CODE = Path(bglora.__file__).parents[1]


@contextmanager
def served(root: Path, *settings: str) -> Iterator[str]:
    """The address that the command prints for a project; ends the server afterwards."""
    for package in ("starlette", "uvicorn"):
        pytest.importorskip(package)
    words = [sys.executable, "-m", "bglora", "-C", str(root), "--json", *(f"--set={each}" for each in settings)]
    process = subprocess.Popen(
        [*words, "review", "--no-open"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CODE), "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        told = (json.loads(line) for line in process.stdout)  # notices may come before the address
        url = next((event["url"] for event in told if event["event"] == "review"), "")
        assert url, process.stderr.read()
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser; skips the test where there is none."""
    path = executable()
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def tab(browser: Any, url: str, width: int = 1280, *, dark: bool = False, view: str = "") -> Iterator[Any]:
    """A page of a visitor of his own, once it shows the project; it must not complain until it is closed."""
    phone = width < 640
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, has_touch=phone)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "response", lambda answer: complaints.append(f"{answer.status} {answer.url}") if answer.status >= 500 else 0
    )
    page.goto(url)
    page.wait_for_selector("body.ready")
    if view:
        page.goto(f"{url.split('?')[0]}#{view}")
    page.complaints = complaints
    try:
        yield page
    finally:
        context.close()
    assert complaints == []
