"""A real browser for pages that agentrl writes; where there is none, tests that ask for it are skipped and say why."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
]  # it runs as root, in a container, without a screen


def program() -> str:
    """The browser of this machine. Skips the test where there is none, or nothing to drive it with."""
    pytest.importorskip("playwright", reason="no playwright here: pip install -c constraints.txt -e '.[dev]'")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    return found


def until(tab: Any, expression: str, *arguments: Any, deadline_s: float = 30.0) -> Any:
    """The value of a JavaScript expression as soon as it is true. A strict policy refuses the driver's own waiting.

    Fails when the deadline passes.
    """
    end = time.monotonic() + deadline_s
    while not (value := tab.evaluate(expression, *arguments)):
        assert time.monotonic() < end, f"not true within {deadline_s:g} s: {expression}"
        time.sleep(0.01)
    return value


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, started once for the tests of a module."""
    path = program()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()
