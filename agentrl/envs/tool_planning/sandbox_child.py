"""The other side of ``sandbox``: a small server that runs each program in a fork of itself, behind limits.

Started by path, without site packages and with an empty environment, so it imports nothing but the standard library. It
reads frames (4 bytes of length, JSON) from standard input and answers on standard output until its input ends.

A program passes three walls. Its syntax tree is checked first: no imports but of ``ALLOWED``, no names or attributes
that begin with an underscore, none of ``FORBIDDEN``. It then sees plain copies of the allowed modules and few builtins.
An audit hook refuses every event that is not in ``HARMLESS`` (opening files, starting processes, sockets, new imports,
frames, code objects ...). Below all of it stand the kernel's limits: CPU time, memory, no new files or processes, no
file growth, and, where the server was started as root, the user nobody and no network.
"""

import ast
import builtins
import importlib
import json
import os
import random
import re
import resource
import select
import signal
import struct
import sys
import time
import types
from typing import Any

ALLOWED = (
    "math", "cmath", "statistics", "datetime", "itertools", "functools", "collections", "re", "json", "fractions",
    "decimal", "random", "string", "operator", "heapq", "bisect", "textwrap", "calendar", "_strptime",
)  # fmt: skip
FORBIDDEN = {"now", "today", "utcnow", "mro", "tb_frame", "gi_frame", "cr_frame", "f_back", "f_globals", "f_builtins"}
BUILTINS = (
    "abs", "all", "any", "ascii", "bin", "bool", "bytes", "callable", "chr", "complex", "dict", "divmod", "enumerate",
    "filter", "float", "format", "frozenset", "hash", "hex", "int", "isinstance", "issubclass", "iter", "len", "list",
    "map", "max", "min", "next", "object", "oct", "ord", "pow", "property", "range", "repr", "reversed", "round", "set",
    "slice", "sorted", "staticmethod", "classmethod", "str", "sum", "super", "tuple", "type", "zip", "True", "False",
    "None", "ArithmeticError", "AssertionError", "AttributeError", "Exception", "IndexError", "KeyError", "LookupError",
    "OverflowError", "RuntimeError", "StopIteration", "TypeError", "ValueError", "ZeroDivisionError",
    "NotImplementedError", "__build_class__",
)  # fmt: skip
HARMLESS = {"builtins.id", "array.__new__", "exec", "compile", "sys.excepthook", "sys.unraisablehook"}
NOBODY = 65534
ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of objects without a name: differs from run to run


Modules = dict[str, types.ModuleType]
Request = dict[str, Any]


class Capture:
    """Standard output that keeps its first characters."""

    def __init__(self, limit: int) -> None:
        self.parts: list[str] = []
        self.left = limit

    def write(self, text: str) -> int:
        self.parts.append(text[: self.left])
        self.left = max(0, self.left - len(text))
        return len(text)

    def flush(self) -> None:
        """Nothing is buffered."""


def proxies() -> Modules:
    """Copies of the allowed modules, without modules and private names inside."""
    made = {}
    for name in ALLOWED:
        module = importlib.import_module(name)
        if name.startswith("_"):
            continue
        copy = types.ModuleType(name)
        for key, value in vars(module).items():
            if not key.startswith("_") and not isinstance(value, types.ModuleType):
                setattr(copy, key, value)
        made[name] = copy
    return made


