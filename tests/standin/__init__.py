"""Stand-ins for what the pipeline uses: an engine, a Docker daemon, programs, and the output of a suite."""
