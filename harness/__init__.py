"""The harness: suites, training, measuring, decoders, explanations, and the command line."""
