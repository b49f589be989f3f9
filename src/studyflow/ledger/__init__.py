"""What a study's attempts cost: one row for each, sums, prices, forecasts, and limits. Pure."""

from studyflow.ledger.prices import NO_PRICES, PRICES_VARIABLE, Prices
from studyflow.ledger.rows import all_rows, rows_of
from studyflow.ledger.sums import Spending, restart_seconds, spending

__all__ = [
    "NO_PRICES",
    "PRICES_VARIABLE",
    "Prices",
    "Spending",
    "all_rows",
    "restart_seconds",
    "rows_of",
    "spending",
]
