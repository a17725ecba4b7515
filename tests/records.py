"""Recorded passes that no model made."""

import torch

from mebert.metrics.curve import ExitRecord


def random_record(samples=60, exits=4, classes=3, seed=0):
    """Exits whose accuracy rises with depth, and which are more confident where they are correct."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (samples,), generator=generator)
    ease = torch.rand(samples, generator=generator)
    logits = torch.randn(exits, samples, classes, generator=generator)
    for exit_index in range(exits):
        strength = 4 * ease * (exit_index + 1) / exits
        logits[exit_index, torch.arange(samples), labels] += strength
    scores = 1 - logits.softmax(-1).amax(-1)
    return ExitRecord(logits, labels, torch.arange(samples), torch.full((samples,), 9), {"max_prob": scores})
