"""The report in a real browser: it draws, and nothing in it runs or is fetched."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentrl.cli import main
from tests.report_runs import a_run, solved

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
HOSTILE = (
    "<script>document.title='x'</script><img src=x onerror=\"document.title='x'\"><style>body{display:none}</style>"
)


def chromium(tmp_path: Path, *words: str) -> str:
    """What headless Chromium prints; its profile lies in ``tmp_path``."""
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_the_page_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for env in ("webshop", "robotouille"):
        for seed in (0, 1):
            a_run(tmp_path / env / f"grpo{seed}", method="grpo", env=env, seed=seed, values=solved(20 + seed, seed))
            more = {"env": {"word": HOSTILE}}
            a_run(tmp_path / env / f"odd{seed}", method="grpo", env=env, seed=seed, values=solved(9, seed), more=more)
    monkeypatch.setattr(sys, "argv", ["agentrl"])
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path), f"out={tmp_path / 'out'}", "report.draws=200"])
    page = (tmp_path / "out" / "report.html").as_uri()
    picture = tmp_path / "page.png"
    found = chromium(tmp_path, "--window-size=1200,1600", f"--screenshot={picture}", "--dump-dom", page)
    assert re.search(r"<title>agentrl report: success of 2 methods in 2 environments</title>", found)
    assert (
        found.count("<svg") == 4 + 2 * 3
    )  # curves and profiles of two environments; an interval for each method's mean
    assert found.count('<figure class="table"') >= 8
    assert not re.search(r"<(script|img)\b", found)
    assert found.count("<style") == found.count("<style>") + found.count('<style type="text/css">') > 0
    assert "<style>body{display" not in found
    assert picture.stat().st_size > 40_000  # an empty page of this size takes 8 kB
