"""Episodes of InterCode-SQL: panels, both dialogues, the compact view, the analyst, snapshots."""

import pickle
import random

import pytest

from agentrl.envs.check import check_env
from agentrl.envs.intercode_sql import InterCodeSql
from agentrl.envs.intercode_sql.compact import COMPACT_WORDS
from agentrl.envs.intercode_sql.panels import read_questions
from agentrl.envs.intercode_sql.questions import Ask, read_ask
from agentrl.errors import ConfigError, DataError, EnvError
from agentrl.panel import require_disjoint
from agentrl.types import Message, Task

SMALL = {"databases": 12, "questions": 10, "val": 5, "test": 9}


@pytest.fixture(scope="module")
def text():
    env = InterCodeSql(**SMALL)
    yield env
    env.close()


@pytest.fixture(scope="module")
def compact():
    env = InterCodeSql(view="compact", **SMALL)
    yield env
    env.close()


@pytest.fixture(scope="module")
def react():
    env = InterCodeSql(wrapper="react", max_chars=40, **SMALL)
    yield env
    env.close()


def say(episode, content: str):
    return episode.step(Message("assistant", content))


def success(env, noise: float, count: int, seed: int = 0) -> float:
    expert, wins = env.expert(noise, seed), 0
    for task in env.tasks("train")[:count]:
        episode, total = env.start(task), 0.0
        for _ in range(env.max_turns):
            step = episode.step(expert(episode))
            total += step.reward
            if step.done:
                break
        wins += total >= env.success_return
        episode.close()
    return wins / min(count, len(env.tasks("train")))


@pytest.mark.parametrize("name", ["text", "compact", "react"])
def test_the_contract(request, name: str) -> None:
    env = request.getfixturevalue(name)
    assert check_env(env, tasks=3) == []


def test_a_play_in_plain_dialogue(text) -> None:
    task = next(t for t in text.tasks("train") if t.data["question"]["ask"].get("column") == "name")
    episode = text.start(task)
    gold = task.data["question"]["gold"]
    assert "submit" in episode.goal[0].content
    assert task.data["question"]["query"] in episode.goal[1].content
    wrong = say(episode, "SELECT nothing FROM nowhere")
    assert wrong.observation[0].content == f"Error executing query: Table '{task.family}.nowhere' doesn't exist"
    assert (wrong.reward, wrong.done, wrong.parsed, wrong.info["error"]) == (0.0, False, True, True)
    right = say(episode, f"I think this is it:\n```sql\n{gold}\n```")
    assert (right.reward, right.done, right.info["reward_now"]) == (0.0, False, 1.0)
    assert right.observation[0].content.startswith("[(")
    end = say(episode, "submit")
    assert (end.reward, end.done, end.info["corrupt_gold"]) == (1.0, True, False)
    assert end.info["agent_obs"] == end.info["eval_obs"]
    assert end.info["reward_parts"]["iou"] == 1.0


def test_submit_without_a_query_and_skip_earn_nothing(text) -> None:
    task = text.tasks("train")[0]
    end = say(text.start(task), "submit")
    assert (end.reward, end.done) == (0.0, True)
    skipped = say(text.start(task), "skip")
    assert (skipped.reward, skipped.done, skipped.observation[0].content) == (0.0, True, "skipped")


def test_a_wrong_answer_earns_its_share(text) -> None:
    ask = {"column": "name", "where": True}
    task = next(t for t in text.tasks("train") if ask.items() <= {**t.data["question"]["ask"], "where": True}.items())
    episode = text.start(task)
    table = task.data["question"]["ask"]["table"]
    step = say(episode, f"SELECT name FROM {table}")
    assert step.info["reward_now"] < 1.0
    assert say(episode, "submit").reward == step.info["reward_now"]


def test_text_that_is_no_statement_is_told_so(text) -> None:
    episode = text.start(text.tasks("train")[0])
    step = say(episode, "Let me think about the tables first.")
    assert not step.parsed
    assert "You have an error in your SQL syntax" in step.observation[0].content


