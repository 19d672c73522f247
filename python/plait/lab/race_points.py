"""Which instructions of a program read or write what threads may share, and what that is.

Before an instruction is executed, what it works on lies on the interpreter's stack, where nobody
can look. But the compiler notes which expression of the source each instruction belongs to: so
``account.balance`` is found in the syntax tree, and the names, attributes and items in it are
looked up in the frame, without running any code of the program: a property or a call in it makes
it unknown. What is unknown counts as the same thing as everything else of that name. So does
all that an instruction touches in a function without source. What was loaded of a variable is
worked on even if another thread has put something else in its place meanwhile: see `Glance`.

What is told apart: the attributes of an object, each by itself; global variables; variables of
closures, by name; and lists, dicts and their kin, each as a whole.
"""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import Any

from .race_access import Access, Place, Touch
from .race_look import ATOMS, UNKNOWN, Source, attribute, is_box

__all__ = ["Access", "Place", "Points", "Touch"]

_KINDS: dict[str, tuple[type, ...]] = {
    "ATTR": (ast.Attribute,),
    "LOAD_METHOD": (ast.Attribute,),
    "SUBSCR": (ast.Subscript,),
    "SLICE": (ast.Subscript,),
    "_GLOBAL": (ast.Name,),
    "_NAME": (ast.Name,),
    "DEREF": (ast.Name,),
    "CALL": (ast.Call,),
    "BINARY_OP": (ast.BinOp, ast.AugAssign, ast.Subscript),
    "COMPARE_OP": (ast.Compare,),
    "CONTAINS_OP": (ast.Compare,),
    "YIELD_VALUE": (ast.Yield,),
    "MATCH_CLASS": (ast.expr,),
}
# Instructions that read what was put last upon the interpreter's stack: whether a box is empty,
# what is in it.
_READ_LAST = (
    *("TO_BOOL", "UNARY_", "IF_TRUE", "IF_FALSE", "GET_ITER", "GET_YIELD_FROM_ITER", "FOR_ITER"),
    *("UNPACK_", "FORMAT_", "CONVERT_VALUE", "LIST_EXTEND", "SET_UPDATE", "DICT_UPDATE"),
    *("DICT_MERGE", "GET_LEN", "MATCH_MAPPING", "MATCH_SEQUENCE", "MATCH_KEYS", "BEFORE_WITH"),
    *("CALL_INTRINSIC_1",),
)
_NOT_THESE = ("IMPORT", "KW_NAMES", "BUILD", "PRECALL")
_NOTHING = ast.Constant(None)
# Of these without their source nothing is known.
_NEW = ("COMPARE_OP", "CONTAINS_OP", "IS_OP", "UNARY_", "TO_BOOL", "BUILD_", "FORMAT_", "CONVERT_")
_SAME = ("NOP", "CACHE", "PRECALL", "NOT_TAKEN", "PUSH_NULL", "COPY", "EXTENDED_ARG")


def _put_last(before: Sequence[dis.Instruction], source: Source) -> ast.expr | None:
    """The expression whose value the last of these instructions has put upon the stack; a constant
    stands for all that is new; None: it cannot be told."""
    at = len(before) - 1
    while at >= 0 and before[at].opname in _SAME:
        at -= 1
    if at < 0 or any(one.is_jump_target for one in before[at + 1 :]):
        return None
    one = before[at]
    name = one.opname
    if name.startswith(("LOAD_FAST", "STORE_FAST_LOAD", "LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")):
        if "FAST" not in name and one.positions:  # another thread may change it: see Glance
            found = source.find(one.positions, (ast.Name,))
            if found is not None:
                return found  # type: ignore[no-any-return]
        loaded = one.argval[-1] if isinstance(one.argval, tuple) else one.argval
        return ast.Name(str(loaded), ast.Load())
    if name.startswith(_NEW) or "LOAD_CONST" in name or "LOAD_SMALL_INT" in name:
        return _NOTHING
    if name.startswith(("LIST_", "SET_", "DICT_", "MATCH_MAPPING", "MATCH_SEQ", "GET_LEN")):
        return _NOTHING
    if name in ("GET_ITER", "FOR_ITER"):
        look = _put_last if name == "GET_ITER" else _item_of
        return look(before[:at], source)
    if name.startswith(("LOAD_", "BINARY_", "CALL")):
        found = one.positions and source.find(one.positions, (ast.expr,))
        if isinstance(found, ast.Attribute | ast.Subscript | ast.Call | ast.BinOp | ast.Name):
            return found
        if found is not None and name.startswith("CALL"):
            return _NOTHING if isinstance(found, _MADE) else None
        if "ATTR" in name and (of := _put_last(before[:at], source)) is not None:
            return ast.Attribute(of, str(one.argval), ast.Load())
    return None


