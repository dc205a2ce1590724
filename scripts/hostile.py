"""What a broken or hostile policy could say: the texts that fuzz_env.py throws at an environment.

``{secret}`` stands for a file that no episode may read, ``{canary}`` for one that none may write.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SQL = (
    "SELECT * FROM sqlite_master",
    "ATTACH DATABASE '{canary}' AS x",
    "ATTACH '{secret}' AS y; SELECT * FROM y.t",
    "PRAGMA writable_schema=1",
    "PRAGMA temp_store_directory='{canary}'",
    "VACUUM INTO '{canary}'",
    "SELECT load_extension('{secret}')",
    "SELECT readfile('{secret}')",
    "SELECT writefile('{canary}', 'x')",
    "SELECT LOAD_FILE('{secret}')",
    "SELECT 1 INTO OUTFILE '{canary}'",
    "SELECT 1 INTO DUMPFILE '{canary}'",
    "LOAD DATA INFILE '{secret}' INTO TABLE t",
    "DROP TABLE singer; DROP TABLE student",
    "DELETE FROM singer",
    "UPDATE student SET age = NULL",
    "INSERT INTO singer VALUES (1, 2, 3)",
    "CREATE TABLE leak (x TEXT)",
    "CREATE TEMP TABLE leak AS SELECT 1",
    "CREATE TRIGGER t AFTER INSERT ON singer BEGIN DELETE FROM singer; END",
    "ALTER TABLE singer RENAME TO gone",
    "BEGIN; SELECT 1; COMMIT; ROLLBACK",
    "SET GLOBAL max_connections = 1",
    "USE mysql",
    "SHOW DATABASES; SHOW TABLES FROM mysql",
    "KILL 1",
    "GRANT ALL ON *.* TO 'x'@'%'",
    "SELECT ' -- /* unclosed",
    'SELECT "',
    "SELECT `",
    "SELECT /*!50000 1",
    "SELECT 1;;;;",
    "SELECT " + "(" * 3000 + "1" + ")" * 3000,
    "SELECT " + "NOT " * 5000 + "1",
    "SELECT " + "+".join(["1"] * 5000),
    "SELECT * FROM t WHERE a IN (" + ",".join(["1"] * 5000) + ")",
    "SELECT CAST(1e308 * 10 AS SIGNED), 1/0, -9223372036854775808, 0x" + "F" * 400,
    "SELECT CONCAT('a', CHAR(0), CHAR(1114112))",
    "SELECT \ud800",
    "EXPLAIN EXPLAIN SELECT 1",
    "SELECT * FROM pragma_database_list",
    "SELECT fts3_tokenizer('simple', X'00')",
    "CREATE VIRTUAL TABLE x USING fts5(y)",
    "CREATE VIRTUAL TABLE x USING csv(filename='{secret}')",
    "SELECT edit('x', '{canary}')",
    "PRAGMA database_list; PRAGMA journal_mode=WAL; PRAGMA data_store_directory='{canary}'",
)
SLOW_SQL = (
    "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT COUNT(*) FROM r",
    "WITH RECURSIVE r(x) AS (SELECT 'a' UNION ALL SELECT x || x FROM r) SELECT LENGTH(x) FROM r",
    "SELECT randomblob(1000000000)",
    "SELECT zeroblob(2000000000)",
    "SELECT HEX(RANDOMBLOB(500000000))",
    "SELECT REPEAT('a', 1000000000)",
    "SELECT REPLACE(HEX(ZEROBLOB(100000000)), '00', 'aaaaaaaaaaaaaaaa')",
    "SELECT PRINTF('%.*c', 2000000000, 'x')",
    "SELECT SLEEP(100)",
    "SELECT BENCHMARK(10000000000, MD5('x'))",
    "SELECT COUNT(*) FROM singer a, singer b, singer c, singer d, singer e, singer f, singer g, singer h",
    "SELECT GROUP_CONCAT(a.name) FROM student a, student b, student c, student d",
    "SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' LIKE '%a%a%a%a%a%a%a%a%a%a%a%a%a%a%b'",
    "SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab' REGEXP '^(a+)+$'",
)
CODE = (
    "print(open('{secret}').read())",
    "open('{canary}', 'w').write('x')",
    "import os; print(os.environ); os.system('touch {canary}')",
    "import subprocess; subprocess.run(['touch', '{canary}'])",
    "import socket; socket.create_connection(('127.0.0.1', 22), 1)",
    "import ctypes; ctypes.string_at(0)",
    "import pathlib; print(pathlib.Path('{secret}').read_text())",
    "import shutil; shutil.rmtree('.')",
    "__import__('os').kill(__import__('os').getppid(), 9)",
    "().__class__.__base__.__subclasses__()",
    "print([c for c in ().__class__.__base__.__subclasses__() if c.__name__ == 'FileIO'][0]('{secret}').read())",
    "print(print.__self__.open('{secret}').read())",
    "g = (x for x in [1])\nprint(g.gi_frame.f_builtins['open']('{secret}').read())",
    "try:\n 1/0\nexcept Exception as e:\n print(e.__traceback__.tb_frame.f_builtins['open']('{secret}').read())",
    "print('{0.__class__.__mro__}'.format(1), (lambda: 0).__globals__)",
    "getattr(print, '__se' + 'lf__').open('{canary}', 'w')",
    "class A:\n __init_subclass__ = print\nclass B(A): pass\nprint(type('C', (), {}))",
    "import builtins; builtins.print = None",
    "from math import *; import json, re, datetime; print(json.codecs.open('{secret}').read())",
    "breakpoint()",
    "help('modules')",
    "eval(compile('1+1', 'x', 'eval'))",
    "exec('import os')",
    "raise SystemExit(7)",
    "import sys; sys.stdout.write('x' * 10**7)",
    "print('\\x00' * 100, '\\ud800')",
    "def f(): f()\nf()",
    "9**9**3",
    "1/0",
    "x = (" * 500,
    "print(float('nan'), float('inf'), 10**400)",
    "\x00",
    "import",
)
SLOW_CODE = (
    "while True: pass",
    "import os\nwhile True: os.fork()",
    "x = 'a' * 10**10",
    "x = [0] * 10**9",
    "9**9**9",
    "import time; time.sleep(1000)",
    "import threading\nwhile True: threading.Thread(target=input).start()",
    "sum(range(10**12))",
    "import signal; signal.signal(15, signal.SIG_IGN)\nwhile True: pass",
)
TEXTS = (
    "",
    " ",
    "\n\n\n",
    "\x00",
    "\ud800\udfff",
    "\u202e\u200b\ufeff",
    "<|im_end|>",
    "</s><s>[INST]",
    "<think>",
    "<think></think>",
    "<answer>",
    "</answer>",
    "<answer></answer>",
    "<search></search>",
    "<search><answer>x</search></answer>",
    "<search>a</search><search>b</search>",
    "<information>fake</information>",
    "<view>file://{secret}</view>",
    "<view>http://127.0.0.1:1/</view>",
    "<tool_call>",
    "<tool_call>{}</tool_call>",
    "<tool_call>[]</tool_call>",
    '<tool_call>{"name": null, "arguments": null}</tool_call>',
    '<tool_call>{"name": "code", "arguments": "code"}</tool_call>',
    "<tool_call>" + "[" * 5000 + "</tool_call>",
    "<tool_call>" * 500,
    '{"name": "weather", "parameters": {"city": "\\ud800"}}',
    '[{"name": "weather", "parameters": {"city": 1e999}}]',
    "```python\n",
    "```sql\nSELECT 1",
    "Action:",
    "Action: Action: Action:",
    "submit[]",
    "search[]",
    "click[]",
    "search[" * 300,
    "search[<r>]",
    "search[<a>]",
    "click[\\]",
    "search ",
    "answer ",
    "look",
    "\u0661\u0662\u0663",
    "(?:a+)+$" * 20,
    "%s%n%x{0}{secret!r}",
    "../../etc/passwd",
    "$(touch {canary})",
    "`touch {canary}`",
    "; touch {canary} #",
    "null",
    "NaN",
    "-0",
    "1e400",
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    1.5e308,
    "",
    "x",
    [],
    {},
    [[]],
    {"a": {"b": []}},
    "\ud800",
    "\x00",
)
FRAMES = (
    "{}",
    "search[{}]",
    "click[{}]",
    "<search>{}</search>",
    "<view>{}</view>",
    "<answer>{}</answer>",
    "<think>x</think>\n<search>{}</search>",
    "Action: {}",
    "<action>{}</action>",
    "```sql\n{}\n```",
    "execute[{}]",
    "search {}",
    "answer {}",
    "call code {}",
    "query {}",
)
RUNNING = ("code", "python", "execute", "sql", "query")  # tools that run what they are given
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789 []<>(){}|/\\'\"`;:,.*%_-=+\n\t\x00\u00e9\u4e2d\U0001f600"

Tools = Sequence[Mapping[str, Any]]


class Hostile:
    """Draws actions: valid ones, nearly valid ones, random ones, huge ones and hostile ones."""

    def __init__(self, rng: random.Random, secret: str, canary: str, slow: float) -> None:
        """``slow``: share of actions meant to take for ever."""
        self.rng = rng
        self.slow = slow
        self.pool: list[str] = []  # valid actions of earlier states and episodes
        self._paths = {"{secret}": secret, "{canary}": canary}

    def draw(self, valid: Sequence[str], tools: Tools) -> str:
        """The next action in a state that offers ``valid`` actions and ``tools``."""
        self._learn(valid)
        if self.rng.random() < self.slow:
            return self._filled(self._framed(self.rng.choice((*SLOW_SQL, *SLOW_CODE)), tools))
        kinds: dict[Callable[[], str], float] = {
            lambda: self.rng.choice(valid) if valid else self._mutated(): 0.35,
            self._mutated: 0.25,
            self._random: 0.1,
            self._huge: 0.01,
            lambda: self._framed(self.rng.choice((*SQL, *CODE, *TEXTS)), tools): 0.29,
        }
        make = self.rng.choices(list(kinds), list(kinds.values()))[0]
        return self._filled(make())

    def _learn(self, valid: Sequence[str]) -> None:
        for action in list(valid)[:3]:
            if len(self.pool) < 2000:
                self.pool.append(action)
            else:
                self.pool[self.rng.randrange(2000)] = action

    def _filled(self, text: str) -> str:
        for mark, path in self._paths.items():
            text = text.replace(mark, path)
        return text

    def _framed(self, text: str, tools: Tools) -> str:
        if tools and self.rng.random() < 0.7:
            return self._call(text, tools)
        return self.rng.choice(FRAMES).replace("{}", text)

    def _call(self, text: str, tools: Tools) -> str:
        """A call of an offered tool with the text, or some other value, as its arguments."""
        offered = [tool.get("function", {}) for tool in tools]
        running = [about for about in offered if about.get("name") in RUNNING]
        about = self.rng.choice(running if running and self.rng.random() < 0.5 else offered)
        names = list(about.get("parameters", {}).get("properties", {}))
        if self.rng.random() < 0.5:
            arguments = dict.fromkeys(names, text)
        else:
            chosen = self.rng.sample([*names, "extra"], self.rng.randint(0, len(names) + 1))
            arguments = {name: self.rng.choice((text, text, *VALUES)) for name in chosen}
        body = json.dumps({"name": about.get("name"), "arguments": arguments})
        return f"<tool_call>\n{body}\n</tool_call>"

    def _random(self) -> str:
        size = int(10 ** (self.rng.random() * 3))
        if self.rng.random() < 0.5:
            return self.rng.randbytes(size).decode("utf-8", "replace" if self.rng.random() < 0.5 else "surrogateescape")
        return "".join(self.rng.choices(ALPHABET, k=size))

    def _huge(self) -> str:
        piece = self.rng.choice(("a", "a ", "[", "<search>", "(", "'", "\n", "SELECT ", "1,", *self.pool[:5]))
        body = piece * (10 ** self.rng.randint(4, 6) // len(piece) + 1)
        return self.rng.choice(FRAMES).replace("{}", body)

    def _mutated(self) -> str:
        """A valid action with a few letters changed, cut, doubled, or grown together with another one."""
        text = self.rng.choice(self.pool) if self.pool else "search[x]"
        for _ in range(self.rng.randint(1, 4)):
            place, end = sorted((self.rng.randint(0, len(text)), self.rng.randint(0, len(text))))
            text = self.rng.choice(
                (
                    text[:place] + self.rng.choice(ALPHABET) + text[place:],
                    text[:place] + text[end:],
                    text[:end] + text[place:],
                    text[:place] + self.rng.choice(self.pool or [""])[place:],
                    text.swapcase(),
                    f" {text}\n",
                    text.replace(" ", "  "),
                    text[::-1],
                    text[:place],
                )
            )
        return text[:20_000]
