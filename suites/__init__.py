"""Suites are Python values: `SUITE = Suite(...)` in a file of this package. Data only; nothing here imports torch."""
