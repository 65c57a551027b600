"""Build a job's model with its initial weights, wrapped in its objective."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ... import models
from . import losses, saved_weights, weights
from .job import Job


def build_objective(job: Job, num_classes: int, device: torch.device) -> losses.Objective:
    """Build the recipe's objective around the model with its initial weights, on the device.

    The weights are those of `job.pretrained` or `job.init_from`, else random; what was loaded is printed to standard
    error. Raises UserError if a file of weights does not fit.
    """
    recipe, variant = job.recipe, models.find(job.model)
    network, annotator = build_network(job, num_classes), None
    if recipe.annotator is not None:
        assert job.annotator is not None  # see `check_job`
        annotator = weights.restore(recipe.annotator, job.annotator, num_classes=num_classes).to(device)
    head = (variant.head,) if isinstance(variant.head, str) else variant.head
    return losses.objective(network, recipe, num_classes=num_classes, clip=job.clip, head=head, annotator=annotator).to(
        device
    )


def build_network(job: Job, num_classes: int) -> nn.Module:
    """Build the job's model with its initial weights. Raises UserError as `build_objective` does."""
    network = models.build(job.model, num_classes=num_classes, clip=job.clip, **model_options(job))
    if job.init_from is not None:
        saved_weights.say(models.init_from(network, weights.read(job.init_from), partial=job.init_from_partial))
    if job.pretrained is not None:
        saved_weights.say(models.load_pretrained(network, weights.read(job.pretrained)))
    return network


def model_options(job: Job) -> dict[str, Any]:
    """Return the constructor arguments that the job overrides; those it leaves to the model are not in it."""
    asked = {
        "drop_path": job.recipe.drop_path,
        "token_labels": True if job.recipe.objective == "token_label" else None,
        "checkpoint_activations": job.checkpoint_activations or None,
    }
    return {**job.options, **{name: value for name, value in asked.items() if value is not None}}
