"""The code tool: what programs may do, and what hostile ones may not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrl.envs.tool_planning.arithmetic import evaluate
from agentrl.envs.tool_planning.sandbox import CHILD, Sandbox

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the code tool needs fork and resource limits")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(cpu_s=1, memory_mib=256, output_chars=200)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("print(1 + 2)", "3\n"),
        ("import math\nprint(math.sqrt(16), sep='')", "4.0\n"),
        ("from datetime import date, datetime\nprint((date(2024, 3, 1) - date(2024, 2, 1)).days)", "29\n"),
        ("from datetime import datetime\nprint(datetime.strptime('2024-01-02', '%Y-%m-%d').day)", "2\n"),
        ("import statistics, json\nprint(json.dumps(statistics.mean([1, 2, 3])))", "2\n"),
        ("class A:\n    x = 1\ndef f(n):\n    return n and n + f(n - 1)\nprint(A().x, f(10), end='')", "1 55"),
        ("print('x' * 1000)", "x" * 200),
        ("print(lambda: 0)", "<function <lambda> at 0x0>\n"),
    ],
)
def test_programs_run(sandbox: Sandbox, source: str, output: str) -> None:
    ran = sandbox.run(source)
    assert (ran.output, ran.error) == (output, "")


@pytest.mark.parametrize(
    "source",
    ["import random\nprint(random.random())", "print({'b', 'a', 'c'}, hash('x'))", "print([object() for _ in 'ab'])"],
)
def test_a_program_prints_the_same_in_every_server(sandbox: Sandbox, source: str) -> None:
    other = Sandbox(output_chars=200)
    try:
        assert sandbox.run(source) == other.run(source)
    finally:
        other.close()


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import os", "importing 'os' is not allowed"),
        ("import collections.abc", "not allowed"),
        ("from random import _os", "not allowed"),
        ("import json as j\nj._default_decoder", "the name '_default_decoder' is not allowed"),
        ("().__class__.__bases__", "the name '__"),
        ("open('/etc/passwd').read()", "NameError"),
        ("eval('1')", "NameError"),
        ("getattr(1, 'real')", "NameError"),
        ("__import__('os')", "the name '__import__' is not allowed"),
        ("def f():\n    yield 1\nf().gi_frame", "the name 'gi_frame' is not allowed"),
        ("import statistics\nstatistics.sys", "AttributeError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(n):\n    return f(n + 1)\nf(0)", "RecursionError"),
        ("x = 'a' * 10**9", "MemoryError"),
        ("x = [0] * 10**8\nwhile True:\n    x = x + x", "MemoryError"),
        ("(" * 5000, "SyntaxError"),
        ("-" * 9000 + "1", ""),
        ("x" * 20_000, "more than 10000"),
        ("while True:\n    pass", "time limit"),
        pytest.param("print(10 ** 10 ** 10)", "", marks=pytest.mark.slow),
        pytest.param("import re\nre.match('(a+)+b', 'a' * 60)", "time limit", marks=pytest.mark.slow),
        ("raise Exception('x' * 10**6)", "Exception: xxx"),
    ],
)
def test_hostile_programs_end_as_errors(sandbox: Sandbox, source: str, why: str) -> None:
    ran = sandbox.run(source)
    assert ran.error
    assert why in ran.error
    assert len(ran.error) <= 400
    assert sandbox.run("print('alive')").output == "alive\n"


def unchecked(source: str) -> str:
    """Run a program with the real builtins and modules behind the audit hook alone, in a process of its own."""
    import subprocess
    import sys

    program = (
        f"import sys; sys.path.insert(0, {str(CHILD.parent)!r})\n"
        "import os, random, socket, subprocess, ctypes\n"
        "import sandbox_child as child\n"
        "sys.addaudithook(child.guard)\n"
        f"try:\n    {source}\n    print('reached')\nexcept PermissionError as error:\n    print('refused', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout


@pytest.mark.parametrize(
    "source",
    [
        "open('/etc/passwd')",
        "os.open('/tmp/x', os.O_CREAT | os.O_WRONLY)",
        "os.listdir('/')",
        "os.fork()",
        "os.system('true')",
        "os.kill(1, 0)",
        "os.remove('/tmp/x')",
        "subprocess.run(['true'])",
        "socket.socket()",
        "socket.getaddrinfo('localhost', 1)",
        "import http.client",
        "ctypes.CDLL(None)",
        "sys._getframe()",
        "(lambda: 0).__code__.replace(co_consts=())",
    ],
)
def test_the_audit_hook_holds_by_itself(source: str) -> None:
    """Even a program that got hold of a real module is refused."""
    assert unchecked(source).startswith("refused")


def test_a_hung_or_killed_server_is_replaced(sandbox: Sandbox) -> None:
    sandbox.run("print(1)")
    assert sandbox._server is not None
    os.kill(sandbox._server.pid, signal.SIGKILL)
    sandbox._server.wait()
    assert sandbox.run("print('again')").output == "again\n"


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = Sandbox()
    made.run("print(1)")
    server = made._server
    assert server is not None
    assert list(tmp_path.iterdir()) == []
    made.close()
    assert server.poll() is not None
    made.close()


@pytest.mark.parametrize(
    ("expression", "value"),
    [("1 + 2 * 3", 7), ("(28 - 21) / 2", 3.5), ("-2 ** 2", -4), ("round(2.345, 1) + abs(-1)", 3.3), ("7 // 2 % 2", 1),
     ("max(1, 2, sqrt(16))", 4), ("0.1 + 0.2", 0.3), ("1e3", 1000)],
)  # fmt: skip
def test_arithmetic(expression: str, value: float) -> None:
    assert evaluate(expression) == pytest.approx(value)


@pytest.mark.parametrize(
    "expression",
    ["", "x", "1 +", "9**9**9", "10**40", "1/0", "'a' * 3", "True", "open('x')", "(1).real", "round(1, 10**9)",
     "sqrt(-1)", "[1]", "max()", "1e999", "((((" * 60, "1" * 400, "min(1, key=2)", "lambda: 0", "1j"],
)  # fmt: skip
def test_arithmetic_refuses_the_rest_with_a_sentence(expression: str) -> None:
    with pytest.raises(ValueError) as error:
        evaluate(expression)
    assert str(error.value)
