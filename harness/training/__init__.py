"""Training through DeepSpeed: the job, its ranks, the training loop, and the files of the run's folder."""
