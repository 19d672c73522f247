"""Which members of two sets, or keys of two dicts, belong together? A part of `plait.lab.same`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .same_words import Step, Verdict, abbreviate

__all__ = ["ABSENT", "pair_members"]

ABSENT = object()
# For these, once the types agree, what is == is the same.
_EXACT = frozenset({int, str, bytes, bool, type(None)})
# Members without an equal are tried with each other, so often at most.
_TRIALS = 250_000

Same = Callable[[Any, Any], "bool | None"]


def pair_members(
    one: Mapping[Any, Any], other: Mapping[Any, Any], same: Same, keys: str = ""
) -> Verdict | Iterator[Step]:
    """Pair the keys by ``==``, and then those that have no equal by trying.

    These are NaN and what holds it, floats that agree within a tolerance, and objects whose
    ``==`` is their identity.

    Args:
        one: the one dict; a set as a dict without values.
        other: the other.
        same: tells whether two are; None if it cannot be told.
        keys: how to call the keys' place.

    Returns:
        The values to compare, or that the keys don't agree.
    """
    theirs = {key: key for key in other}
    steps: list[Step] = []
    left: list[Any] = []
    nearly: dict[int, Any] = {}
    for key, value in one.items():
        mate = theirs.get(key, ABSENT)
        if mate is not ABSENT:
            if (type(key) in _EXACT and type(mate) is type(key)) or same(key, mate):
                del theirs[key]
                steps.append((value, other[key], (key,)))
                continue
            nearly[id(key)] = mate  # 1 for True, 0.0 for -0.0
        left.append(key)
    if not left and not theirs:
        return iter(steps)
    mates = _in_order(theirs)
    mine = {id(key): value for key, value in one.items()}
    values = {id(key): value for key, value in other.items()}
    trials, unsure = 0, False
    for key in _in_order(left):
        closest: Step | None = None
        for index, mate in enumerate(mates):
            trials += 1
            if trials > _TRIALS:
                return Verdict("cannot be compared: many members equal no other", decided=False)
            found = same(key, mate)
            unsure |= found is None
            if found:
                closest = (mine[id(key)], values[id(mate)], (key,))
                if same(*closest[:2]):
                    del mates[index]
                    break
        else:
            if closest is not None:
                return iter([closest])
            if id(key) in nearly:
                return iter([(key, nearly[id(key)], keys)])
            if unsure:
                return Verdict("cannot be compared: members that equal no other", decided=False)
            what = "key" if keys else "member"
            return Verdict(f"{what} {abbreviate(key)} expected, and missing")
    for mate in mates:
        what = "key" if keys else "member"
        return Verdict(f"{what} {abbreviate(mate)} is not expected")
    return iter(steps)


def _in_order(keys: Iterable[Any]) -> list[Any]:
    """So that those of two sets that nearly agree are in the same places, if they have an order."""
    try:
        return sorted(keys)
    except Exception:
        return list(keys)
