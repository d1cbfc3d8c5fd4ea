"""The table of all solvers says what the solvers say, and names every one."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_is_what_the_solvers_say_of_themselves():
    written = runpy.run_path(str(DOCS / "solver_table.py"))["page"]()
    assert (DOCS / "reference" / "solvers.md").read_text() == written, "run: python docs/solver_table.py"