def test_long_observations_are_cut(react) -> None:
    episode = react.start(react.tasks("train")[0])
    table = episode.tables()[0]
    shown = say(episode, f"Action: ```sql\nDESC {table}\n```").observation[0].content
    assert shown.startswith("Observation: [('id'")
    assert shown.endswith("...")
    assert len(shown) == len("Observation: ") + 40 + 3


def test_the_react_dialogue(react) -> None:
    episode = react.start(react.tasks("train")[0])
    for reply in ("SELECT 1", "Action: SELECT 1", "Action: ```sql\n```", ""):
        step = say(episode, reply)
        assert not step.parsed
        assert step.observation[0].content.startswith("Observation: I don't understand your input.")
    lines = say(episode, "Thought: x\nAction: ```sql\nSELECT 1\n+ 1\n```")
    assert lines.observation[0].content == "Observation: [(1,)]"  # the first line only
    assert say(episode, "Action: ```sql\nUSE nowhere\n```").observation[0].content.count("Unknown database") == 1
    error = say(episode, "Action: ```sql\nSELECT COUNT(\n```").observation[0].content
    assert error.endswith("...\n")
    assert say(episode, "Action: submit").done


def test_mended_react_runs_the_whole_block() -> None:
    env = InterCodeSql(wrapper="react", compat=False, **SMALL)
    episode = env.start(env.tasks("train")[0])
    assert say(episode, "Action: ```sql\nSELECT 1\n+ 1\n```").observation[0].content == "Observation: [(2,)]"


def test_a_play_in_the_compact_view(compact) -> None:
    task = next(t for t in compact.tasks("train") if "other" in t.data["question"]["ask"])
    ask = Ask.from_dict(task.data["question"]["ask"])
    episode = compact.start(task)
    assert episode.goal[0].content == task.data["question"]["short"]
    assert episode.observation[0].content.endswith("| none | left 10")
    assert not say(episode, "click buy").parsed
    assert say(episode, "select name from nowhere").observation[0].content.endswith("| error | left 8")
    shown = say(episode, ask.action)
    assert f"| query {ask.action} | result " in shown.observation[0].content
    assert say(episode, "submit").reward == 1.0


def test_compact_texts_are_short_known_words(compact) -> None:
    from transformers import AutoTokenizer

    from agentrl.bundled import locate

    tokenizer = AutoTokenizer.from_pretrained(locate("bundled:tiny"))
    expert = compact.expert(0.5, 0)
    for task in compact.tasks("train")[:25]:
        episode = compact.start(task)
        for _ in range(3):
            page = [message.content for message in (*episode.goal, *episode.observation)]
            action = expert(episode)
            for content, most in (("\n".join(page), 90), (action.content, 12)):
                ids = tokenizer.encode(content, add_special_tokens=False)
                parts = content.replace("\n", " \n ").split(" ")
                words = len(parts) + sum(len(part) for part in parts if part.isdigit() and int(part) > 100)
                assert len(ids) <= most
                assert len(ids) <= words + len(COMPACT_WORDS), f"bytes in {content!r}"
            if episode.step(action).done:
                break


@pytest.mark.parametrize("name", ["text", "compact", "react"])
def test_the_analyst(request, name: str) -> None:
    env = request.getfixturevalue(name)
    assert success(env, 0.0, 80) == 1.0
    assert 0.1 <= success(env, 0.5, 80) <= 0.5
    assert success(env, 0.5, 20, seed=3) == success(env, 0.5, 20, seed=3)
    with pytest.raises(EnvError, match="noise"):
        env.expert(1.5, 0)


