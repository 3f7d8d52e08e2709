"""envbuilder turns "CUDA 11.7" into a container image that is proven to train."""

__version__ = "0.1.0"
