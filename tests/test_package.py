"""The package itself: light to import, every public name there, every example runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import plait
import pytest
from conftest import PATIENCE

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(plait.__path__, "plait.")
    if not name.endswith("__main__")
]


def test_import_is_light() -> None:
    code = (
        "import sys; before = set(sys.modules); import plait; "
        "heavy = {'asyncio', 'multiprocessing', 'numpy', 'concurrent', 'cloudpickle', 'rich'}; "
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_once() -> None:
    assert len(set(plait.__all__)) == len(plait.__all__)
    for name in plait.__all__:
        assert getattr(plait, name) is not None
    assert set(plait.__all__) <= set(dir(plait))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = plait.no_such_name  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    if name == "plait.lab.magics":
        pytest.importorskip("IPython", reason="the magics are IPython's")
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_readme_examples() -> None:
    readme = Path(__file__).parent.parent / "README.md"
    failed, tried = doctest.testfile(str(readme), module_relative=False)
    assert failed == 0
    assert tried > 0
