"""What a study found, for a human: tables, a summary, figures and one self-contained page.

`StudyData` is the input of everything here. `build_report` writes the page and its files; it needs
the extra `reports`. Tables and summaries need nothing beyond the base install.
"""

from studyflow.reports.data import Omitted, StudyData
from studyflow.reports.page import Report, build_report
from studyflow.reports.summary import headline, next_steps, summary_markdown
from studyflow.reports.tables import (
    best_config,
    best_config_yaml,
    describe_state,
    improvements,
    markdown_table,
    trial_rows,
    trials_csv,
)

__all__ = [
    "Omitted",
    "Report",
    "StudyData",
    "best_config",
    "best_config_yaml",
    "build_report",
    "describe_state",
    "headline",
    "improvements",
    "markdown_table",
    "next_steps",
    "summary_markdown",
    "trial_rows",
    "trials_csv",
]
