"""Arithmetic of the ``calculate`` tool: numbers, + - * / // % **, brackets and a few functions, nothing else."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

LONGEST = 300  # characters of an expression
LARGEST = 1e30  # no number on the way may be larger

OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: math.pow,
}


def _rounded(value: float, digits: int = 0) -> float:
    if not -30 <= digits <= 30:
        raise ValueError("round() takes at most 30 digits")
    return round(value, digits)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {"abs": abs, "round": _rounded, "min": min, "max": max, "sqrt": math.sqrt}


def evaluate(expression: str) -> int | float:
    """The value of an expression, whole where it is whole. Raises ValueError with a sentence where it has none."""
    if len(expression) > LONGEST:
        raise ValueError(f"the expression has {len(expression)} characters, more than {LONGEST}")
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"'{expression[:60]}' is no arithmetic expression") from None
    except (ArithmeticError, TypeError) as error:
        raise ValueError(f"'{expression[:60]}' has no value ({error})") from None
    value = round(value, 9) if isinstance(value, float) else value
    return int(value) if value == int(value) else value


def _value(node: ast.AST) -> int | float:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _bounded(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return _bounded(OPERATORS[type(node.op)](_value(node.left), _value(node.right)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        if node.keywords or not node.args:
            raise ValueError(f"{node.func.id}() takes plain numbers")
        return _bounded(FUNCTIONS[node.func.id](*map(_value, node.args)))
    raise ValueError("only numbers, + - * / // % **, brackets and " + ", ".join(FUNCTIONS) + " are allowed")


def _bounded(value: Any) -> int | float:
    if not isinstance(value, int | float) or not abs(value) <= LARGEST:  # also refuses what is no number
        raise ValueError("a number on the way is too large or not real")
    return value
