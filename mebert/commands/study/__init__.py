"""`python -m mebert study`: recipes x tasks x seeds, each run in its own process, and a report over all."""
