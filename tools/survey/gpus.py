"""GPUs by compute capability, and who they are sold to."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from facts import Row
from supplement import SUPPLEMENT
from survey.cells import source, version, weakest


def gpu_row(row: Mapping[str, Any]) -> Row:
    """A compute capability and the GPUs that have it."""
    names = gpu_names(row["gpus"])
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(family(name), []).append(name)
    return {
        "capability": row["cc"],
        "architecture": row["arch"],
        "names": names,
        "families": families,
        "first_cuda": version(row["first_cuda"]),
        "last_cuda": version(row["last_cuda"]),
        "status": weakest(
            row["status"].split(";")[0], row
        ),  # what follows is about its column of wheels
        "source": source(row["source"]),
    }


def gpu_names(short: Sequence[str]) -> list[str]:
    """Full names: a bare `5080` follows `GeForce RTX 5090`; `RTX 6000/5000 Ada` are two."""
    names: list[str] = []
    prefix = ""
    for text in short:
        if text in SUPPLEMENT["gpus"]:
            names += SUPPLEMENT["gpus"][text]
            continue
        head = re.match(r"((?:GeForce|Quadro|RTX|GTX|PRO|Tesla) ?)*", text)
        own = head[0] if head else ""
        prefix = (
            own
            if own
            else prefix
            if re.match(r"[A-Z]?[0-9]", text) and len(names)
            else ""
        )
        tail = re.search(r" (Blackwell|Ada)$", text)
        end = tail[0] if tail else ""
        for part in text[len(own) : len(text) - len(end)].split("/"):
            names.append(f"{whole(prefix)}{part}{end}")
    return names


def whole(prefix: str) -> str:
    """`GTX` alone is of the GeForce family."""
    return "GeForce GTX " if prefix == "GTX " else prefix


def family(name: str) -> str:
    """Who a GPU is sold to, as the columns of NVIDIA's page have it."""
    if name.startswith("Jetson"):
        return "jetson"
    if "Server Edition" in name or name in ("GB10", "DGX Spark"):
        return "data centre"
    if name.startswith(("GeForce", "TITAN")):
        return "geforce"
    return (
        "workstation"
        if name.startswith(("Quadro", "RTX", "T1000", "T600", "T400"))
        else "data centre"
    )
