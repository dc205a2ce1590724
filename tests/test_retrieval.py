"""Retrieval: BM25 as the formula says, exact under pruning, equal from disk; a server, and clients of bad ones."""

from __future__ import annotations

import gzip
import json
import math
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.encyclopedia import generate, questions
from agentrl.errors import ConfigError, DataError, EnvError
from agentrl.retrieval import Document, Remote, Store, bm25, client, read_corpus
from agentrl.serve import BadRequest, RetrievalServer, read_request

SETTINGS = RetrievalServer("bundled", "127.0.0.1", 0, "unused", 3, 8)
TEXTS = {
    "Red Lamp": "a lamp of red glass",
    "Blue Lamp": "the lamp is blue, the glass is blue",
    "Harbour": "ships and lamps in the harbour",
    "Empty": "",
}


def documents(texts: dict[str, str] = TEXTS) -> list[Document]:
    return [Document.of(str(number), title, text) for number, (title, text) in enumerate(texts.items())]


@pytest.fixture(scope="module")
def store() -> Store:
    return Store.build(documents())


def titles(store: Any, query: str, k: int = 3) -> list[str]:
    return [hit.document.title for hit in store.search([query], k)[0]]


def test_documents_have_title_and_text() -> None:
    document = Document("7", '"Evan Morris"\nEvan was\na person')
    assert (document.title, document.text) == ("Evan Morris", "Evan was\na person")
    assert Document.of("7", "Evan Morris", "Evan was\na person") == document


def test_a_score_by_hand(store: Store) -> None:
    """Lucene: idf = ln(1 + (N - n + .5) / (n + .5)), tf = f / (f + k1 (1 - b + b length / mean))."""
    lengths = [len(terms) for terms in bm25.tokenize([document.contents for document in documents()])]
    assert bm25.tokenize(["The Lamps, of a ship: 3rd & 8!"]) == [["lamp", "ship", "3rd", "8"]]
    mean = sum(lengths) / 4
    idf = math.log(1 + (4 - 1 + 0.5) / (1 + 0.5))  # "blue" stands in one of four documents, three times
    tf = 3 / (3 + bm25.K1 * (1 - bm25.B + bm25.B * lengths[1] / mean))
    (hit,) = store.search(["blue"], 3)[0]
    assert hit.document.title == "Blue Lamp"
    assert hit.score == pytest.approx(idf * tf, rel=1e-5)


def test_best_first_and_no_more_than_match(store: Store) -> None:
    assert titles(store, "red lamp glass") == ["Red Lamp", "Blue Lamp", "Harbour"]
    assert titles(store, "red lamp glass", k=1) == ["Red Lamp"]
    assert titles(store, "harbour") == ["Harbour"]


@pytest.mark.parametrize("query", ["", "the of a", "zebra", "\x00\ud800", "(((", "?" * 10_000])
def test_queries_that_find_nothing(store: Store, query: str) -> None:
    assert store.search([query], 3) == [()]


def test_equal_scores_stand_in_the_order_of_the_corpus() -> None:
    store = Store.build([Document.of(str(n), "Same", "same words") for n in range(50)])
    assert [hit.document.id for hit in store.search(["same"], 4)[0]] == ["0", "1", "2", "3"]


words = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "one", "two"]), max_size=8).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(words, min_size=1, max_size=25), words, st.integers(1, 5))
def test_pruning_never_changes_the_answer(texts: list[str], query: str, k: int) -> None:
    matrix, numbers = bm25.build(texts)
    _assert_exact(matrix, numbers, query, k)


def test_pruning_is_exact_on_articles() -> None:
    world = generate(0, 1000)
    matrix, numbers = bm25.build([passage.text for passage in world.passages])
    for question in questions(world, per_region=3):
        _assert_exact(matrix, numbers, question.text, 3)


