"""The page to pick a stack from: every answer of the resolver in one file that needs nothing else."""
