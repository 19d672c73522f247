"""Pickling by value, for what another process cannot import.

Functions of ``__main__`` (a script, a notebook's cells), lambdas and closures travel as their
code; the child binds them to *its* ``__main__``, which is one real namespace: what one
function sets there, the next one sees. Classes travel by cloudpickle's reducers, which this
module borrows; everything that can be imported travels by name, as ever.

The functions at the end rebuild values. They need nothing but `marshal`, so that a child
starts without importing cloudpickle.
"""

from __future__ import annotations

import copyreg
import functools
import importlib
import io
import marshal
import pickle
import sys
import types
from multiprocessing.reduction import ForkingPickler

from . import _reducers

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    class OutOfBand(Protocol):
        """Keeps a pickle's large buffers; `plait._core` has one."""

        def __call__(self, buffer: pickle.PickleBuffer, /) -> bool: ...
        def clear(self) -> None: ...


__all__ = [
    "MAIN_NAMES",
    "DupFd",
    "Pickler",
    "dumps",
    "fill_in",
    "global_names",
    "is_named",
    "main_entries",
    "received",
    "travels_by_name",
]

# multiprocessing's spawn calls the user's main module __mp_main__ in its children.
MAIN_NAMES = ("__main__", "__mp_main__")

# Types that have no name where they claim to live, and that pickle knows.
_NAMELESS = (type(None), type(...), type(NotImplemented))

# Names that arrived in this process's __main__ by value. The process that sent them has them
# too, so on the way back they travel by name and keep their identity.
received: dict[str, object] = {}

# The globals of __main__ as they arrived, functions or not.
_arrived: dict[str, object] = {}

# A definition of __main__ that no task mentions is kept at hand for pickles that name it (see
# `main_entries`), unless it drags along more than this.
_ENTRY_LIMIT = 1 << 20


def is_named(value: object) -> bool:
    """Whether pickle, and thus a pool's queue, sends it by name."""
    return isinstance(value, (type, types.FunctionType)) or _reducers.is_named(value)


def _resolve(module_name: str, qualname: str) -> object:
    value: object = sys.modules.get(module_name)
    for part in qualname.split("."):
        value = getattr(value, part, None)
    return value


def _is_importable(obj: Any, to_sender: bool) -> bool:
    """Whether the other process finds `obj` by its module and name."""
    module = getattr(obj, "__module__", None)
    qualname: Any = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", "")
    if module is None or "<locals>" in qualname or _resolve(module, qualname) is not obj:
        return False
    if module in MAIN_NAMES:
        return to_sender and received.get(qualname.partition(".")[0]) is _resolve(
            module, qualname.partition(".")[0]
        )
    return _has_origin(module)


def travels_by_name(value: object) -> bool:
    """Whether the pickle of a function, class or constant is its name, whatever is in it."""
    return isinstance(value, types.CodeType) or _is_importable(value, to_sender=False)


def _has_origin(module: str) -> bool:
    """Whether a module was imported, rather than made by `runpy.run_path` or by hand."""
    return getattr(sys.modules.get(module), "__spec__", None) is not None


@functools.lru_cache(maxsize=4096)
def global_names(code: types.CodeType) -> frozenset[str]:
    """The global names that `code`, or a function inside it, reads or writes."""
    import dis

    names = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname.endswith(("_GLOBAL", "_NAME", "_OR_GLOBALS"))
        and step.opname != "IMPORT_NAME"  # a module's name: the child imports it itself
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= global_names(constant)
    return frozenset(names)


def _submodules(code: types.CodeType, modules: Iterator[types.ModuleType]) -> list[str]:
    """Loaded submodules that the code may reach by attribute: ``import os.path`` binds os."""
    words: set[str] = set()
    pending = [code]
    while pending:
        current = pending.pop()
        words.update(current.co_names)
        pending += [c for c in current.co_consts if isinstance(c, types.CodeType)]
    return [
        name
        for module in modules
        if hasattr(module, "__path__")
        for name in list(sys.modules)
        if name.startswith(module.__name__ + ".")
        and words.issuperset(name[len(module.__name__) + 1 :].split("."))
    ]