def _assert_exact(matrix: bm25.Matrix, numbers: dict[str, int], query: str, k: int) -> None:
    """The searcher answers as adding up every column would."""
    total = np.zeros(matrix.count)
    found = [numbers[term] for term in bm25.tokenize([query])[0] if term in numbers]
    for term in sorted(found):
        places, scores = matrix.column(term)
        total[places] += scores.astype(np.float64)
    order = sorted(
        (place for place in range(matrix.count) if total[place] > 0), key=lambda place: (-total[place], place)
    )
    got = bm25.Searcher(matrix, numbers).search(query, k)
    assert [place for place, _ in got] == order[:k]
    assert [score for _, score in got] == pytest.approx([total[place] for place in order[:k]])


def test_answers_are_remembered_by_query_and_number(store: Store) -> None:
    before = store.found_cached
    one, other = store.search(["remember the lamp"], 1), store.search(["remember the lamp"], 2)
    assert (len(one[0]), len(other[0])) == (1, 2)
    assert store.found_cached == before
    assert store.search(["remember the lamp"], 2) == other
    assert store.found_cached == before + 1


def test_memory_does_not_grow_with_long_queries() -> None:
    store = Store.build(documents())
    for number in range(3):
        assert titles(store, "red " * 1000 + str(number))[0] == "Red Lamp"
    assert not store._cache


def test_threads_get_the_same_answers(store: Store) -> None:
    fresh = Store.build(documents())
    queries = [f"{word} lamp {number}" for number in range(30) for word in ("red", "blue", "harbour")]
    expected = store.search(queries, 2)
    results: list[Any] = [None] * 4

    def ask(place: int) -> None:
        results[place] = fresh.search(queries, 2)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


# --- files


def write(path: Path, *records: Any) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz"])
def test_corpus_forms(tmp_path: Path, name: str) -> None:
    path = write(
        tmp_path / name,
        {"id": 5, "contents": '"T"\nx'},
        {"title": "U", "text": "y"},
        {"wikipedia_title": "W", "text": ["W\n", "first.\n", "Section::::History.\n", "", "second."]},
        {"id": "q", "question": "?", "context": [["P", ["one.", " two."]], ["T", ["z"]]]},
        {"id": "r", "question": "?", "context": [["P", ["one.", " two."]]]},
    )
    got = [(document.id, document.contents) for document in read_corpus(path)]
    assert got == [
        ("5", '"T"\nx'),
        ("1", '"U"\ny'),
        ("2/0", '"W"\nfirst.'),
        ("2/1", '"W"\nsecond.'),
        ("P", '"P"\none. two.'),
        ("T", '"T"\nz'),
    ]


def test_a_json_list_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps([{"title": "U", "text": "y"}, {"contents": "z"}], indent=1))
    assert [document.contents for document in read_corpus(tmp_path / "c.json")] == ['"U"\ny', "z"]


def test_a_corpus_of_stop_words_finds_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", {"id": "1", "contents": "the\nof a"})
    assert Store.of_file(path, tmp_path / "index").search(["the moon"], 3) == [()]


