"""Fakes and contract suites: to test studyflow, and executors and trackers that others write.

The fakes need nothing beyond the package; the `*_contract` modules need pytest.
"""
