"""One file a metric: `measure(subject)` returns its `Metric`s by name."""
