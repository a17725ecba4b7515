"""`python -m mebert bench`: the speed of early exit against the models that it has to beat.

Model (`bench_model`) and texts; operating points (`points`, `simulated`); what is timed (`variants`, `baselines`); the
measurement (`timing`, `breakdown`); results, tables and files (`results`, `output`).
"""
