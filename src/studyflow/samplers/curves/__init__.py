"""Learning curves: how running trials will end, and where GPU-time buys most.

Pure: a study's reports in, forecasts and a decision with its numbers out.
docs/learning-curves.md has the measurements.
"""
