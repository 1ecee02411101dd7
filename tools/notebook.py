"""Make docs/fit.ipynb from examples/fit_notebook.py: run its cells, and store them with their outputs.

    python tools/notebook.py [--check]

Code cells begin with "# %%", text cells with "# %% [markdown]". If a cell's last line is an expression, the notebook
holds what IPython would show for it: text, HTML, a figure. --check compares the file with the outputs of a new run.
"""
import argparse
import ast
import base64
import contextlib
import io
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT, NOTEBOOK = ROOT / "examples" / "fit_notebook.py", ROOT / "docs" / "fit.ipynb"


def cells_of(script):
    """(kind, text) of each cell."""
    for part in re.split(r"^# %%", script, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        if "markdown" in head:
            yield "markdown", re.sub(r"^# ?", "", body.strip(), flags=re.MULTILINE)
        else:
            yield "code", body.strip()


def run(code, names):
    """The outputs of a code cell."""
    tree = ast.parse(code)
    last = tree.body.pop().value if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        exec(compile(tree, SCRIPT.name, "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last), SCRIPT.name, "eval"), names)
    outputs = []
    if stream.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": stream.getvalue()})
    if value is not None:
        outputs.append({"output_type": "execute_result", "metadata": {}, "data": shown(value)})
    return outputs


def shown(value):
    if hasattr(value, "savefig"):
        image = io.BytesIO()
        value.savefig(image, format="png", dpi=72)
        return {"text/plain": "<Figure>", "image/png": base64.b64encode(image.getvalue()).decode()}
    data = {"text/plain": repr(value)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_()
    return data


def notebook():
    names, cells = {"__name__": "__main__"}, []
    for k, (kind, text) in enumerate(cells_of(SCRIPT.read_text(encoding="utf-8"))):
        cell = {"cell_type": kind, "id": f"cell-{k}", "metadata": {}, "source": text}
        if kind == "code":
            cell["outputs"] = [one | ({"execution_count": k} if one["output_type"] == "execute_result" else {})
                               for one in run(text, names)]
            cell["execution_count"] = k
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def strings(book):
    """All strings of a notebook; not its pictures, whose bytes differ between machines."""
    for cell in book["cells"]:
        yield cell["source"]
        for output in cell.get("outputs", ()):
            yield output.get("text") or output["data"]["text/plain"]


def main():
    parser = argparse.ArgumentParser(description="Make docs/fit.ipynb.")
    parser.add_argument("--check", action="store_true", help="only compare with the file")
    options = parser.parse_args()
    import matplotlib
    matplotlib.use("Agg")
    made = notebook()
    if options.check:
        old = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
        sys.exit(0 if list(strings(old)) == list(strings(made)) else f"{NOTEBOOK} is not what tools/notebook.py makes")
    NOTEBOOK.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
