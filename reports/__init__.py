"""Results in, text and pictures out. Needs no torch."""
