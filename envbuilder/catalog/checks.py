"""All checks, in the order in which a reader wants their answers."""

from envbuilder.catalog import verify, verify_torch, verify_world
from envbuilder.catalog.verify import Check

ALL: tuple[Check, ...] = (*verify.CHECKS, *verify_torch.CHECKS, *verify_world.CHECKS)
