"""Decoders against each other: their speed, and whether they show the same frames."""
