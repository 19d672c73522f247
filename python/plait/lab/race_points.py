"""Which instructions of a program read or write what threads may share, and what that is.

Before an instruction is executed, what it works on lies on the interpreter's stack, where nobody
can look. But the compiler notes which expression of the source each instruction belongs to: so
``account.balance`` is found in the syntax tree, and the names, attributes and items in it are
looked up in the frame, without running any code of the program: a property or a call in it makes
it unknown. What is unknown counts as the same thing as everything else of that name. So does
all that an instruction touches in a function without source.

What is told apart: the attributes of an object, each by itself; global variables; variables of
closures, by name; and lists, dicts and their kin, each as a whole.
"""

from __future__ import annotations

import ast
import dis
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from .race_look import ATOMS, UNKNOWN, Source, attribute, brief, is_box, look_up

if TYPE_CHECKING:
    from .race_engine import Run

__all__ = ["Access", "Place", "Points", "Touch"]

# A place in memory, and whether it is written.
Place = tuple[Any, str]
Touch = tuple[Place, bool]

_CONTENTS = "[]"
_READERS = frozenset(
    [
        "get",
        "keys",
        "values",
        "items",
        "copy",
        "index",
        "count",
        "isdisjoint",
        "issubset",
        "issuperset",
        "union",
        "difference",
        "intersection",
        "symmetric_difference",
        "load",
        "__contains__",
        "__len__",
        "__getitem__",
        "__iter__",
        "most_common",
        "elements",
        "tolist",
    ]
)
_CHANGERS = frozenset(
    [
        "append",
        "appendleft",
        "extend",
        "extendleft",
        "insert",
        "pop",
        "popleft",
        "popitem",
        "remove",
        "clear",
        "sort",
        "reverse",
        "add",
        "discard",
        "update",
        "setdefault",
        "rotate",
        "move_to_end",
    ]
)
# Functions in C that only read their arguments.
_PURE = frozenset(
    [
        "len",
        "sum",
        "max",
        "min",
        "any",
        "all",
        "sorted",
        "list",
        "tuple",
        "set",
        "dict",
        "frozenset",
        "enumerate",
        "zip",
        "map",
        "filter",
        "reversed",
        "iter",
        "repr",
        "str",
        "print",
        "bool",
        "int",
        "float",
        "isinstance",
        "hash",
        "id",
        "type",
        "range",
        "abs",
        "bytes",
        "format",
        "Counter",
        "deque",
        "deepcopy",
        "copy",
    ]
)

# ---- instructions -----------------------------------------------------------------------------


