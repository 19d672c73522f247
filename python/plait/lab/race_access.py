"""What an instruction of a race's program touches: see `race_points`."""

from __future__ import annotations

import ast
import dis
import functools
import types
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from .race_look import (
    ATOMS,
    FRESH,
    UNKNOWN,
    Glance,
    attribute,
    brief,
    look_up,
    nested,
    now,
    operands,
    reached,
)
from .race_names import BY_NAME, HARMLESS, ITEMS, METHODS, PURE, READERS, SHALLOW
from .race_world import FILES, file_access, is_file, outside

if TYPE_CHECKING:
    from collections.abc import Callable

    from .race_engine import Run
    from .race_points import Points

__all__ = ["Access", "Place", "Touch"]

# A place in memory, and whether it is written.
Place = tuple[Any, str]
Touch = tuple[Place, bool]

_CONTENTS = "[]"


class Access:
    """An instruction that may touch what threads share.

    Attributes:
        text: what it does, in words.
        writes: whether it may write.
        site: the code and the offset in it.
        line: its line.
    """

    def __init__(
        self,
        code: CodeType,
        instruction: dis.Instruction,
        node: Any,
        points: Points,
        has_source: bool,
        subject: tuple[Any, Any] = (None, None),
    ) -> None:
        self.site = (code, instruction.offset)
        positions = instruction.positions
        self.line: int = (positions and positions.lineno) or code.co_firstlineno
        self.name = str(instruction.argval)
        self.node = node
        self.points = points
        self.has_source = has_source
        self.subject = subject
        opname = instruction.opname
        self.opname = opname
        self.writes = opname.startswith(("STORE", "DELETE"))
        if "GLOBAL" in opname or "_NAME" in opname:
            self._find = self._of_global
        elif "DEREF" in opname:
            self._find = self._of_cell
        elif "ATTR" in opname or "METHOD" in opname:
            self._find = self._of_attribute
        elif (
            "SUBSCR" in opname
            or "SLICE" in opname
            or ("BINARY_OP" in opname and isinstance(node, ast.Subscript))
        ):
            self._find = self._of_item
        elif opname.startswith("CALL"):
            self._find = self._of_call
        elif opname == "YIELD_VALUE":
            self._find = self._of_generator
        elif opname == "MATCH_CLASS":
            self._find = self._of_pattern
        else:
            self._find = self._of_operands
        label = self.name if node is None else ast.unparse(node)
        if isinstance(node, ast.AugAssign):
            label = ast.unparse(node.target)
        # What a variable, an attribute or an item gives is shown as it is then and there.
        self.label_node = node.target if isinstance(node, ast.AugAssign) else node
        self.loads = isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and (
            opname.startswith(("LOAD", "BINARY"))
        )
        self.label = label
        self.text = f"{'writes' if self.writes else 'reads'} {label}"
        self._show: Callable[[Glance], Any] | None = None

    def touches(self, frame: Glance, run: Run) -> Sequence[Touch]:
        """The places in memory that it touches; none: nothing that threads could share."""
        touches: list[Touch] = []
        for one, name, writes in self._find(frame):
            if one is FRESH:
                continue
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

    def note_load(self, frame: Glance, is_shared: bool) -> None:
        """It is about to be done: what it loads is what will be worked on."""
        if self.loads:
            (frame.remember if is_shared else frame.forget)(self.node)

    def words(self, frame: Glance, verb: str) -> str:
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
        elif node is not self.label_node:
            value = look_up(node, frame)
        else:
            value = now(node, frame)
        if value is UNKNOWN:
            return ""
        label = self.name if node is None else ast.unparse(node)
        return f"{verb} {label} = {brief(value)}{self._since_replaced(node, value, frame)}"

    def _since_replaced(self, node: Any, value: Any, frame: Glance) -> str:
        """That it is about an object which is not the one of that name any more."""
        anew = Glance(frame.frame, {})
        if node is self.label_node and isinstance(node, ast.Attribute | ast.Subscript):
            node, value = node.value, look_up(node.value, frame)
        current = look_up(node, anew)
        if current is value or current is UNKNOWN or current is FRESH or isinstance(value, ATOMS):
            return ""
        return f" (of what {ast.unparse(node)} was when it read it)"

    # What follows gives objects, what of them is touched, and whether it is written.

    def _of_global(self, frame: Glance) -> Iterator[tuple[Any, str, bool]]:
        is_local = frame.f_locals is not frame.f_globals and self.name in frame.f_locals
        if self.name in frame.f_globals or (self.writes and not is_local):
            value = frame.f_globals.get(self.name)
            if self.writes or not isinstance(value, types.ModuleType):
                yield frame.f_globals, self.name, self.writes

    def _of_cell(self, frame: Glance) -> Iterator[tuple[Any, str, bool]]:
        yield _CELLS, self.name, self.writes

    def _of_attribute(self, frame: Glance) -> Iterator[tuple[Any, str, bool]]:
        if not isinstance(self.node, ast.Attribute):
            yield UNKNOWN, self.name, self.writes
            return
        name = self.node.attr
        base = look_up(self.node.value, frame)
        if name == "__dict__" and not isinstance(base, (type, types.ModuleType)):
            self._is_unseen("an object's attributes are reached as a dict")
        if base is UNKNOWN:
            if self.writes or not name.startswith("__"):
                yield base, self.name, self.writes
        elif isinstance(base, types.ModuleType):
            yield vars(base), self.name, self.writes
        elif hasattr(type(base), "_is_stand_in"):
            pass  # its operations are steps of their own
        elif isinstance(base, (type, types.FunctionType)) or not isinstance(base, ATOMS):
            yield from self._of_name(base, name, self.writes)

    def _of_name(self, base: Any, name: str, writes: bool) -> Iterator[tuple[Any, str, bool]]:
        """An attribute of an object, or of the class that has it in its stead."""
        own = getattr(base, "__dict__", None) if type(base) is not types.ModuleType else None
        is_own = writes or (own is not None and name in own)
        if is_own or not callable(attribute(base, name)):
            yield base, name, writes
        if not writes and not isinstance(base, type) and not is_own:
            # A method is not read as such, but for when there is something that replaces it.
            for kind in type(base).__mro__[:-1]:
                if name in vars(kind):
                    if isinstance(vars(kind)[name], functools.cached_property):
                        self._is_unseen("that several threads find it missing is not tried")
                    yield kind, name, False
                    yield base, name, False
                    break

    def _of_item(self, frame: Glance) -> Iterator[tuple[Any, str, bool]]:
        if not isinstance(self.node, ast.Subscript):
            yield UNKNOWN, _CONTENTS, self.writes
            return
        base = look_up(self.node.value, frame)
        for one in reached(base, self.points.is_followed_class):
            yield one, _CONTENTS, self.writes

    def _of_generator(self, frame: Glance) -> Iterator[tuple[Any, str, bool]]:
        self.text, self.writes = "yields", True
        yield frame.frame, _CONTENTS, True

    def _of_pattern(self, frame: Glance) -> Iterator[tuple[Any, str, bool]]:
        """The attributes that a pattern with a class takes an object apart by."""
        subject, pattern = self.subject
        one = UNKNOWN if subject is None else look_up(subject, frame)
        if isinstance(one, ATOMS) or one is FRESH:
            return
        names = list(pattern.kwd_attrs) if pattern is not None else None
        if names is None or pattern.patterns:
            match_args = attribute(look_up(pattern.cls, frame), "__match_args__") if pattern else ()
            if not isinstance(match_args, tuple):
                match_args = ()
                self._is_unseen("which attributes a pattern reads cannot be told")
            names = [*(names or ()), *match_args]
        for name in names:
            yield one, str(name), False

    def _is_unseen(self, why: str) -> None:
        code, _ = self.site
        self.points.is_unseen(f"line {self.line} of {code.co_filename}: {self.label}: {why}")

    def _of_call(self, frame: Glance) -> Iterator[tuple[Any, str, bool]]:
        self.writes = False
        node = self.node
        if not isinstance(node, ast.Call):
            if not self.has_source:
                yield UNKNOWN, _CONTENTS, True
            return
        function = node.func
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        if isinstance(function, ast.Attribute):
            owner, name = look_up(function.value, frame), function.attr
            if not isinstance(owner, types.ModuleType):
                known = None if owner is FRESH or owner is UNKNOWN else attribute(owner, name)
                yield from self._of_files(None if known is UNKNOWN else known, name, node.args)
            if name in BY_NAME:
                yield from self._by_name(owner, name, node.args, frame)
                return
            if owner is FRESH:
                yield from self._contents(arguments, frame, False)
                return
            if owner is UNKNOWN:
                if not (name.startswith("__") and name.endswith("__") and name not in ITEMS):
                    yield from self._touch(owner, name not in READERS)
                yield from self._contents(arguments, frame, False)
                return
            if not isinstance(owner, types.ModuleType):
                if hasattr(type(owner), "_is_stand_in"):
                    return
                called = attribute(owner, name)
                if self._is_cached(called) or self.points.is_python(called):
                    return
                if isinstance(owner, type) and arguments:  # list.append(box, item)
                    writes = name not in READERS and not isinstance(called, classmethod)
                    yield from self._contents(arguments[:1], frame, writes)
                    yield from self._contents(arguments[1:], frame, False)
                    return
                if called is UNKNOWN or type(called) in METHODS:
                    yield from self._touch(owner, name not in READERS)
                    yield from self._contents(arguments, frame, False)
                    return
            else:
                called = vars(owner).get(name, UNKNOWN)
        else:
            called = look_up(function, frame)
        yield from self._of_called(called, arguments, frame)

    def _of_files(
        self, called: Any, name: str, arguments: Sequence[ast.expr]
    ) -> Iterator[tuple[Any, str, bool]]:
        writes = file_access(called, name, arguments)
        if writes is not None:
            if isinstance(self.node, ast.Call):
                self.text = f"calls {ast.unparse(self.node.func)}"
            yield FILES, _CONTENTS, writes

    def _is_cached(self, called: Any) -> bool:
        is_cached = type(called).__name__ == "_lru_cache_wrapper"
        if is_cached:
            self._is_unseen("that several threads find nothing in its cache is not tried")
        return is_cached

    def _of_called(
        self, called: Any, arguments: Sequence[ast.expr], frame: Glance
    ) -> Iterator[tuple[Any, str, bool]]:
        """What is called by a name, or kept in an attribute."""
        points = self.points
        if self._is_cached(called):
            return
        if points.is_python(called) or hasattr(called, "_is_stand_in"):
            return
        name = getattr(called, "__name__", "")
        if why := outside(called):
            self._is_unseen(why)
        yield from self._of_files(called, name, arguments)
        if name in BY_NAME and not isinstance(called, types.FunctionType):
            yield from self._by_name(None, name, arguments, frame)
            return
        if called is globals or (called is vars and arguments):
            self._is_unseen("attributes or variables are reached as a dict")
        is_pure = name in PURE
        for one in reached(called, points.is_followed_class):  # a bound method, or an iterator
            yield from self._touch(one, name not in READERS)
        yield from self._contents(arguments, frame, not is_pure)
        if points.is_opaque(called):
            self._is_unseen(f"what {name or 'it'} does is not looked into")
        for node in arguments:
            node = node.value if isinstance(node, ast.Starred) else node
            one = look_up(node, frame)
            if name not in SHALLOW:
                for other in nested(one):
                    yield other, _CONTENTS, not is_pure
            if type(one).__module__ in ("operator", "functools") and not points.is_python(one):
                self._is_unseen(f"what {type(one).__name__} does is not looked into")
            is_made = isinstance(called, type) or name in HARMLESS
            if not is_made and points.is_plain(one):
                if self.has_source:
                    self._is_unseen(f"what {name or 'it'} does to the object is not looked into")
                for attribute_name in list(getattr(one, "__dict__", ())):
                    yield one, attribute_name, True
                self.writes = True

    def _by_name(
        self, owner: Any, name: str, arguments: Sequence[ast.expr], frame: Glance
    ) -> Iterator[tuple[Any, str, bool]]:
        """`getattr` and its kin, `object.__setattr__(one, name, value)`, `super().__setattr__`."""
        values = [look_up(one, frame) for one in arguments[:2]]
        if owner is None or isinstance(owner, type):
            one, what = (*values, UNKNOWN, UNKNOWN)[:2]
        else:
            one, what = owner, (*values, UNKNOWN)[0]
        self.writes = "get" not in name and "has" not in name
        if not isinstance(what, str):
            self._is_unseen("which attribute it is cannot be told")
        elif isinstance(one, types.ModuleType):
            yield vars(one), what, self.writes
        elif one is UNKNOWN:
            yield one, what, self.writes
        elif not isinstance(one, ATOMS) or isinstance(one, (type, types.FunctionType)):
            yield from self._of_name(one, what, self.writes)

    def _touch(self, one: Any, writes: bool) -> Iterator[tuple[Any, str, bool]]:
        found = list(reached(one, self.points.is_followed_class))
        if not found:
            return
        self.writes = self.writes or writes
        if isinstance(self.node, ast.Call):
            self.text = f"calls {ast.unparse(self.node.func)}"
        for other in found:
            is_generator = isinstance(other, FrameType)
            yield other, _CONTENTS, writes or is_generator
            if is_file(other):
                yield FILES, _CONTENTS, True  # reading moves what is next

    def _contents(
        self, nodes: Iterable[Any], frame: Glance, writes: bool
    ) -> Iterator[tuple[Any, str, bool]]:
        for one in [part for node in nodes for part in operands(node, frame)]:
            value = look_up(one, frame)
            yield from self._touch(value, writes)
            if type(value) in METHODS and isinstance(one, ast.Attribute):
                yield from self._touch(look_up(one.value, frame), True)  # to be called later

    def _of_operands(self, frame: Glance) -> Iterator[tuple[Any, str, bool]]:
        node = self.node
        if isinstance(node, ast.AugAssign):
            one = look_up(node.target, frame)
            self.writes = False
            if not isinstance(one, ATOMS):
                yield from self._touch(one, True)
            yield from self._contents([node.value], frame, False)
        elif node is None:
            yield UNKNOWN, _CONTENTS, "BINARY_OP" in self.opname
        else:
            yield from self._contents([node], frame, False)
            if isinstance(node, ast.Compare) or self.opname.startswith(("FORMAT", "CONVERT")):
                for part in operands(node, frame):
                    for other in nested(look_up(part, frame)):
                        yield other, _CONTENTS, False


class _Cells:
    """Stands for all variables of closures."""


_CELLS = _Cells()
