"""Suites run: their cases, a process for each, the ledger of results."""