class Access:
    """An instruction that may touch what threads share.

    Attributes:
        text: what it does, in words.
        writes: whether it may write.
        site: the code and the offset in it.
        line: its line.
    """

    def __init__(
        self, code: CodeType, instruction: dis.Instruction, node: Any, points: Points
    ) -> None:
        self.site = (code, instruction.offset)
        positions = instruction.positions
        self.line: int = (positions and positions.lineno) or code.co_firstlineno
        self.name = str(instruction.argval)
        self.node = node
        self.points = points
        opname = instruction.opname
        self.writes = opname.startswith(("STORE", "DELETE"))
        if "GLOBAL" in opname or "_NAME" in opname:
            self._find = self._of_global
        elif "DEREF" in opname:
            self._find = self._of_cell
        elif "ATTR" in opname or "METHOD" in opname:
            self._find = self._of_attribute
        elif "SUBSCR" in opname or "SLICE" in opname or isinstance(node, ast.Subscript):
            self._find = self._of_item
        elif opname.startswith("CALL"):
            self._find = self._of_call
        else:
            self._find = self._of_operands
        label = self.name if node is None else ast.unparse(node)
        if isinstance(node, ast.AugAssign):
            label = ast.unparse(node.target)
        self.label = label
        self.text = f"{'writes' if self.writes else 'reads'} {label}"
        self._show: Callable[[FrameType], Any] | None = None

    def touches(self, frame: FrameType, run: Run) -> Sequence[Touch]:
        """The places in memory that it touches; none: nothing that threads could share."""
        touches: list[Touch] = []
        for one, name, writes in self._find(frame):
            if one is UNKNOWN:
                if name not in self.points.unknown:
                    self.points.unknown.add(name)
                    self.points.has_grown = True
            else:
                run.kept[id(one)] = one
                touches.append(((id(one), name), writes))
            if name in self.points.unknown:
                touches.append((("?", name), writes))
        return touches

    def words(self, frame: FrameType, verb: str) -> str:
        """What is there to be read, or was written, in words."""
        node = self.node
        if "call" in self._find.__name__:
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                return ""
            node = node.func.value
        elif isinstance(node, ast.AugAssign):
            node = node.target
        if node is None:
            if "global" not in self._find.__name__:
                return ""
            value = frame.f_globals.get(self.name, UNKNOWN)
        elif isinstance(node, ast.Subscript) and look_up(node, frame) is UNKNOWN:
            node = node.value
            value = look_up(node, frame)
        else:
            value = look_up(node, frame)
        if value is UNKNOWN:
            return ""
        label = self.name if node is None else ast.unparse(node)
        return f"{verb} {label} = {brief(value)}"

    # What follows gives objects, what of them is touched, and whether it is written.

    def _of_global(self, frame: FrameType) -> Iterator[tuple[Any, str, bool]]:
        is_local = frame.f_locals is not frame.f_globals and self.name in frame.f_locals
        if self.name in frame.f_globals or (self.writes and not is_local):
            value = frame.f_globals.get(self.name)
            if self.writes or not isinstance(value, types.ModuleType):
                yield frame.f_globals, self.name, self.writes

    def _of_cell(self, frame: FrameType) -> Iterator[tuple[Any, str, bool]]:
        yield _CELLS, self.name, self.writes

    def _of_attribute(self, frame: FrameType) -> Iterator[tuple[Any, str, bool]]:
        if not isinstance(self.node, ast.Attribute):
            yield UNKNOWN, self.name, self.writes
            return
        base = look_up(self.node.value, frame)
        if base is UNKNOWN:
            if self.writes or not self.node.attr.startswith("__"):
                yield base, self.name, self.writes
        elif isinstance(base, types.ModuleType):
            yield vars(base), self.name, self.writes
        elif hasattr(type(base), "_is_stand_in"):
            pass  # its operations are steps of their own
        elif (self.writes or not callable(attribute(base, self.node.attr))) and (
            isinstance(base, type) or not isinstance(base, ATOMS)
        ):
            yield base, self.name, self.writes

    def _of_item(self, frame: FrameType) -> Iterator[tuple[Any, str, bool]]:
        if not isinstance(self.node, ast.Subscript):
            yield UNKNOWN, _CONTENTS, self.writes
            return
        base = look_up(self.node.value, frame)
        if base is UNKNOWN or is_box(base):
            yield base, _CONTENTS, self.writes

    def _of_call(self, frame: FrameType) -> Iterator[tuple[Any, str, bool]]:
        self.writes = False
        node = self.node
        if not isinstance(node, ast.Call):
            return
        function = node.func
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        if isinstance(function, ast.Attribute):
            owner, name = look_up(function.value, frame), function.attr
            if owner is UNKNOWN:
                if name in _CHANGERS or name in _READERS:
                    yield from self._touch(owner, name not in _READERS)
                return
            if not isinstance(owner, types.ModuleType):
                if is_box(owner):
                    yield from self._touch(owner, name not in _READERS)
                if not self.points.is_python(attribute(owner, name)):
                    yield from self._contents(arguments, frame, False)
                return
            called = vars(owner).get(name, UNKNOWN)
        else:
            called = look_up(function, frame)
            name = getattr(called, "__name__", "")
        if self.points.is_python(called):
            return
        if name in ("getattr", "setattr", "delattr") and len(arguments) > 1:
            one, what = look_up(arguments[0], frame), look_up(arguments[1], frame)
            self.writes = name != "getattr"
            if isinstance(what, str):
                yield one, what, self.writes
            return
        yield from self._contents(arguments, frame, name not in _PURE)

    def _touch(self, one: Any, writes: bool) -> Iterator[tuple[Any, str, bool]]:
        self.writes = self.writes or writes
        if isinstance(self.node, ast.Call):
            self.text = f"calls {ast.unparse(self.node.func)}"
        yield one, _CONTENTS, writes

    def _contents(
        self, nodes: Iterable[Any], frame: FrameType, writes: bool
    ) -> Iterator[tuple[Any, str, bool]]:
        for node in nodes:
            node = node.value if isinstance(node, ast.Starred) else node
            one = look_up(node, frame)
            if is_box(one):
                yield from self._touch(one, writes)

    def _of_operands(self, frame: FrameType) -> Iterator[tuple[Any, str, bool]]:
        node = self.node
        if isinstance(node, ast.AugAssign):
            one = look_up(node.target, frame)
            self.writes = is_box(one)
            if self.writes:
                yield one, _CONTENTS, True
            yield from self._contents([node.value], frame, False)
            return
        nodes: list[Any] = [node]
        if isinstance(node, ast.BinOp):
            nodes = [node.left, node.right]
        elif isinstance(node, ast.Compare):
            nodes = [node.left, *node.comparators]
        elif isinstance(node, ast.UnaryOp):
            nodes = [node.operand]
        elif isinstance(node, ast.Call):  # for item in box.items(), for item in enumerate(box)
            of = [node.func.value] if isinstance(node.func, ast.Attribute) else []
            nodes = [*of, *node.args]
        yield from self._contents(nodes, frame, False)


