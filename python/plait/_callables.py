"""Arguments that must be functions: the usual mistake is to call them, `target=f()`."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["NO_TARGET", "check_callable", "check_target"]

# Told apart from an explicit None, which is what `target=f()` gives for most functions.
NO_TARGET: Any = type("_NoTarget", (), {"__repr__": lambda self: "None"})()


def check_callable(name: str, value: object) -> None:
    """Refuses an argument that cannot be called.

    Raises:
        TypeError: says what it got, and that the function itself is wanted.
    """
    if not callable(value):
        raise TypeError(
            f"{name} must be callable, got {value!r} of type {type(value).__name__}; "
            f"pass the function itself, without parentheses: {name}=f, not {name}=f()"
        )


def check_target(target: Any, *, needed: bool) -> Any:
    """The target of a thread or process: None if there is none, and none is `needed`."""
    if target is NO_TARGET or (target is None and not needed):
        return None
    check_callable("target", target)
    return target
