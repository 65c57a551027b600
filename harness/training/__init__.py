"""Training through DeepSpeed: a job, its ranks, the loop in each of them, and what it leaves in its folder."""
