"""The notebook of docs/ runs from its first cell to its last, and shows what it says."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"


@pytest.mark.long
@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = ["".join(str(output.get("data", "")) for output in cell.outputs) for cell in cells]
    assert sum("image/png" in each for each in shown) == 3
    assert "'finished', " in shown[1]
    assert "fid_classifier" in shown[2]
    assert "'FeGAN': " in shown[7]
    assert (tmp_path / "generator.pt2").stat().st_size > 0
    assert not [cell for cell in notebook.cells if "Traceback" in str(cell.get("outputs", ""))]
