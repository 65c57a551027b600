"""One model, data set, metric, report and suite for ReelBench."""
