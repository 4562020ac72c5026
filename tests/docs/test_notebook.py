"""docs/digits.ipynb runs from top to bottom in an empty folder."""

import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "digits.ipynb"


def _executed(folder):
    for name in ("nbclient", "ipykernel", "matplotlib", "onnxruntime"):
        pytest.importorskip(
            name, reason=f"{name} is not installed: it comes with the extra dev, plot or export"
        )
    nbformat = pytest.importorskip(
        "nbformat", reason="nbformat is not installed: it comes with the extra dev"
    )
    from nbclient import NotebookClient  # noqa: PLC0415 -- an extra

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    shown = [_printed(cell) for cell in notebook.cells if cell.cell_type == "code"]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"], shown


def _printed(cell):
    texts = [each.get("text", "") + each.get("data", {}).get("text/plain", "") for each in cell.outputs]
    return "".join(texts)


def test_it_trains_draws_evaluates_and_predicts(tmp_path):
    cells, shown = _executed(tmp_path)
    (sha256,) = re.findall(r"\b[0-9a-f]{64}\b", shown[0])
    assert sha256 in _printed(cells[0]), "the page shows another hash than its reader will see: run it anew"
    drawn = [cell for cell in cells if any("image/png" in each.get("data", {}) for each in cell.outputs)]
    assert len(drawn) == 2
    (evaluated,) = (cell for cell in cells if "model.evaluate()" in cell.source)
    assert "digits, test: 360 samples" in _printed(evaluated)
    (asked,) = (cell for cell in cells if "model.predict" in cell.source)
    seven, zero = _printed(asked).splitlines()
    assert seven.startswith("seven {'7': ")
    assert zero.startswith("zero {'0': ")
    assert (tmp_path / "digits/checkpoints/best.json").exists()
    (exported,) = (cell for cell in cells if "model.export" in cell.source)
    assert "ONNX Runtime agrees with the engine" in _printed(exported)
    assert "['7', '0']" in _printed(exported)
