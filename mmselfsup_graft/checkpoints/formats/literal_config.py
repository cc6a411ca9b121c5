"""The text of a config, read as plain data and never executed."""

import ast
from typing import Any


class _NotPlain(Exception):
    """A value that is not plain data."""


def literal_config(text: str) -> dict[str, Any]:
    """Top-level values of a config's text that are plain data: numbers, text, lists, ``dict(...)``.

    Nothing is executed; other values are left out, alone or with the dict entry that holds them.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = _value(node.value)
            except (_NotPlain, RecursionError):
                continue
    return found


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each) for each in node.elts]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand)
        if isinstance(number, int | float):
            return -number
    if isinstance(node, ast.Dict):
        return _entries((k.value if isinstance(k, ast.Constant) else None, v) for k, v in zip(node.keys, node.values))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        return _entries((keyword.arg, keyword.value) for keyword in node.keywords)
    raise _NotPlain


def _entries(pairs: Any) -> dict[str, Any]:
    found = {}
    for key, node in pairs:
        if not isinstance(key, str):
            continue
        try:
            found[key] = _value(node)
        except _NotPlain:
            continue
    return found
