"""Names by which `race` knows what functions and methods in C do to what they are given."""

from __future__ import annotations

import types

__all__ = ["BY_NAME", "HARMLESS", "ITEMS", "METHODS", "PURE", "READERS", "SHALLOW"]

# Methods that only read what they are of.
READERS = frozenset(
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
# Functions in C that only read their arguments.
PURE = frozenset(
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


# What gives or changes an attribute by its name.
BY_NAME = frozenset(
    ["getattr", "setattr", "delattr", "hasattr", "__getattribute__", "__setattr__", "__delattr__"]
)
ITEMS = frozenset(
    ["__setitem__", "__delitem__", "__getitem__", "__contains__", "__len__", "__iter__"]
)
# Functions that do nothing to an object's attributes but by its own methods.
HARMLESS = PURE - {"deepcopy", "copy"} | {
    *("next", "callable", "issubclass", "super", "contextmanager", "cast", "exit", "sleep"),
    *("ref", "suppress", "closing", "nullcontext", "round", "divmod", "pow", "heappush"),
    *("heappop", "heapify", "heapreplace", "heappushpop", "bisect", "insort", "bisect_left"),
}
# Functions that look at a box, but not at the boxes within.
SHALLOW = frozenset(
    [
        *("len", "iter", "next", "bool", "id", "isinstance", "enumerate", "zip", "map", "filter"),
        *("reversed", "any", "all", "list", "tuple", "set", "type", "callable", "copy", "deque"),
    ]
)
METHODS = (
    *(types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType),
    *(types.FunctionType, types.BuiltinMethodType, types.MethodWrapperType, staticmethod),
)
