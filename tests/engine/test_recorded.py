"""What a line of calls.jsonl says, of calls and of streams."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentrl.engine.base import Request, Sampling
from agentrl.engine.recorded import CALLS, Recorded
from agentrl.engine.torch_engine import Torch
from agentrl.engine.vllm_stream import VLLMStream
from agentrl.log.files import read_lines
from tests.test_model import pretrained
from tests.toy import save_toy_model

ASKED = [Request((4, 1), 0, 3), Request((4, 1), 1, 3), Request((6, 1, 5), 2, 2)]


def test_a_stream_of_batches_leaves_the_lines_of_its_batches(tmp_path: Path) -> None:
    engine = Torch("float32", 2).start(pretrained(save_toy_model(tmp_path)), "cpu")
    recorded = Recorded(engine, tmp_path, 2)
    stream = recorded.stream(Sampling(1.0))
    first = dict(stream.advance(list(enumerate(ASKED))))
    second = dict(stream.advance([]))
    assert [len(first), len(second), stream.advance([])] == [2, 1, []]
    assert first | second == dict(enumerate(recorded.generate(ASKED, Sampling(1.0))))
    names = ("rows", "parts", "read", "tokens", "iterations", "stream")
    lines = read_lines(tmp_path / CALLS)
    assert [[line[name] for name in names] for line in lines] == [
        [2, 1, 2, 6, 3, True],
        [1, 1, 3, 2, 2, True],
        [3, 2, 5, 8, 5, False],
    ]
    assert all(line["seconds"] > 0 for line in lines)


class Core:
    """vLLM's engine as a stream uses it: request k takes k + 1 steps."""

    def __init__(self) -> None:
        self.left: dict[str, int] = {}

    def add_request(self, key: str, prompt: Any, params: Any, lora_request: Any) -> None:
        self.left[key] = int(key) + 1

    def abort_request(self, keys: list[str]) -> None:
        for key in keys:
            del self.left[key]

    def step(self) -> list[Any]:
        self.left = {key: left - 1 for key, left in self.left.items()}
        ended = [key for key, left in self.left.items() if not left]
        for key in ended:
            del self.left[key]
        ids = (7, 8)
        flat = SimpleNamespace(logprobs=[-1.0, -2.0], start_indices=[0, 1], token_ids=ids)
        output = SimpleNamespace(token_ids=ids, logprobs=flat)
        return [SimpleNamespace(request_id=key, outputs=[output], finished=True) for key in ended]


def test_a_stream_of_steps_leaves_a_line_for_each_stretch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stretches; what is dropped, or under way at the end, is in no line."""
    monkeypatch.setattr("agentrl.engine.vllm_stream.params_of", lambda *_: None)
    inner = VLLMStream(Core(), Sampling(), 64, 3, None)
    engine: Any = SimpleNamespace(stream=lambda _: inner, version=3)
    stream = Recorded(engine, tmp_path, 8).stream(Sampling())
    asked = list(enumerate(ASKED))
    assert [key for key, _ in stream.advance(asked[:2], wait_s=10)] == [0]
    assert not (tmp_path / CALLS).exists()
    assert [key for key, _ in stream.advance([(6, ASKED[0])], dropped=[6], wait_s=10)] == [1]
    assert [key for key, _ in stream.advance(asked[2:], wait_s=10)] == [2]
    stream.advance([(9, ASKED[0])], wait_s=0)
    stream.close()
    names = ("version", "rows", "parts", "read", "tokens", "iterations", "stream")
    lines = [[line[name] for name in names] for line in read_lines(tmp_path / CALLS)]
    assert lines == [[3, 2, 1, 2, 4, 2, True], [3, 1, 1, 3, 2, 3, True]]
