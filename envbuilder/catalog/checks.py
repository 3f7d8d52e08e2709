"""All checks, in the order in which a reader wants their answers."""

from envbuilder.catalog import (
    verify,
    verify_companions,
    verify_platforms,
    verify_torch,
)
from envbuilder.catalog.verify import Check

ALL: tuple[Check, ...] = (
    *verify.CHECKS,
    *verify_torch.CHECKS,
    *verify_platforms.CHECKS,
    *verify_companions.CHECKS,
)