def test_random_play_rarely_succeeds(compact) -> None:
    rng, wins = random.Random(0), 0
    for task in compact.tasks("train")[:80]:
        episode = compact.start(task)
        for _ in range(compact.max_turns):
            step = say(episode, rng.choice(list(episode.actions())))
            if step.done:
                wins += step.reward >= 1.0
                break
    assert wins < 8


def test_panels(text) -> None:
    facts = require_disjoint(text)
    assert facts["val"]["tasks"] == 5
    assert facts["test"]["tasks"] == 9
    other = InterCodeSql(**SMALL, seed=1)
    assert [t.data for t in other.tasks("train")] != [t.data for t in text.tasks("train")]
    again = pickle.loads(pickle.dumps(text))
    assert "store" not in again.__dict__
    assert [t.content() for t in again.tasks("test")] == [t.content() for t in text.tasks("test")]
    assert again.fingerprint == text.fingerprint


def test_levels_of_hardness_all_occur(text) -> None:
    assert {t.data["question"]["hardness"] for t in text.tasks("train")} == {"easy", "medium", "hard", "extra"}


def test_asks_survive_their_own_words(compact) -> None:
    for task in compact.tasks("train"):
        ask = Ask.from_dict(task.data["question"]["ask"])
        assert read_ask(ask.action) == ask
    for wrong in (
        "select",
        "select name",
        "select name from",
        "selectname from a",
        "select name from a where",
        "submit x",
    ):
        assert read_ask(wrong) is None


def test_snapshots_fork_an_episode_that_wrote(text) -> None:
    episode = text.start(text.tasks("train")[0])
    table = episode.tables()[0]
    say(episode, f"DELETE FROM {table} WHERE id > 1")
    say(episode, f"SELECT COUNT(*) FROM {table}")
    fork = text.restore(pickle.loads(pickle.dumps(episode.snapshot())))
    assert fork.observation == episode.observation
    say(fork, f"DELETE FROM {table}")
    assert say(episode, f"SELECT COUNT(*) FROM {table}").observation[0].content == "[(1,)]"
    assert say(fork, f"SELECT COUNT(*) FROM {table}").observation[0].content == "[(0,)]"
    episode.close()
    fork.close()


def test_changing_the_data_does_not_change_the_gold(text) -> None:
    """In the original, an empty table makes every question's answer empty, and an empty answer right."""
    task = next(t for t in text.tasks("train") if t.data["question"]["ask"].get("column") == "name")
    episode = text.start(task)
    for table in episode.tables():
        say(episode, f"DELETE FROM {table}")
    say(episode, task.data["question"]["gold"])
    assert say(episode, "submit").reward == 0.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"view": "html"}, "env.view"),
        ({"wrapper": "x"}, "env.wrapper"),
        ({"backend": "oracle"}, "env.backend"),
        ({"splits": "x"}, "env.splits"),
        ({"databases": 2}, "env.databases"),
        ({"timeout_s": 0}, "env.timeout_s"),
        ({"backend": "mysql"}, "env.dsn is empty"),
        ({"view": "compact", "data": "folder"}, "only generated questions"),
    ],
)
def test_wrong_settings_are_told(change, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        InterCodeSql(**change)


def test_missing_and_damaged_data_are_told(tmp_path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        InterCodeSql(data=str(tmp_path / "none")).tasks("train")
    with pytest.raises(DataError, match="could not be read"):
        InterCodeSql(data=str(tmp_path)).tasks("train")
    path = tmp_path / "questions.json"
    for content, told in (
        ("{", "could not be read"),
        ("[]", "no list"),
        ('[{"db": "x"}]', "lacks gold, query, hardness"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=told):
            read_questions(path)
    env = InterCodeSql(**SMALL)
    with pytest.raises(DataError, match="holds no question"):
        env.start(Task("x", "train", "f", {}))
    record = {"db": "nowhere", "gold": "SELECT 1", "query": "?", "hardness": "easy"}
    with pytest.raises(DataError, match="these data do not hold"):
        env.start(Task("x", "train", "f", {"question": record}))
