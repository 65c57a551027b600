"""Measuring: timing loop, time breakdown, the machine's state, precisions and modes, accuracy with its intervals."""