class _Cells:
    """Stands for all variables of closures."""


_CELLS = _Cells()


def _attribute_of(before: dis.Instruction | None, name: str) -> ast.Attribute | None:
    """What an instruction without source is about, if the one before it loads a variable."""
    if before is None or not before.opname.startswith(("LOAD_FAST", "LOAD_GLOBAL", "LOAD_DEREF")):
        return None
    loaded = before.argval[-1] if isinstance(before.argval, tuple) else before.argval
    return ast.Attribute(ast.Name(str(loaded), ast.Load()), name, ast.Load())


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
    **dict.fromkeys(("FOR_ITER", "LIST_EXTEND", "SET_UPDATE", "DICT_UPDATE"), (ast.expr,)),
    **dict.fromkeys(("TO_BOOL", "UNARY_NOT", "JUMP_IF_TRUE", "JUMP_IF_FALSE"), (ast.expr,)),
}
_NOT_THESE = ("IMPORT", "KW_NAMES", "SUPER", "CALL_INTRINSIC", "BUILD")
# Of these without their source nothing is known.
_NEED_SOURCE = ("CALL", "BINARY_OP", "COMPARE", "CONTAINS", "FOR_", "_EXTEND", "_UPDATE", "_IF_")


class Points:
    """What is known of the code of a program, over all of its runs.

    Args:
        callables: the functions of the program: code that lies beside theirs is followed, even if
            it is part of the standard library or of an installed package, which else is not.
    """

    def __init__(self, callables: Iterable[Any]) -> None:
        self.shared: set[Any] = set()  # the sites of which it was seen that threads share them
        self.unknown: set[str] = set()
        self.has_grown = False
        self._tables: dict[CodeType, dict[int, Access]] = {}
        self._followed: dict[str, bool] = {}
        self.codes: list[CodeType] = []  # of the callables
        self._sources: dict[str, Source] = {}
        for one in callables:
            code = getattr(getattr(one, "__func__", one), "__code__", None)
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

    def is_python(self, called: Any) -> bool:
        """Whether calling it runs code that is followed."""
        if isinstance(called, type):
            called = getattr(called, "__init__", None)
        called = getattr(called, "__func__", called)
        code = getattr(called, "__code__", None)
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
        if file not in self._sources:
            self._sources[file] = Source(file)
        extended: int | None = None
        before: dis.Instruction | None = None
        for one in dis.get_instructions(code):
            if one.opname == "EXTENDED_ARG":
                extended = one.offset if extended is None else extended
                continue
            first, extended = extended, None
            last, before = before, one
            kinds = next((kinds for part, kinds in _KINDS.items() if part in one.opname), None)
            if kinds is None or any(part in one.opname for part in _NOT_THESE):
                continue
            node = one.positions and self._sources[file].find(one.positions, kinds)
            if node is None and "ATTR" in one.opname:
                node = _attribute_of(last, str(one.argval))
            if node is None and any(part in one.opname for part in _NEED_SOURCE):
                continue
            access = Access(code, one, node, self)
            yield one.offset, access
            if first is not None:
                yield first, access