def test_bad_corpora_name_the_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: a record with the keys name is no passage"):
        list(read_corpus(write(tmp_path / "a.jsonl", {"title": "t", "text": "x"}, {"name": "n"})))
    for odd in ({"context": ["x"]}, {"context": [["t", 5]]}, {"wikipedia_title": "w", "text": ["w", 5]}):
        with pytest.raises(DataError, match="line 1: a record with the keys"):
            list(read_corpus(write(tmp_path / "a.jsonl", odd)))
    (tmp_path / "b.jsonl").write_text('{"title": "t", "text": "x"}\n{"title": ')
    with pytest.raises(DataError, match="line 2: not a JSON object"):
        list(read_corpus(tmp_path / "b.jsonl"))
    whole = gzip.compress(b'{"title": "t", "text": "x"}\n' * 100)
    (tmp_path / "c.jsonl.gz").write_bytes(whole[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        list(read_corpus(tmp_path / "c.jsonl.gz"))
    (tmp_path / "c.jsonl.gz").write_bytes(whole[:40] + b"??" + whole[42:])
    with pytest.raises(DataError, match="cannot be read"):
        list(read_corpus(tmp_path / "c.jsonl.gz"))
    for text, sentence in (('[{"title": "t"', "is it whole"), ("[5]", "record 1: not a JSON object")):
        (tmp_path / "e.json").write_text(text)
        with pytest.raises(DataError, match=sentence):
            list(read_corpus(tmp_path / "e.json"))
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(DataError):
            Store.of_file(path, tmp_path / "index")
    with pytest.raises(DataError, match="holds no passage"):
        Store.of_file(write(tmp_path / "d.jsonl"), tmp_path / "index")
    assert not list((tmp_path / "index").iterdir())


def test_an_index_on_disk_answers_like_one_in_memory(tmp_path: Path, store: Store) -> None:
    path = write(tmp_path / "c.jsonl", *({"id": d.id, "contents": d.contents} for d in documents()))
    made = Store.of_file(path, tmp_path / "index")
    (folder,) = (tmp_path / "index").iterdir()
    stamps = {entry.name: entry.stat().st_mtime_ns for entry in folder.iterdir()}
    again = Store.of_file(path, tmp_path / "index")
    assert {entry.name: entry.stat().st_mtime_ns for entry in folder.iterdir()} == stamps
    assert made.fingerprint == again.fingerprint == store.fingerprint
    for query in ("red lamp", "glass", "ships in the harbour", "blue blue lamp"):
        assert made.search([query], 3) == again.search([query], 3) == store.search([query], 3)


def test_a_damaged_index_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", {"title": "t", "text": "x"})
    Store.of_file(path, tmp_path / "index")
    (folder,) = (tmp_path / "index").iterdir()
    content = (folder / "scores.npy").read_bytes()
    (folder / "scores.npy").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"scores\.npy changed.*delete the folder"):
        Store.of_file(path, tmp_path / "index")
    write(path, {"title": "t", "text": "another"})
    assert titles(Store.of_file(path, tmp_path / "index"), "another") == ["t"]


# --- server and client


@pytest.fixture(scope="module")
def served(store: Store) -> Iterator[str]:
    with SETTINGS.open(store) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def post(url: str, body: bytes) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=5) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_client_gets_what_the_store_says(served: str, store: Store) -> None:
    queries = ["red lamp", "harbour", "zebra", "\u00e9t\u00e9"]
    assert Remote(served).search(queries, 2) == store.search(queries, 2)
    assert Remote(f"{served}/retrieve/").search([], 2) == []


