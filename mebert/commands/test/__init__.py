"""The command `test` on a file of labelled rows: no trainer, no run folder."""
