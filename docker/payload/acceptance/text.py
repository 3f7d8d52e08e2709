"""Short texts out of long ones: what a library or a program says of an error."""

from __future__ import annotations

LONGEST = 300  # characters


def first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0][:LONGEST] if lines else ""


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:LONGEST] if lines else ""


def describe(error: BaseException) -> str:
    """`RuntimeError: operator torchvision::nms does not exist`."""
    return f"{type(error).__name__}: {first_line(str(error))}"
