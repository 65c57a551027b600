"""A data set in, a stream of `Batch` out."""