_MADE = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _item_of(before: Sequence[dis.Instruction], source: Source) -> ast.expr | None:
    """What a loop takes from `items()`, `enumerate` and `zip` are tuples, made for it."""
    of = _put_last(before, source)
    if isinstance(of, ast.Call):
        name = getattr(of.func, "attr", getattr(of.func, "id", ""))
        return _NOTHING if name in ("items", "enumerate", "zip") else None
    return None


class Points:
    """What is known of the code of a program, over all of its runs.

    Args:
        callables: the functions of the program: code that lies beside theirs is followed, even if
            it is part of the standard library or of an installed package, which else is not.
    """

    def __init__(self, callables: Iterable[Any]) -> None:
        self.shared: set[Any] = set()  # the sites of which it was seen that threads share them
        self.unknown: set[str] = set()
        self.unseen: dict[str, None] = {}  # what was met that cannot be seen into
        self.has_grown = False
        self._tables: dict[CodeType, dict[int, Access]] = {}
        self._followed: dict[str, bool] = {}
        self.codes: list[CodeType] = []  # of the callables
        self._sources: dict[str, Source] = {}
        for one in callables:
            code = getattr(_unwrapped(one), "__code__", None)
            if code is not None:
                self._followed[code.co_filename] = True
                self.codes.append(code)

    @cached_property
    def _outside(self) -> tuple[str, ...]:
        paths = sysconfig.get_paths()
        names = ("stdlib", "platstdlib", "purelib", "platlib")
        own = str(Path(__file__).parents[1])
        return ("<frozen", own, *{paths[name] for name in names})

    def is_followed(self, code: CodeType) -> bool:
        """Whether its instructions are looked at."""
        return self.is_followed_file(code.co_filename)

    def is_followed_file(self, file: str) -> bool:
        """Whether a file is the program's."""
        found = self._followed.get(file)
        if found is None:
            found = self._followed[file] = not file.startswith(self._outside)
        return found

    def is_followed_class(self, kind: type) -> bool:
        """Whether a class is the program's."""
        if not kind.__flags__ & (1 << 9) or type(kind).__module__.startswith("_ctypes"):
            return False
        module = sys.modules.get(kind.__module__)
        if module is None or kind.__module__ in ("builtins", "__main__"):
            return True
        file = getattr(module, "__file__", None)
        return file is not None and self.is_followed_file(file)

    def is_contents(self, one: Any) -> bool:
        """Whether all of an object's state are its contents."""
        return is_box(one, self.is_followed_class) and not hasattr(one, "__dict__")

    def is_plain(self, one: Any) -> bool:
        """Whether it is an object with attributes, of a class of the program's or without any."""
        kind = type(one)
        return (
            hasattr(one, "__dict__")
            and not isinstance(one, ATOMS)
            and not hasattr(kind, "_is_stand_in")
            and not hasattr(one, "_is_stand_in")
            and (kind is types.SimpleNamespace or self.is_followed_class(kind))
        )

    def is_opaque(self, called: Any) -> bool:
        """Whether it is Python code of an installed package: it may have a state of its own."""
        code = getattr(_unwrapped(called), "__code__", None)
        if not isinstance(code, CodeType) or self.is_followed(code):
            return False
        parts = Path(code.co_filename).parts
        return "site-packages" in parts and not {"_pytest", "plait"} & set(parts)

    def is_unseen(self, what: str) -> None:
        """Something was met that cannot be seen into: nothing is proved any more."""
        self.unseen.setdefault(what)

    def is_python(self, called: Any) -> bool:
        """Whether calling it runs code that is followed."""
        if isinstance(called, type):
            if self.is_followed_class(called):
                return True
            called = getattr(called, "__init__", None)
        called = _unwrapped(called)
        code = getattr(called, "__code__", None)
        if code is None and not isinstance(called, (type, *_BUILTIN)):
            call = attribute(type(called), "__call__")
            code = getattr(_unwrapped(call), "__code__", None)
        return isinstance(code, CodeType) and self.is_followed(code)

    def share(self, sites: set[Any]) -> None:
        """Threads were seen to share what these touch."""
        if not sites <= self.shared:
            self.shared |= sites
            self.has_grown = True

    def of(self, code: CodeType) -> dict[int, Access]:
        """The accesses in a function, by offset."""
        table = self._tables.get(code)
        if table is None:
            table = self._tables[code] = dict(self._accesses(code))
        return table

    def _accesses(self, code: CodeType) -> Iterator[tuple[int, Access]]:
        file = code.co_filename
        source = self._sources.get(file)
        if source is None:
            source = self._sources[file] = Source(file)
        extended: int | None = None
        before: list[dis.Instruction] = []
        for one in dis.get_instructions(code):
            if one.opname == "EXTENDED_ARG":
                extended = one.offset if extended is None else extended
                before.append(one)
                continue
            first, extended = extended, None
            access = self._access(code, one, before, source)
            before.append(one)
            if access is not None:
                yield one.offset, access
                if first is not None:
                    yield first, access

    def _access(
        self,
        code: CodeType,
        one: dis.Instruction,
        before: list[dis.Instruction],
        source: Source,
    ) -> Access | None:
        name = one.opname
        positions = one.positions
        place: Any = positions and (
            *(positions.lineno, positions.col_offset),
            *(positions.end_lineno, positions.end_col_offset),
        )
        has_source = bool(source.nodes)
        node: Any
        if any(part in name for part in _READ_LAST):
            if name == "CALL_INTRINSIC_1" and "POSITIVE" not in one.argrepr:
                return None
            if place in source.subjects:
                if "IF_" in name:
                    return None
                node = source.subjects[place]
            elif one.is_jump_target and name != "FOR_ITER":
                node = positions and source.find(positions, (ast.BoolOp, ast.IfExp, ast.NamedExpr))
            else:
                node = _put_last(_unformatted(one, before), source)
            if isinstance(node, ast.Constant):
                return None
            if name == "BEFORE_WITH" and not isinstance(node, ast.Attribute | ast.Name):
                return None  # what it calls was made to be entered
            return Access(code, one, node, self, has_source)
        kinds = next((kinds for part, kinds in _KINDS.items() if part in name), None)
        if kinds is None or any(part in name for part in _NOT_THESE) or "INTRINSIC" in name:
            return None
        if name == "YIELD_VALUE" and not code.co_flags & inspect.CO_GENERATOR:
            return None
        node = positions and source.find(positions, kinds)
        if node is None and "ATTR" in name and (of := _put_last(before, source)) is not None:
            node = ast.Attribute(of, str(one.argval), ast.Load())
        if node is None and has_source and "CALL" in name:
            return None  # the compiler's own: a comprehension, the end of a with statement
        subject = (source.subjects.get(place) if place else None, source.patterns.get(place))
        return Access(code, one, node, self, has_source, subject)


