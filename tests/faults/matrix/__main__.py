"""``python -m matrix LIBRARY CASE``: one case as a program of its own."""

import sys

from . import cases, hostile, inner, lacks, parents, trial

__all__ = ["cases", "hostile", "lacks", "parents"]

if __name__ == "__main__":
    if sys.argv[1] == "--inner":
        inner.main(*sys.argv[2:])
    else:
        trial.main(*sys.argv[1:])
