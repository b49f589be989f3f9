"""Earlier results as a study's first trials: from another Optuna study, or from rows of a table.

Deciding what fits is pure; `take_over` writes it, and writes nothing twice.
"""

from studyflow.study.earlier.columns import Columns, column_names, column_owners, find_columns
from studyflow.study.earlier.other_study import from_study
from studyflow.study.earlier.results import Earlier, Misfit, take_over, without_known
from studyflow.study.earlier.rows import from_rows
from studyflow.study.earlier.values import read_value

__all__ = [
    "Columns",
    "Earlier",
    "Misfit",
    "column_names",
    "column_owners",
    "find_columns",
    "from_rows",
    "from_study",
    "read_value",
    "take_over",
    "without_known",
]