class Pickler(pickle.Pickler):
    """Pickles by value what cannot be imported; multiprocessing's own reducers hold too."""

    def __init__(
        self, file: Any, *, to_sender: bool = False, buffers: OutOfBand | None = None
    ) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=buffers)
        self._to_sender = to_sender
        self._namespaces: dict[int, _Namespace] = {}
        extra = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
        self.dispatch_table: dict[type, Callable[[Any], Any]] = {
            **copyreg.dispatch_table,
            **extra,
        }
        if "cloudpickle" in sys.modules:
            self.use_cloudpickle()

    def use_cloudpickle(self) -> Any:
        """Adds cloudpickle's reducers for types that pickle does not know."""
        from cloudpickle import cloudpickle

        for kind, reducer in cloudpickle.Pickler._dispatch_table.items():
            self.dispatch_table.setdefault(kind, reducer)
        return cloudpickle

    def reducer_override(self, obj: Any) -> Any:
        if id(obj) in _OURS:
            return NotImplemented
        if isinstance(obj, types.FunctionType):
            if _is_importable(obj, self._to_sender):
                return NotImplemented
            return self._reduce_function(obj)
        if isinstance(obj, type):
            if obj in _NAMELESS or _is_importable(obj, self._to_sender):
                return NotImplemented
            return self._reduce_class(obj)
        if isinstance(obj, types.CellType):
            try:
                # In a tuple: a state of None would not be set.
                return make_cell, (), (obj.cell_contents,), None, None, set_cell
            except ValueError:  # still empty
                return make_cell, ()
        if isinstance(obj, types.ModuleType):
            if obj.__name__ in MAIN_NAMES:
                return main_module, ()
            if sys.modules.get(obj.__name__) is obj:
                return importlib.import_module, (obj.__name__,)
            return self.use_cloudpickle()._module_reduce(obj)
        reducer = _reducers.by_value(type(obj))
        if reducer is None or _is_importable(obj, self._to_sender):
            return NotImplemented
        return reducer(obj)

    def _reduce_function(self, function: types.FunctionType) -> Any:
        code, namespace = function.__code__, function.__globals__
        home = str(namespace.get("__name__"))
        in_main = home in MAIN_NAMES and vars(sys.modules[home]) is namespace
        in_module = (
            not in_main and vars(sys.modules.get(home, types)) is namespace and _has_origin(home)
        )
        state: dict[str, Any] = {
            "__qualname__": function.__qualname__,
            "__module__": function.__module__,
            "__doc__": function.__doc__,
            "__defaults__": function.__defaults__,
            "__kwdefaults__": function.__kwdefaults__,
            "__annotations__": _annotations(function),
        }
        shared: dict[str, Any] = {}
        imports: list[str] = []
        # A module's function finds its globals where it is imported; and on the way back
        # the sender's own globals must not be overwritten.
        if not in_module and not (in_main and self._to_sender):
            shared = {n: namespace[n] for n in global_names(code) if n in namespace}
            modules = (v for v in shared.values() if isinstance(v, types.ModuleType))
            imports = _submodules(code, modules)
            if in_main and namespace.get(function.__name__) is function:
                shared[function.__name__] = function
        if in_main:
            where: Any = "__main__"
        elif in_module:
            where = home
        else:
            where = self._namespaces.setdefault(id(namespace), _Namespace(namespace))
        arguments = (marshal.dumps(code), where, function.__name__, function.__closure__)
        full = (state, dict(function.__dict__), shared, imports)
        return make_function, arguments, full, None, None, set_function

    def _reduce_class(self, cls: type) -> Any:
        reduced = _reducers.ctypes_class(cls) or self.use_cloudpickle()._class_reduce(cls)
        if not isinstance(reduced, tuple) or len(reduced) < 6:
            return reduced
        # In front of cloudpickle's own setter goes ours, which also restores the qualified
        # name, and gives the class its name in __main__ if it has it here: a class that a
        # function made for itself must not take the place of something else there.
        make, arguments, state, _, _, setter = reduced[:6]
        state, setter = _reducers.without_fields(cls, state, setter)
        named = (
            not self._to_sender
            and cls.__module__ in MAIN_NAMES
            and "." not in cls.__qualname__
            and _resolve(cls.__module__, cls.__qualname__) is cls
        )
        full = (setter, state, cls.__qualname__, named)
        return make, arguments, full, None, None, set_class


