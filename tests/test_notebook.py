"""The notebook runs top to bottom in a real kernel."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install 'plait[notebook]'")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install 'plait[notebook]'")
pytest.importorskip("ipykernel", reason="needs ipykernel: pip install 'plait[notebook]'")

NOTEBOOK = Path(__file__).parents[1] / "examples" / "tour.ipynb"


@pytest.mark.timeout(700)
def test_notebook(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "committed with outputs"
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = {
        cell["id"]: "".join(
            output.get("text", "") or "".join(output.get("data", {}).values())
            for output in cell.get("outputs", [])
        )
        for cell in notebook.cells
    }
    assert "Worker kobe0 started" in outputs["process"]
    assert "came back: 5" in outputs["process"]
    assert "in the parent: 0" in outputs["process"]
    assert "Main thread completed: [0, 1, 4]" in outputs["thread"]
    assert "['A', 'B', 'C']" in outputs["coroutines"]
    assert "'slept'" in outputs["inside"]
    assert "1229" in outputs["map"]
    assert "this cell" in outputs["chart"]
    assert "plait.rayon" in outputs["compare"]
