"""The page in a real browser: what it shows, what it counts, and that no text of a play does anything."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agentrl.viewer.pack import Packer
from agentrl.viewer.page import page as html
from agentrl.viewer.reading import open_run
from agentrl.viewer.view import view
from tests.browser import browser, until
from tests.viewer.made import many, play, run_of, turn

__all__ = ["browser"]
Open = Callable[..., Any]


def written(folder: Path) -> Path:
    """The page of a run's folder, as `agentrl view` writes it."""

    class Words:
        run, out, open = str(folder), "", False

    return Path(view(Words())["page"])


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Opens pages, and fails the test at its end if one of them erred, asked or was hindered by its policy."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(20_000)
    wrong: list[str] = []

    def go(path: Path, fragment: str = "") -> Any:
        tab = context.new_page()
        tab.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        tab.on("console", lambda message: wrong.append(f"console: {message.text}"))
        tab.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        tab.on("request", lambda one: one.url.startswith(path.as_uri()) or wrong.append(f"request: {one.url}"))
        tab.goto(f"{path.as_uri()}#{fragment}")
        until(tab, "document.body.dataset.drawn")
        return tab

    go.wrong = wrong  # type: ignore[attr-defined]
    yield go
    context.close()
    assert not wrong


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(run_of(tmp_path_factory.mktemp("viewer") / "run", many()))


def counts(tab: Any, selector: str) -> int:
    return int(tab.evaluate("(selector) => document.querySelectorAll(selector).length", selector))


def drawn(tab: Any, act: Callable[[], Any]) -> None:
    """Do something and wait until the page has drawn what it asks for."""
    before = tab.evaluate("page.drawn")
    act()
    until(tab, "(before) => page.drawn > before && +document.body.dataset.drawn === page.drawn", before)


def fill(tab: Any, **filters: str) -> list[str]:
    """The names of the plays that are left in the list."""
    for key, value in filters.items():
        field = tab.locator(f"#f-{key}")
        field.select_option(value) if key in ("stop", "success", "sort") else field.fill(value)
    return list(
        tab.evaluate("page.search.ready.then(() => (page.filter(), page.found.map((i) => page.index.name(i))))")
    )


def test_filters_count_right(opened: Open, shop: Path) -> None:
    plays = many()
    tab = opened(shop)

    def names(fits: Callable[[dict[str, Any]], bool]) -> list[str]:
        return [f"{p['step']}.{p['group']}.{p['member']}" for p in plays if fits(p)]

    assert fill(tab) == names(bool)
    assert fill(tab, **{"from": "2"}) == names(lambda p: p["step"] >= 2)
    assert fill(tab, to="2", low=".25", high="0.5") == names(lambda p: p["step"] == 2 and 0.25 <= p["reward"] <= 0.5)
    tab.locator("#all").click()
    assert fill(tab, success="yes") == names(lambda p: p["success"])
    assert fill(tab, success="any", stop="max_turns") == names(lambda p: p["stop"] == "max_turns")
    assert fill(tab, stop="any", task="SHOP/3") == names(lambda p: p["group"] == 3)
    assert fill(tab, task="family 1") == names(lambda p: p["group"] % 2 == 1)
    assert fill(tab, task="", text="PAGE 3 of shop 2") == names(lambda p: p["step"] == 3 and p["group"] == 2)
    assert fill(tab, text="shop is closed") == ["1.1.1"]
    assert fill(tab, text="colour2") == names(lambda p: p["member"] == 2)
    assert fill(tab, text="no such text") == []
    assert tab.inner_text("#rate") == "no play fits the filters"
    assert fill(tab, text="", sort="best first")[:2] == ["1.0.3", "1.1.3"]
    assert tab.inner_text("#count") == "48 plays"
    assert tab.inner_text("#rate") == "25 % succeed"


def test_the_list_holds_what_is_seen(opened: Open, tmp_path: Path) -> None:
    plays = [play(step, group, success=group == 9) for step in range(1, 151) for group in range(10)]
    tab = opened(written(run_of(tmp_path / "run", plays)))
    assert 5 < counts(tab, ".row") < 40
    tab.evaluate("at('list').scrollTop = 1e9")
    until(tab, "document.querySelector('.row:last-child .faint').textContent.startsWith('step 150 · 9.0')")
    assert counts(tab, ".row") < 40
    assert counts(tab, "#strip .bar.won") == 75  # bars of two steps each
    assert tab.evaluate("document.querySelector('#strip title').textContent") == "step 1\u20132: 2 of 20 plays succeed"


