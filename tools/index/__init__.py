"""An index of packages: what its pages list, and what is in the wheels there."""
