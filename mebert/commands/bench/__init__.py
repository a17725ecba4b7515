"""`python -m mebert bench`: the speed of early exit against the models that it has to beat.

Model (`bench_model`) and texts; operating points (`points`, `simulated`) and their `accuracy`; what is timed
(`variants`, `baselines`); the measurement (`timing`, `breakdown`); results, the `verdict`, tables and files (`results`,
`output`).
"""