def refusal(tree: ast.AST) -> str:
    """The sentence for the first thing in a program that is not allowed; "" when there is none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [item.name for item in node.names]
            for name in names:
                if name not in ALLOWED or name.startswith("_"):
                    return f"importing '{name[:40]}' is not allowed; there are only {', '.join(ALLOWED[:-1])}"
        used = getattr(node, "attr", None) or getattr(node, "id", None)
        if isinstance(used, str) and ((used.startswith("_") and used != "_") or used in FORBIDDEN):
            return f"the name '{used[:40]}' is not allowed"
        if isinstance(node, ast.ImportFrom) and any(item.name.startswith("_") for item in node.names):
            return "importing private names is not allowed"
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.Global):
            return f"{type(node).__name__} is not allowed"
    return ""


def guard(event: str, _arguments: object) -> None:
    if event not in HARMLESS:
        raise PermissionError(f"{event} is not allowed")


def execute(source: str, limit: int, modules: Modules) -> tuple[str, str]:
    """Run a program; gives (output, error)."""
    tree = ast.parse(source)
    wrong = refusal(tree)
    if wrong:
        return "", wrong
    program = compile(tree, "program", "exec")
    out = Capture(limit)

    def imported(name: str, *_unused: object) -> types.ModuleType:
        if name == "_strptime":  # what datetime.strptime asks for by itself
            return sys.modules[name]
        if name not in modules:
            raise ImportError(f"importing '{name}' is not allowed")
        return modules[name]

    def printed(*values: object, sep: str = " ", end: str = "\n", **_unused: object) -> None:
        print(*values, sep=sep, end=end, file=out)

    known = {name: getattr(builtins, name) for name in BUILTINS}
    known |= {"__import__": imported, "print": printed}
    scope: dict[str, Any] = {"__builtins__": known, "__name__": "program"}
    sys.addaudithook(guard)
    error = ""
    try:
        exec(program, scope)
    except BaseException as caught:
        error = f"{type(caught).__name__}: {caught}"[:300]
    return ADDRESS.sub(" at 0x0", "".join(out.parts)), error


def child(request: Request, modules: Modules, pipe: int) -> None:
    """In the fork: set the limits, run, answer, leave."""
    os.setsid()
    limits = {
        resource.RLIMIT_CPU: request["cpu_s"],
        resource.RLIMIT_AS: request["memory_mib"] << 20,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_NOFILE: 0,
        resource.RLIMIT_CORE: 0,
    }
    os.closerange(0, pipe)
    os.closerange(pipe + 1, 256)
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value + (kind == resource.RLIMIT_CPU)))
    sys.setrecursionlimit(800)
    random.seed(0)
    try:
        output, error = execute(request["source"], request["output_chars"], modules)
    except BaseException as caught:
        output, error = "", f"{type(caught).__name__}: {caught}"[:300]
    answer = json.dumps({"output": output, "error": error}).encode()
    while answer:
        answer = answer[os.write(pipe, answer) :]
    os._exit(0)


def serve_one(request: Request, modules: Modules) -> Request:
    """Fork, wait at most ``wall_s``, collect."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(request, modules, writer)
        finally:
            os._exit(1)
    os.close(writer)
    deadline, late = time.monotonic() + request["wall_s"], False
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            late = True
            break
        part = os.read(reader, 1 << 16)
        if not part:
            break
        parts.append(part)
    os.close(reader)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    text = b"".join(parts)
    if text and not late:
        try:
            answer: Request = json.loads(text)
            return answer
        except ValueError:
            return {"output": "", "error": "the program spoiled its own answer"}
    ran_out = late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU)
    return {"output": "", "error": "time limit: the program took too long" if ran_out else "the program was killed"}


def main() -> None:
    """Serve until the input ends."""
    modules = proxies()
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        except OSError:
            pass  # a user namespace without that user: its root is nobody outside
    while True:
        head = read(4)
        if head is None:
            return
        body = read(struct.unpack(">I", head)[0])
        if body is None:
            return
        answer = json.dumps(serve_one(json.loads(body), modules)).encode()
        frame = struct.pack(">I", len(answer)) + answer
        while frame:
            frame = frame[os.write(1, frame) :]


def read(count: int) -> bytes | None:
    """So many bytes of standard input; None at its end."""
    parts = b""
    while len(parts) < count:
        part = os.read(0, count - len(parts))
        if not part:
            return None
        parts += part
    return parts


if __name__ == "__main__":
    main()
