"""The command `study`: recipes x tasks x seeds, each run in its own process, and one report over all.

settings       the YAML, checked; the cells (one run each) that follow from it
cell           a cell's folder: configuration, whether it is done, what can be resumed
owner, parent  one `study` per folder; runs end with the `study` that started them
run_cells      runs on this machine, or as Ray tasks
results        figures over the seeds of every recipe and task, with intervals
report, run    the report, and the command itself
"""