class _Namespace:
    """Stands for a globals dict that is no module's; one a pickle, so functions share it."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._name = namespace.get("__name__")

    def __reduce__(self) -> Any:
        return make_namespace, (self._name,)


def _annotations(function: types.FunctionType) -> dict[str, Any]:
    try:
        return function.__annotations__
    except NameError:  # evaluated lazily since 3.14, and a name is missing here
        return {}


def dumps(
    obj: object,
    *,
    name: str = "object",
    to_sender: bool = False,
    buffers: OutOfBand | None = None,
) -> bytes:
    """Pickles `obj`, by value where it can't be imported.

    Args:
        obj: anything.
        name: what to call it in an error, such as ``args``.
        to_sender: for a result: what came from the receiver goes back by name.
        buffers: gets the buffers that shall not be in the pickle.

    Raises:
        SerializationError: a member cannot be pickled; the error names it and its path.
    """
    try:
        return _attempt(obj, to_sender, cloudpickle=False, buffers=buffers)
    except Exception:
        try:
            return _attempt(obj, to_sender, cloudpickle=True, buffers=buffers)
        except Exception as error:
            from ._unpicklable import explain

            raise explain(obj, name, error, to_sender) from error


def _attempt(
    obj: object, to_sender: bool, *, cloudpickle: bool, buffers: OutOfBand | None = None
) -> bytes:
    if buffers is not None:
        buffers.clear()  # of an attempt that failed
    buffer = io.BytesIO()
    pickler = Pickler(buffer, to_sender=to_sender, buffers=buffers)
    if cloudpickle:
        pickler.use_cloudpickle()
    pickler.dump(obj)
    return buffer.getvalue()


class _LimitedBuffer(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > _ENTRY_LIMIT:
            raise ValueError(f"it holds more than {_ENTRY_LIMIT >> 20} MiB")
        return super().write(data)


def main_entries(namespace: dict[str, Any]) -> dict[str, bytes | str]:
    """What ``__main__`` defines, each class and function pickled on its own.

    A child has them at hand for pickles that mention ``__main__.C`` though no function that
    it was sent does. An entry that cannot travel is the reason why, as text.
    """
    entries: dict[str, bytes | str] = {}
    for name, value in list(namespace.items()):
        if is_named(value) and value.__module__ in MAIN_NAMES:
            buffer = _LimitedBuffer()
            try:
                Pickler(buffer).dump(value)
                entries[name] = buffer.getvalue()
            except Exception as error:
                entries[name] = str(error)
    return entries


def ingredients(value: Any) -> Iterator[object]:
    """What the pickle of a definition is made from, beside itself: a class's attributes, and
    the globals, defaults and cells of functions. What happens inside a list isn't seen."""
    members = vars(value).values() if isinstance(value, type) else (value,)
    for member in members:
        yield member
        function = getattr(member, "__func__", member)
        if isinstance(function, types.FunctionType):
            namespace = function.__globals__
            yield from (namespace.get(name) for name in global_names(function.__code__))
            yield from function.__defaults__ or ()
            for cell in function.__closure__ or ():
                try:
                    yield cell.cell_contents
                except ValueError:  # still empty
                    yield None


# ---- in the process that unpickles -------------------------------------------------------


_filling_in = False

# Descriptors that came with the payload.
inherited_fds: list[int] = []


class DupFd:
    """A descriptor on its way into a child; multiprocessing's reducers make these."""

    def __init__(self, index: int) -> None:
        self.index = index

    def detach(self) -> int:
        return inherited_fds[self.index]


def main_module() -> types.ModuleType:
    return sys.modules["__main__"]


def make_namespace(name: str | None) -> dict[str, Any]:
    return {"__name__": name, "__builtins__": __builtins__}


def make_function(
    code: bytes,
    where: str | dict[str, Any],
    name: str,
    closure: tuple[types.CellType, ...] | None,
) -> types.FunctionType:
    if isinstance(where, str):
        where = vars(importlib.import_module(where))
    return types.FunctionType(marshal.loads(code), where, name, None, closure)


def set_function(function: types.FunctionType, full: tuple[Any, ...]) -> None:
    state, attributes, shared, imports = full
    for key, value in state.items():
        setattr(function, key, value)
    function.__dict__.update(attributes)
    for name in imports:
        importlib.import_module(name)
    namespace = function.__globals__
    if _filling_in:
        shared = {name: value for name, value in shared.items() if name not in namespace}
    if namespace is vars(main_module()):
        shared = {name: value for name, value in shared.items() if _may_set(namespace, name)}
        _arrived.update(shared)
        received.update((n, v) for n, v in shared.items() if is_named(v))
    namespace.update(shared)


def _may_set(namespace: dict[str, Any], name: str) -> bool:
    """Whether a global that arrives takes its place here: not that of one which was assigned
    here, by an initializer say."""
    return name not in namespace or (name in _arrived and namespace[name] is _arrived[name])


def make_cell() -> types.CellType:
    return types.CellType()


def set_cell(cell: types.CellType, contents: tuple[object]) -> None:
    (cell.cell_contents,) = contents


def set_class(cls: type, full: tuple[Any, Any, str, bool]) -> type:
    setter, state, name, named = full
    setter(cls, state)
    cls.__qualname__ = name
    namespace = vars(main_module())
    if named and not (_filling_in and name in namespace):
        namespace[name] = cls
        received[name] = _arrived[name] = cls
    return cls


def fill_in(name: str, entry: bytes) -> object:
    """Loads a definition that ``__main__`` lacks; what it has already, such as a global that
    an initializer has set, stays."""
    global _filling_in
    _filling_in = True
    try:
        value = pickle.loads(entry)
    finally:
        _filling_in = False
    value = vars(main_module()).setdefault(name, value)
    received[name] = _arrived[name] = value
    return value


# What every pickle of ours names: surely found where it is loaded, so that nothing is looked up.
_OURS = {
    id(ours)
    for ours in (
        DupFd,
        importlib.import_module,
        main_module,
        make_cell,
        make_function,
        make_namespace,
        set_cell,
        set_class,
        set_function,
    )
}