_BUILTIN = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)


def _unformatted(one: dis.Instruction, before: list[dis.Instruction]) -> list[dis.Instruction]:
    """What comes before the format of a formatted value, if that is a constant."""
    has_format = one.opname == "FORMAT_WITH_SPEC" or (
        one.opname == "FORMAT_VALUE" and "format" in one.argrepr
    )
    if has_format and before and "CONST" in before[-1].opname:
        return before[:-1]
    return [] if has_format else before


def _unwrapped(one: Any) -> Any:
    """The function that is run in the end, if it is one in Python."""
    for _ in range(20):
        inner = UNKNOWN
        for name in ("__func__", "__wrapped__", "func"):
            if not isinstance(one, type):
                inner = getattr_static(one, name)
            if inner is not UNKNOWN:
                break
        if inner is UNKNOWN:
            return one
        one = inner
    return one


def getattr_static(one: Any, name: str) -> Any:
    """An attribute of what wraps a function."""
    if name == "func" and not isinstance(one, functools.partial):
        return UNKNOWN
    if name == "__func__" and not isinstance(one, (types.MethodType, staticmethod, classmethod)):
        return UNKNOWN
    if name == "__wrapped__" and isinstance(one, types.FunctionType):
        return vars(one).get(name, UNKNOWN)
    return getattr(one, name, UNKNOWN) if name != "__wrapped__" or _is_cache(one) else UNKNOWN


def _is_cache(one: Any) -> bool:
    return type(one).__module__ == "functools"
