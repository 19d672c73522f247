"""Found first by a Python that a traced process runs as a subprocess: has it traced as well.

It leaves no sign in that program: neither on its path nor in its environment, and a sitecustomize
of the user's own is run as if this one were not there. Any Python 3 may find it, so it assumes
nothing of the version, nor that plait is there.
"""

import os
import sys


def _leave(here: str) -> None:
    sys.path[:] = [place for place in sys.path if place != here]
    places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if here in places:
        places.remove(here)
        if places:
            os.environ["PYTHONPATH"] = os.pathsep.join(places)
        else:
            del os.environ["PYTHONPATH"]


def _run_users() -> None:
    """Where there is none, that is an ImportError, which `site` expects."""
    del sys.modules["sitecustomize"]
    import sitecustomize  # type: ignore[import-not-found]  # noqa: F401


def _trace() -> None:
    try:
        from plait._tracing import begin_child
    except (ImportError, SyntaxError):  # a Python that has no plait, or is too old for it
        return
    begin_child()


_leave(os.path.dirname(os.path.abspath(__file__)))
try:
    _run_users()
finally:
    _trace()
