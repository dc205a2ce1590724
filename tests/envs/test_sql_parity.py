"""Recorded files of the original must replay; every difference must be of a documented class."""

import gzip
import json
from pathlib import Path

import pytest

from agentrl.envs.intercode_sql import InterCodeSql
from agentrl.envs.intercode_sql.replay import replay
from agentrl.errors import DataError
from agentrl.panel import require_disjoint

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "intercode_sql"


@pytest.fixture(scope="module")
def spider():
    if not (FOLDER / "ic_spider_dev.json").is_file():
        pytest.skip(f"shared data not found: {FOLDER.name}/ beside the repository")
    env = InterCodeSql(data=str(FOLDER))
    yield env
    env.close()


def records(name: str, count: int | None = None) -> list[dict]:
    with gzip.open(FOLDER / name, "rt", encoding="utf-8") as file:
        return [json.loads(line) for _, line in zip(range(count or 10**9), file, strict=False)]


def written(path: Path, rows: list[dict]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_all_reward_cases(spider) -> None:
    result = replay(spider, FOLDER / "reward_cases.jsonl.gz")
    assert (result["cases"], result["exact"], result["differences"]) == (300, 300, {})


def test_all_gold_results(spider) -> None:
    result = replay(spider, FOLDER / "gold_results_mariadb.jsonl.gz")
    assert result["first_difference"] is None
    assert result["agree"] == result["cases"] == 517
    assert result["exact"] >= 491


@pytest.mark.slow
def test_all_recorded_turns(spider) -> None:
    result = replay(spider, FOLDER / "replay_mariadb_gpt-3.5.jsonl.gz")
    assert result["first_difference"] is None
    assert result["agree"] == result["cases"] == 7265
    assert result["exact"] >= 7254
    assert result["observations_equal"] >= 7000


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("reward_cases.jsonl.gz", lambda record: record.update(reward=0.123), "reward"),
        ("reward_cases.jsonl.gz", lambda record: record.update(agent_obs="[]"), "agent_obs"),
        ("gold_results_mariadb.jsonl.gz", lambda record: record.update(rows=[["wrong"]]), "obs"),
        ("gold_results_mariadb.jsonl.gz", lambda record: record["rows"].append(record["rows"][0]), "obs"),
        ("replay_mariadb_gpt-3.5.jsonl.gz", lambda record: record.update(reward=0.5), "reward"),
    ],
)
def test_a_changed_record_is_found(spider, tmp_path: Path, name: str, change, field: str) -> None:
    rows = records(name, 3)
    change(rows[1])
    result = replay(spider, written(tmp_path / "changed.jsonl", rows))
    assert (result["cases"], result["agree"], result["differences"]) == (3, 2, {})
    assert (result["first_difference"]["case"], result["first_difference"]["field"]) == (1, field)


def test_classes_need_their_proof(spider, tmp_path: Path) -> None:
    """Shuffled rows are `row order` without ORDER BY, and a difference with one; another row is never excused."""
    rows = records("gold_results_mariadb.jsonl.gz")
    free = next(r for r in rows if "order by" not in r["gold"].lower() and len(r["rows"]) > 2 and not r["corrupt_gold"])
    fixed = next(r for r in rows if r["gold"] == "SELECT Title FROM Cartoon ORDER BY title")
    for record, agree, classes in ((free, 1, {"row order": 1}), (fixed, 0, {})):
        turned = {**record, "rows": record["rows"][::-1]}
        result = replay(spider, written(tmp_path / "turned.jsonl", [turned]))
        assert (result["agree"], result["differences"]) == (agree, classes)


def test_damaged_files_are_refused(spider, tmp_path: Path) -> None:
    whole = (FOLDER / "reward_cases.jsonl.gz").read_bytes()
    for name, content in {
        "cut.jsonl.gz": whole[: len(whole) // 2],
        "unknown.jsonl": b'{"a": 1}\n',
        "empty.jsonl": b"",
        "text.jsonl": b"not json",
        "odd.jsonl": b'{"agent": 5, "gold": 5, "reward": 1, "corrupt_gold": false}',
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError):
            replay(spider, path)


def test_golden_files_of_spider_need_spider(tmp_path: Path) -> None:
    row = {"task_id": 0, "turn": 0, "action": "SELECT 1", "obs": "", "obs_len": 0, "reward": 0.0}
    with pytest.raises(DataError, match=r"env\.data=FOLDER"):
        replay(InterCodeSql(databases=3, questions=2), written(tmp_path / "turns.jsonl", [row]))


def test_the_gold_queries_of_all_questions(spider) -> None:
    """1,028 run; six are invalid on MySQL-type servers."""
    with open(FOLDER / "gold_errors_mariadb.json", encoding="utf-8") as file:
        bad = {record[0] for record in json.load(file)}
    failed = {
        int(task.id.partition("/")[2])
        for split in ("train", "val", "test")
        for task in spider.tasks(split)
        if spider.gold(spider.start(task).question).error is not None
    }
    assert failed == bad
    assert len(bad) == 6


def test_panels_of_spider(spider) -> None:
    facts = require_disjoint(spider)
    assert sum(part["tasks"] for part in facts.values()) == 1034
    papers = InterCodeSql(data=str(FOLDER), splits="all_test", databases=5, questions=3, test=1)
    assert require_disjoint(papers)["test"]["tasks"] == 1034
    assert all(task.id.startswith("bundled/") for task in papers.tasks("train"))


def test_every_row_of_the_dump_is_there(spider) -> None:
    databases = spider._loaded[0]
    assert len(databases) == 20
    assert sum(len(database.tables) for database in databases.values()) == 81
    assert sum(len(rows) for database in databases.values() for rows in database.rows.values()) == 6952
