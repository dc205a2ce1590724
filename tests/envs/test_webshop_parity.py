"""Every recorded file of the original must replay without a difference; damaged files must be refused."""

import gzip
import json
from pathlib import Path

import pytest

from agentrl.envs.webshop import WebShop
from agentrl.envs.webshop.bench import bench
from agentrl.envs.webshop.replay import replay
from agentrl.errors import DataError

GOLDEN = {
    "golden_traces.jsonl.gz": 75,
    "reward_cases.jsonl.gz": 1000,
    "golden_bm25_lucene.jsonl.gz": 550,
    "golden_doc_tokens.jsonl.gz": 1000,
    "goals_synthetic_seed0.json.gz": 7911,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_recorded_files_agree(official: Path, name: str) -> None:
    result = replay(WebShop(data=str(official)), official / name)
    assert result["first_difference"] is None
    assert result["agree"] == result["cases"] == GOLDEN[name]


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("golden_traces.jsonl.gz", lambda record: record["steps"][1].update(reward=0.5), "steps[1].reward"),
        ("reward_cases.jsonl.gz", lambda record: record["info"].update(r_att=0.123), "info.r_att"),
        ("golden_bm25_lucene.jsonl.gz", lambda record: record["hits"].reverse(), "hits"),
        ("golden_doc_tokens.jsonl.gz", lambda record: record["tokens"].append("x"), "tokens"),
    ],
)
def test_a_changed_record_is_found(official: Path, tmp_path: Path, name: str, change, field: str) -> None:
    with gzip.open(official / name, "rt", encoding="utf-8") as file:
        records = [json.loads(next(file)) for _ in range(3)]
    change(records[1])
    path = tmp_path / "changed.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    table = str(official / "title_nouns_stub.json.gz")
    result = replay(WebShop(data=str(official), nouns=table), path)
    assert (result["cases"], result["agree"]) == (3, 2)
    assert (result["first_difference"]["case"], result["first_difference"]["field"]) == (1, field)


def test_damaged_files_are_refused(official: Path, tmp_path: Path) -> None:
    env = WebShop(data=str(official))
    whole = (official / "reward_cases.jsonl.gz").read_bytes()
    for name, content in {
        "cut.jsonl.gz": whole[: len(whole) // 2],
        "cut.jsonl": gzip.decompress(whole)[:3000],
        "unknown.jsonl": b'{"a": 1}\n',
        "empty.jsonl": b"",
        "text.jsonl": b"not json",
        "other.jsonl": b'{"goal_idx": 99999, "first_obs": "", "first_available": {}, "steps": []}',
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError):
            replay(env, tmp_path / name)
    with pytest.raises(DataError, match="official"):
        replay(WebShop(), official / "reward_cases.jsonl.gz")


def test_bench_reports_every_rate(official: Path) -> None:
    result = bench(WebShop(data=str(official)), 0.6)
    assert result["steps_per_s"] > 500  # a floor that a busy machine still keeps; the measured value is far above
    assert {"resets_per_s", "searches_per_s", "start_s", "rss_mib", "cold_share"} <= set(result)