def test_colours_are_those_of_the_tokens(opened: Open, shop: Path) -> None:
    plays = many()
    tab = opened(shop, "prompts=yes&colour=mask")
    for place in (0, 1, 2, 5):
        name = f"1.{place // 4}.{place % 4}"
        drawn(tab, lambda name=name: tab.evaluate("(name) => page.choose(page.index.numbers.get(name))", name))
        turns = plays[place]["turns"]
        sampled = sum(len(line["action_ids"]) for line in turns)
        assert counts(tab, "#view .t.s") == counts(tab, "#view .t.m") == sampled
        assert counts(tab, "#view .t:not(.s)") == sum(len(line["prompt_ids"]) for line in turns)
    drawn(tab, lambda: tab.evaluate("page.choose(2)"))
    for colour, classes in {
        "advantage": ["p4", "z", "n2", "p4", "z", "p4", "z"],
        "logprob": ["z", "h2", "h5", "z", "h2", "z", "h2"],
    }.items():
        drawn(tab, lambda colour=colour: tab.get_by_role("button", name=colour, exact=True).click())
        found = tab.evaluate("[...document.querySelectorAll('#view .t.s')].map((span) => span.className.split(' ')[2])")
        assert found == classes
    assert tab.evaluate("KNOWN") == ["mask", "advantage", "logprob"]  # what no play knows is not on offer
    said = tab.evaluate("[...document.querySelectorAll('#view .tokens:not(.prompt)')].map((node) => node.textContent)")
    assert said == ["search red<end>", "click<end>", "click<end>"]


def test_gap_and_entropy_where_they_are_known(opened: Open, tmp_path: Path) -> None:
    line = turn(learner_logprobs=[-0.01, -0.5002, -3.5], entropies=[0.01, 0.4, 6.0])
    tab = opened(written(run_of(tmp_path / "run", [play(turns=[line]), play(member=1)])), "colour=gap")
    classes = "[...document.querySelectorAll('#view .t.s')].map((span) => span.className.split(' ')[2])"
    assert tab.evaluate(classes) == ["z", "h2", "h5"]
    drawn(tab, lambda: tab.keyboard.press("c"))
    assert tab.evaluate("location.hash") == "#play=1.0.0&colour=entropy"
    assert tab.evaluate(classes) == ["z", "h2", "h6"]
    drawn(tab, lambda: tab.keyboard.press("]"))
    assert tab.evaluate(classes) == ["u", "u", "u"]  # not known of this play


def test_siblings_and_two_steps(opened: Open, shop: Path) -> None:
    tab = opened(shop, "play=2.1.2&show=siblings")
    names = "[...document.querySelectorAll('.cell .name')].map((node) => node.textContent)"
    assert tab.evaluate(names) == ["2.1.0", "2.1.1", "2.1.2", "2.1.3"]
    assert counts(tab, ".cell.wide") == 1  # they begin with the same words
    assert counts(tab, ".cell.same") == 1  # member 1 buys in its second turn, as member 2 does
    drawn(tab, lambda: tab.locator(".cell .name").nth(3).click())
    assert tab.evaluate("location.hash") == "#play=2.1.3"
    drawn(tab, lambda: tab.keyboard.press("t"))
    assert tab.evaluate(names) == ["2.1.3", "1.1.3"]  # the same task and member, at another step
    drawn(tab, lambda: tab.locator("#top select").first.select_option("3"))
    assert tab.evaluate(names) == ["2.1.3", "3.1.3"]
    assert tab.evaluate("location.hash") == "#play=2.1.3&show=steps&other=3.1.3"
    options = tab.evaluate("[...document.querySelectorAll('#top select')[1].options].map((one) => one.textContent)")
    assert ["same task" in text for text in options[:5]] == [True] * 4 + [False]
    assert "same family" in options[4]
    again = opened(shop, "play=2.1.3&show=steps&other=3.1.3")
    assert again.evaluate(names) == ["2.1.3", "3.1.3"]


def test_keys_and_links(opened: Open, shop: Path) -> None:
    tab = opened(shop, "success=yes&play=1.1.3")
    assert tab.inner_text("#count") == "12 of 48"
    drawn(tab, lambda: tab.keyboard.press("j"))
    assert tab.evaluate("page.state.play") == "1.2.3"
    drawn(tab, lambda: tab.keyboard.press("["))
    assert tab.evaluate("page.state.play") == "1.2.2"
    tab.keyboard.press("/")
    drawn(tab, lambda: tab.keyboard.type("x"))  # a letter in a field is a letter
    assert tab.evaluate("page.state.text") == "x"
    tab.keyboard.press("Escape")
    drawn(tab, lambda: tab.keyboard.press("x"))
    assert tab.evaluate("location.hash") == "#play=1.2.2"
    drawn(tab, lambda: tab.evaluate("location.hash = '#task=shop/2&from=3'"))
    assert tab.inner_text("#count") == "4 of 48"
    assert tab.input_value("#f-from") == "3"
    tab.keyboard.press("?")
    assert tab.evaluate("at('keys').open")


def test_long_texts_come_in_parts(opened: Open, tmp_path: Path) -> None:
    line = turn(said="z" * 250_000, ids=(810,) * 9000, logprobs=[-0.1] * 9000, advantages=[])
    tab = opened(written(run_of(tmp_path / "run", [play(turns=[line])])))
    size = "document.querySelector('#view .turn:not(.start) .message .text').textContent.length"
    assert tab.evaluate(size) < 4100
    assert counts(tab, "#view .t.s") == 4000
    tab.locator("#view .tokens .more").click()
    assert counts(tab, "#view .t.s") == 9000
    for _ in range(3):
        tab.locator("#view .message .more").last.click()
    assert tab.evaluate(size) == 250_000


