"""One file a data set: where its videos lie and what their labels are."""
