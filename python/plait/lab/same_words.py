"""How a difference between two values is told: where it is, and what is there."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import Any

__all__ = ["DIFFERENT", "Difference", "Step", "Verdict", "abbreviate", "of_two_kinds", "say"]

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 4


def abbreviate(value: object) -> str:
    """A value's repr, cut so that a line of a report can hold two.

    >>> abbreviate(list(range(100)))
    '[0, 1, 2, 3, ...]'
    """
    try:
        return _SHORT.repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


class Difference(str):
    """Where two values differ first, as words; it may be pickled.

    Attributes:
        decided: whether they do differ; False if they can't be compared.
    """

    decided: bool

    def __new__(cls, words: str, decided: bool = True) -> Difference:
        self = super().__new__(cls, words)
        self.decided = decided
        return self


@dataclass
class Verdict:
    """That two values are not the same, or can't be compared; words if their reprs don't do."""

    words: str | None = None
    decided: bool = True


# What is to be compared next, and how to call its place: an int is an index, a tuple holds a
# key, a str is used as it is, and None is no place that can be named: then its owners are shown.
Step = tuple[Any, Any, "int | str | tuple[Any] | None"]

DIFFERENT = Verdict()


def of_two_kinds(one: Any, other: Any) -> Verdict:
    if isinstance(one, Verdict):
        return one
    mine, theirs = type(one).__name__, type(other).__name__
    if mine == theirs:
        mine, theirs = (f"{type(each).__module__}.{mine}" for each in (one, other))
    if mine == theirs:
        return Verdict(f"cannot be compared: two classes are called {mine}", decided=False)
    return Verdict(f"{mine} {abbreviate(one)} expected, got {theirs} {abbreviate(other)}")


def say(verdict: Verdict, path: list[Step]) -> Difference:
    """The verdict on the last of a path, at the place that can be named."""
    where = ""
    for index, (_, _, label) in enumerate(path):
        if label is None:
            one, other, _ = path[index - 1]
            break
        where += (
            f"[{label}]"
            if isinstance(label, int)
            else f"[{abbreviate(label[0])}]"
            if isinstance(label, tuple)
            else label
        )
    else:
        one, other, _ = path[-1]
    words = verdict.words
    if words is None or index < len(path) - 1 or label is None:
        inner, (words, other_words) = words, (abbreviate(one), abbreviate(other))
        if not verdict.decided:
            words = f"two {type(one).__name__} objects cannot be compared"
            words += f": {inner}"
        elif words == other_words:
            mine, theirs, _ = path[-1]
            words = f"{words} expected, got another one: "
            words += inner or f"{abbreviate(mine)} expected, got {abbreviate(theirs)} inside"
        else:
            words = f"{words} expected, got {other_words}"
    return Difference(f"at {where or 'the result'}: {words}", verdict.decided)