HOSTILE = (
    "<script>hit=1</script>",
    "</script><script>hit=1</script>",
    "<!--<script>hit=1//-->",
    '"><img src=x onerror=hit=1><svg onload=hit=1>',
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe><base href=//evil.test>",
    "<meta http-equiv=refresh content='0;url=http://evil.test'><link rel=stylesheet href=http://evil.test/x.css>",
    "<a href=javascript:hit=1 autofocus onfocus=hit=1>javascript:hit=1</a>",
    "</textarea></select></title></style><style>*{display:none}</style>",
    "\u202e\u2066gnp.exe\u0000\u001b[2J\u2028\ufeff",
    "\ud800 half a pair",
    "{{script}} ${hit=1} \\u003cscript> ' \" ` &lt;b&gt;",
    "__proto__",
    "constructor",
    "w" * 30_000,
)


def hostile(text: str, group: int) -> list[dict[str, Any]]:
    """Two members that say it wherever anything can be said."""
    line = turn(action=text, said=text, finish=text, info={text: text})
    line["observation"][0]["role"] = text
    shared = {"task": text, "family": text, "stop": text, "reward_parts": {text: 1.0}, "error": text, "turns": [line]}
    first = [{"role": text, "content": text}]
    return [play(1, group, member, **shared, first_observation=first) for member in range(2)]


def test_no_text_does_anything(opened: Open, tmp_path: Path) -> None:
    plays = [line for group, text in enumerate(HOSTILE) for line in hostile(text, group)]
    folder = run_of(tmp_path / "<img src=x onerror=hit=1>", plays)
    config = {"choices": {"method": HOSTILE[1], "env": HOSTILE[3]}, "model": {"path": "/no<script>hit=1</script>"}}
    (folder / "config.yaml").write_text(json.dumps(config))
    tab = opened(written(folder))
    scripts = tab.evaluate("document.scripts.length")
    for number in range(0, len(plays), 2):
        for show in ("play", "siblings", "steps"):
            drawn(tab, lambda show=show, number=number: tab.evaluate(f"page.choose({number}, '{show}')"))
    drawn(tab, lambda: tab.evaluate("page.set({text: '<script>'}), page.follow()"))
    assert tab.inner_text("#count") == f"{2 * sum('<script>' in text for text in HOSTILE)} of {len(plays)}"
    assert tab.evaluate("typeof hit") == "undefined"
    assert tab.evaluate("document.scripts.length") == scripts == len(set_of_blocks(folder)) + 2
    assert counts(tab, "img, iframe, object, embed, link, base, a, [onerror], [onload], [style*=display]") == 0
    drawn(tab, lambda: tab.evaluate("page.clear(), page.choose(2, 'play')"))
    assert HOSTILE[1] in tab.inner_text("#view")
    assert HOSTILE[1] == tab.inner_text("#top h2")
    drawn(tab, lambda: tab.evaluate("page.choose(16, 'play')"))
    assert "⟨U+202E⟩⟨U+2066⟩gnp.exe␀␛[2J⟨U+2028⟩⟨U+FEFF⟩" in tab.inner_text("#view")


def set_of_blocks(folder: Path) -> list[str]:
    """The names of the blocks of data that the page of this run must have."""
    packer = Packer()
    for line in open_run(str(folder)).plays():
        packer.add(line)
    packed = packer.finish(None)
    assert html(packed, {}, "").count("<script") == len(packed.blocks) + 2
    return list(packed.blocks)


def test_the_policy_stops_what_gets_in_all_the_same(opened: Open, shop: Path) -> None:
    """If a text did become markup, no script of it would run and no request would leave."""
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        tab = opened(shop)
        home = f"http://127.0.0.1:{server.server_port}"
        stopped = tab.evaluate(
            """async (home) => {
              const stopped = [];
              addEventListener("securitypolicyviolation", (event) => stopped.push(event.effectiveDirective));
              const script = document.createElement("script");
              script.textContent = "globalThis.hit = 1";
              document.body.append(script);
              const box = document.createElement("div");
              document.body.append(box);
              box.innerHTML = `<img src="${home}/img" onerror="globalThis.hit = 1">
                               <iframe src="${home}/frame"></iframe>`;
              await fetch(`${home}/fetch`).catch(() => {});
              await new Promise((done) => setTimeout(done, 300));
              return stopped;
            }""",
            home,
        )
        assert {"script-src-elem", "script-src-attr", "img-src", "frame-src", "connect-src"} <= set(stopped)
        assert tab.evaluate("typeof hit") == "undefined"
        assert not asked
    finally:
        server.shutdown()
        server.server_close()
    opened.wrong.clear()  # type: ignore[attr-defined] # the browser says on the console what it stopped