def test_the_form_of_replies(served: str) -> None:
    ask = {"queries": ["red", "blue"], "topk": 1}
    status, plain = post(f"{served}/retrieve", json.dumps(ask).encode())
    assert status == 200
    assert plain == {
        "result": [
            [{"id": "0", "contents": '"Red Lamp"\na lamp of red glass'}],
            [{"id": "1", "contents": '"Blue Lamp"\nthe lamp is blue, the glass is blue'}],
        ]
    }
    _, scored = post(f"{served}/retrieve", json.dumps(ask | {"return_scores": True}).encode())
    assert [[set(entry) for entry in hits] for hits in scored["result"]] == [[{"document", "score"}]] * 2
    with urllib.request.urlopen(served, timeout=5) as reply:
        assert json.loads(reply.read())["documents"] == 4


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}", "queries is missing"),
        (b'{"queries": "one"}', "no list of texts"),
        (b'{"queries": [1]}', "no list of texts"),
        (b'{"queries": ["x"], "topk": 0}', "topk is 0"),
        (b'{"queries": ["x"], "topk": "3"}', "topk is 3"),
        (b'{"queries": ["x"], "topk": true}', "topk is True"),
        (b'{"queries": ["x"], "return_scores": 1}', "neither true nor false"),
        (json.dumps({"queries": ["x"] * 9}).encode(), "9 queries in one request; at most 8"),
    ],
)
def test_bad_requests_get_a_sentence(served: str, body: bytes, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        read_request(body, SETTINGS)
    status, reply = post(f"{served}/retrieve", body)
    assert status == 400
    assert sentence in reply["detail"]
    assert post(f"{served}/retrieve", b'{"queries": []}') == (200, {"result": []})


def test_other_paths_are_not_found(served: str) -> None:
    assert post(f"{served}/search", b"{}")[0] == 404


class Odd(BaseHTTPRequestHandler):
    """Answers as its list says, one entry for each request: (status, body, seconds to wait)."""

    script: ClassVar[list[tuple[int, bytes, float]]] = []
    asked = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body, wait = type(self).script[min(type(self).asked, len(type(self).script) - 1)]
        type(self).asked += 1
        time.sleep(wait)
        with suppress(BrokenPipeError):  # the client may not have waited
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(client, "PAUSE_S", 0.01)
    Odd.asked = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


GOOD = json.dumps({"result": [[{"document": {"id": "1", "contents": "c"}, "score": 2.0}]]}).encode()


def test_passing_failures_are_tried_again(odd: str) -> None:
    Odd.script = [(503, b"busy", 0), (429, b"slow down", 0), (200, GOOD, 0)]
    assert Remote(odd, 1.0, 2).search(["q"], 3)[0][0].document == Document("1", "c")
    assert Odd.asked == 3


def test_lasting_failures_are_one_error(odd: str) -> None:
    Odd.script = [(500, b"broken", 0)]
    with pytest.raises(EnvError, match=r"no answer after 3 tries.*500: broken.*is the server up"):
        Remote(odd, 1.0, 2).search(["q"], 3)
    assert Odd.asked == 3
    Odd.script, Odd.asked = [(400, b"topk is odd", 0)], 0
    with pytest.raises(EnvError, match="400: topk is odd"):
        Remote(odd, 1.0, 5).search(["q"], 3)
    assert Odd.asked == 1


def test_a_slow_server_is_not_waited_for(odd: str) -> None:
    Odd.script = [(200, GOOD, 0.6), (200, GOOD, 0)]
    assert len(Remote(odd, 0.2, 1).search(["q"], 3)[0]) == 1
    assert Odd.asked == 2


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b'{"result": []}', b'{"result": [[{"score": 1}]]}', b'{"result": [[1]]}', b'{"result": [5]}'],
)
def test_strange_replies_are_told(odd: str, body: bytes) -> None:
    Odd.script = [(200, body, 0)]
    with pytest.raises(EnvError, match="is it a retriever"):
        Remote(odd, 1.0, 0).search(["q"], 3)


def test_no_server_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAUSE_S", 0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EnvError, match="no answer after 2 tries"):
        Remote(f"http://127.0.0.1:{port}", 1.0, 1).search(["q"], 3)


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", {"id": "1", "contents": '"Moon"\nfar'})
    words = [sys.executable, "-m", "agentrl", "serve", "retriever", f"corpus={path}", "port=0", "server.index=index"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a background suite ignores it
    server = subprocess.Popen(words, cwd=tmp_path, preexec_fn=listen, **pipes)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == f"corpus: {path}, indexed once under index\n"
        line = server.stdout.readline()
        assert line.startswith("serving 1 passages at http://127.0.0.1:")
        assert titles(Remote(line.split()[4]), "moon") == ["Moon"]
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=20)
    finally:
        server.kill()
    assert (server.returncode, out, err) == (0, "stopped after 1 queries, 0 of them remembered\n", "")


def test_server_settings_are_checked(store: Store) -> None:
    assert SETTINGS.told == "bundled, the articles of the generated encyclopedia; corpus=FILE serves your own"
    with pytest.raises(ConfigError, match=r"server\.port: got 70000"):
        RetrievalServer("bundled", "127.0.0.1", 70000, "x", 3, 8)
    with SETTINGS.open(store) as server:
        taken = RetrievalServer("bundled", "127.0.0.1", server.server_address[1], "x", 3, 8)
        with pytest.raises(ConfigError, match="choose another port"):
            taken.open(store)
