"""The machine at run time: processes and devices, precision, progress, log filters, SLURM."""
