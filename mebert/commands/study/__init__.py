"""The command `study`: recipes x tasks x seeds, each run in its own process, and one report over all.

The YAML (`settings`) makes cells, a run and a folder each (`cell`). One `study` owns a folder, and runs end with it
(`owner`); it runs them here or on Ray (`run_cells`). `results` has the figures, `report` shows them.
"""
