"""Runs cases and measures them."""
