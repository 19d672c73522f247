"""Looks at a program from outside: its source by where an instruction points to, and the values
of its variables, without running any code of it."""

from __future__ import annotations

import ast
import collections
import dis
import gc
import linecache
import reprlib
import types
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

__all__ = [
    "ATOMS",
    "FRESH",
    "UNKNOWN",
    "Glance",
    "Source",
    "attribute",
    "brief",
    "is_box",
    "look_up",
    "nested",
    "now",
    "operands",
    "reached",
]

UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda self: "?"})()
# A value that was only just made, which nobody else can have.
FRESH: Any = type("Fresh", (), {"__repr__": lambda self: "?"})()
ATOMS: tuple[type, ...] = (
    *(int, float, complex, str, bytes, bool, type(None), type(...), tuple, frozenset, range, slice),
    *(type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType),
    *(types.GeneratorType, types.CoroutineType, BaseException, property, classmethod),
)
_BOXES = (list, dict, set, bytearray)
# Builtin functions that give something new, or something that never changes.
_MAKE_FRESH: frozenset[Any] = frozenset(
    [
        *(len, range, int, float, str, bytes, bool, complex, list, tuple, set, dict, frozenset),
        *(sorted, isinstance, issubclass, callable, hasattr, repr, hash, id, abs, ord, chr),
        *(format, round, divmod, print, bytearray, slice, any, all),
    ]
)
# Their results still read what they were made of, whenever they are asked for more.
_LAZY: frozenset[Any] = frozenset([iter, enumerate, zip, map, filter, reversed])
_VIEWS = frozenset(["items", "keys", "values"])
# What classes in C or of the standard library add to a class that is not contents.
_SHELLS = frozenset(
    [
        "abc",
        "collections.abc",
        "_collections_abc",
        "contextlib",
        "enum",
        "numbers",
        "types",
        "typing",
    ]
)
_HEAP_TYPE = 1 << 9


def _ending(node: Any) -> tuple[int, int]:
    return node.end_lineno, node.end_col_offset


class Source:
    """The syntax tree of a file, by where its nodes end."""

    def __init__(self, file: str) -> None:
        self.nodes: dict[tuple[int, int], list[ast.AST]] = {}
        # Patterns, by where they are: what a match statement takes apart by them; None: a part.
        self.subjects: dict[tuple[int, int, int, int], ast.expr | None] = {}
        self.patterns: dict[tuple[int, int, int, int], ast.pattern] = {}
        try:
            tree = ast.parse("".join(linecache.getlines(file)))
        except (SyntaxError, ValueError):
            return
        for node in ast.walk(tree):
            if isinstance(node, ast.expr | ast.AugAssign):
                self.nodes.setdefault(_ending(node), []).append(node)
            elif isinstance(node, ast.Match):
                for case in node.cases:
                    self._note_patterns(case.pattern, node.subject)

    def _note_patterns(self, pattern: ast.pattern, subject: ast.expr) -> None:
        whole = {pattern}
        if isinstance(pattern, ast.MatchAs) and pattern.pattern is not None:
            whole.add(pattern.pattern)
        for one in whole:
            if isinstance(one, ast.MatchOr):
                whole.update(one.patterns)
        for part in ast.walk(pattern):
            if isinstance(part, ast.pattern):
                place = (part.lineno, part.col_offset, *_ending(part))
                self.subjects[place] = subject if part in whole else None
                self.patterns[place] = part

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


class Glance:
    """A frame, and what expressions in it have given so far: what was read of a variable is used
    even if another thread has put something else in its place meanwhile.

    Attributes:
        loaded: by frame and expression; of all frames, so that a glance is made in no time.
    """

    __slots__ = ("frame", "loaded")

    def __init__(self, frame: FrameType, loaded: dict[tuple[int, Any], Any]) -> None:
        self.frame = frame
        self.loaded = loaded

    @property
    def f_locals(self) -> Any:
        return self.frame.f_locals

    @property
    def f_globals(self) -> dict[str, Any]:
        return self.frame.f_globals

    @property
    def f_builtins(self) -> dict[str, Any]:
        return self.frame.f_builtins

    def remember(self, node: Any) -> None:
        """What an expression gives is being loaded."""
        self.loaded[id(self.frame), node] = now(node, self)

    def forget(self, node: Any) -> None:
        """It is being loaded anew, and nobody else changes it."""
        self.loaded.pop((id(self.frame), node), None)


def look_up(node: Any, frame: Glance) -> Any:
    """What an expression has given, or else gives."""
    if frame.loaded and (id(frame.frame), node) in frame.loaded:
        return frame.loaded[id(frame.frame), node]
    return now(node, frame)


def now(node: Any, frame: Glance) -> Any:
    """What an expression would give if its last operation were done now."""
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
    elif isinstance(node, _NEW):
        return FRESH
    elif isinstance(node, ast.BinOp):
        for side in (node.left, node.right):
            one = look_up(side, frame)
            if one is FRESH or isinstance(one, ATOMS):
                return FRESH
    elif isinstance(node, ast.NamedExpr):
        return look_up(node.target, frame)
    elif isinstance(node, ast.Call):
        return _result(node, frame)
    return UNKNOWN


