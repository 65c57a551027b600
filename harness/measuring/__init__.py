"""How a number is taken: timing, phases, the machine's state, ways to run a model, scores and their intervals."""
