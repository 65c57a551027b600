"""Running suites: one process per case, the ledger of results, interleaved rounds."""
