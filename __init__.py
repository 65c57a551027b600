"""ReelBench: one command compares video-recognition architectures on one machine, under one protocol."""

__version__ = "0.1.0"
