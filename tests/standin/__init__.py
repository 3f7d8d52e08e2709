"""Stand-ins for what the pipeline works with: an engine, a Docker daemon, programs, and what a suite says."""
