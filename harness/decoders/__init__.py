"""Comparing decoders: their speed, and whether they return the same frames."""
