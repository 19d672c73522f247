"""Looks at a program from outside: its source by where an instruction points to, and the values
of its variables, without running any code of it."""

from __future__ import annotations

import ast
import dis
import linecache
import reprlib
import types
from types import FrameType
from typing import Any

__all__ = ["ATOMS", "UNKNOWN", "Source", "attribute", "brief", "is_box", "look_up"]

UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda self: "?"})()
ATOMS: tuple[type, ...] = (
    *(int, float, complex, str, bytes, bool, type(None), type(...), tuple, frozenset, range, slice),
    *(type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType),
    *(types.GeneratorType, types.CoroutineType, BaseException, property, classmethod),
)
_BOXES = (list, dict, set, bytearray)
# Methods that only read what they are of.


def _ending(node: Any) -> tuple[int, int]:
    return node.end_lineno, node.end_col_offset


class Source:
    """The syntax tree of a file, by where its nodes end."""

    def __init__(self, file: str) -> None:
        self.nodes: dict[tuple[int, int], list[ast.AST]] = {}
        try:
            tree = ast.parse("".join(linecache.getlines(file)))
        except (SyntaxError, ValueError):
            return
        for node in ast.walk(tree):
            if isinstance(node, ast.expr | ast.AugAssign):
                self.nodes.setdefault(_ending(node), []).append(node)

    def find(self, positions: dis.Positions, kinds: tuple[type, ...]) -> Any:
        """The node that an instruction belongs to; None: it cannot be told."""
        found = [
            node
            for node in self.nodes.get(
                (positions.end_lineno or 0, positions.end_col_offset or 0), ()
            )
            if isinstance(node, kinds)
        ]
        start = (positions.lineno, positions.col_offset)
        exact = [
            n for n in found if (getattr(n, "lineno", 0), getattr(n, "col_offset", 0)) == start
        ]
        return next(iter(exact or found), None)


def look_up(node: Any, frame: FrameType) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        for names in (frame.f_locals, frame.f_globals, frame.f_builtins):
            if node.id in names:
                return names[node.id]
    elif isinstance(node, ast.Attribute):
        return attribute(look_up(node.value, frame), node.attr)
    elif isinstance(node, ast.Subscript):
        return _item(look_up(node.value, frame), look_up(node.slice, frame))
    return UNKNOWN


def _item(box: Any, key: Any) -> Any:
    if type(box) in (list, tuple, dict) and type(key) in (int, str, bool, bytes):
        try:
            return box[key]
        except (LookupError, TypeError):
            pass
    return UNKNOWN


def attribute(one: Any, name: str) -> Any:
    """An attribute's value, if it can be had without running any code of the program."""
    if one is UNKNOWN:
        return UNKNOWN
    kind = type(one)
    if isinstance(one, types.ModuleType):
        return vars(one).get(name, UNKNOWN)
    bases = one.__mro__ if isinstance(one, type) else kind.__mro__
    if not isinstance(one, type) and isinstance(kind.__getattribute__, types.FunctionType):
        return UNKNOWN
    names = [name]
    if name.startswith("__") and not name.endswith("__"):
        names = [f"_{base.__name__.lstrip('_')}{name}" for base in bases]
    for name in names:
        found = next((vars(base)[name] for base in bases if name in vars(base)), UNKNOWN)
        if isinstance(found, types.MemberDescriptorType) and not isinstance(one, type):
            try:
                return found.__get__(one, kind)
            except AttributeError:
                return UNKNOWN
        if hasattr(type(found), "__set__"):
            return UNKNOWN
        if not isinstance(one, type):
            own = getattr(one, "__dict__", None)
            if type(own) is dict and name in own:
                return own[name]
        if found is not UNKNOWN:
            return found
    return UNKNOWN


def is_box(one: Any) -> bool:
    """Whether it has contents of its own, kept by code in C."""
    if isinstance(one, _BOXES):
        return True
    if one is UNKNOWN or isinstance(one, ATOMS) or hasattr(type(one), "_is_stand_in"):
        return False
    module = type(one).__module__
    return module.startswith("plait.atomic") or not hasattr(one, "__dict__")


_brief_repr = reprlib.Repr()
_brief_repr.maxstring = _brief_repr.maxother = 40


def brief(value: Any) -> str:
    if isinstance(value, (ATOMS, _BOXES)):
        try:
            return _brief_repr.repr(value)
        except Exception:
            return "?"
    return f"<{type(value).__name__}>"
