"""What the samplers of several processes give together."""

from mebert.data.samplers import PADDING_ROW


def global_batches(samplers, batch_size):
    """The rows of each step over all ranks, without padding rows."""
    shares = [list(sampler) for sampler in samplers]
    steps = range(0, max(map(len, shares)), batch_size)
    return [
        sorted(row for share in shares for row in share[step : step + batch_size] if row != PADDING_ROW)
        for step in steps
    ]


def assert_same_global_batches(make, epoch):
    """Samplers `make(batch_size, num_replicas, rank)` give the same global batches on 1, 2 and 3 processes."""
    found = []
    for world in (1, 2, 3):
        samplers = [make(12 // world, world, rank) for rank in range(world)]
        for sampler in samplers:
            sampler.set_epoch(epoch)
        found.append(global_batches(samplers, 12 // world))
    assert found[0] == found[1] == found[2]
