"""slurm-sdk's own examples, on slurm-sdk and on Penstock."""