_NEW = (
    *(ast.JoinedStr, ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp),
    *(ast.Lambda, ast.Compare, ast.FormattedValue),
)


def _result(node: ast.Call, frame: Glance) -> Any:
    """What a call gives, as far as that is known of the function."""
    function = node.func
    if isinstance(function, ast.Attribute):
        owner = look_up(function.value, frame)
        if hasattr(type(owner), "_is_stand_in") and function.attr not in ("get", "get_nowait"):
            return FRESH
        if type(owner).__module__.startswith("plait.atomic") and "_" in function.attr:
            return FRESH  # compare_exchange, fetch_add: not what is kept in it
        return FRESH if type(owner) in (str, bytes, int, float) or owner is FRESH else UNKNOWN
    called = look_up(function, frame)
    if called is type and len(node.args) == 1:
        of = look_up(node.args[0], frame)
        return UNKNOWN if of is UNKNOWN or of is FRESH else type(of)
    try:
        return FRESH if called in _MAKE_FRESH else UNKNOWN
    except TypeError:  # not hashable
        return UNKNOWN


def operands(node: Any, frame: Glance) -> list[Any]:
    """The expressions whose values an instruction reads that is about this one."""
    if isinstance(node, ast.BoolOp):
        return [one for value in node.values for one in operands(value, frame)]
    if isinstance(node, ast.IfExp):
        return [*operands(node.body, frame), *operands(node.orelse, frame)]
    if isinstance(node, ast.UnaryOp):
        return operands(node.operand, frame)
    if isinstance(node, ast.Compare):
        return [node.left, *node.comparators]
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    if isinstance(node, ast.Call):
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in _VIEWS and not node.args:
            return operands(function.value, frame)
        called = look_up(function, frame)
        if type(called) in (type, types.BuiltinFunctionType) and called in _LAZY:
            return [one for argument in node.args for one in operands(argument, frame)]
    if isinstance(node, ast.GeneratorExp):
        return []  # a function of its own, which is followed
    if isinstance(node, ast.Starred):
        return operands(node.value, frame)
    return [node]


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


def is_box(one: Any, is_followed_class: Callable[[type], bool] | None = None) -> bool:
    """Whether it has contents of its own, kept by code in C, or by Python code that is not
    followed."""
    if isinstance(one, _BOXES):
        return True
    if one is UNKNOWN or one is FRESH or isinstance(one, ATOMS):
        return False
    kind = type(one)
    if hasattr(kind, "_is_stand_in"):
        return False
    if kind.__module__.startswith("plait.atomic"):
        return True
    for base in kind.__mro__[:-1]:
        if base.__module__ in _SHELLS or base.__name__ == "local":
            continue
        if not base.__flags__ & _HEAP_TYPE:
            return True
        if is_followed_class is not None and not is_followed_class(base):
            return True
    return False


def reached(
    one: Any, is_followed_class: Callable[[type], bool] | None, depth: int = 4
) -> Iterator[Any]:
    """The contents that an operation in C on an object may reach: its own, and those of what it
    wraps, as a view, an iterator or a bound method does."""
    if one is UNKNOWN:
        yield one
        return
    if isinstance(one, types.GeneratorType):
        if one.gi_frame is not None:
            yield one.gi_frame
        return
    inner: list[Any] = []
    if isinstance(one, (types.BuiltinMethodType, types.MethodType)):
        inner = [one.__self__]
    elif isinstance(one, tuple):
        inner = list(one)
    elif isinstance(one, types.MappingProxyType):
        inner = gc.get_referents(one)
    elif is_box(one, is_followed_class):
        yield one
        if not isinstance(one, (list, dict, set, bytearray, collections.deque)):
            inner = gc.get_referents(one)
            if type(one).__module__ == "numpy":
                inner = [getattr(one, "base", None)]
    if depth:
        for other in inner[:100]:
            if not isinstance(other, (type, types.ModuleType, types.FunctionType)):
                yield from reached(other, is_followed_class, depth - 1)


def nested(one: Any, depth: int = 3) -> list[Any]:
    """The boxes within a box, which comparing or showing it reads as well."""
    inner: list[Any] = []
    if isinstance(one, dict):
        inner = [*one.values()]
    elif isinstance(one, (list, tuple, set, frozenset)):
        inner = [*one]
    found = []
    for other in inner[:200]:
        if isinstance(other, (dict, list, tuple, set, bytearray)):
            found += [] if isinstance(other, tuple) else [other]
            found += nested(other, depth - 1) if depth else []
    return found


_brief_repr = reprlib.Repr()
_brief_repr.maxstring = _brief_repr.maxother = 40


def brief(value: Any) -> str:
    if isinstance(value, (ATOMS, _BOXES)):
        try:
            return _brief_repr.repr(value)
        except Exception:
            return "?"
    return f"<{type(value).__name__}>"
