"""Operating systems, and NVIDIA's images of them."""

import re
from collections.abc import Mapping
from typing import Any

from facts import Row
from supplement import SUPPLEMENT
from survey.cells import evidence, source, version, weakest

UNKNOWN = "ubi10 / rockylinux10"  # not looked up, says the survey


def system_row(row: Mapping[str, Any]) -> Row:
    """`ubuntu 24.04`; `ubi8 / rockylinux8 / RHEL 8` is called by its first name, `ubi 8`."""
    words = re.sub(r"([a-z])([0-9])", r"\1 \2", row["os"].split(" / ")[0]).split()
    name = " ".join(words[:2])
    known = SUPPLEMENT["distro_info"]["systems"].get(name, {})
    dates = {
        field: known.get(field) for field in ("released", "end_of_life", "long_term")
    }
    more = (
        f"; dates: {SUPPLEMENT['distro_info']['source']}"
        if known.get("released")
        else ""
    )
    return {
        "os": name,
        "release": known.get("release", ""),
        "glibc": version(row["glibc"]),
        "python": version(row["default_python"]),
        **dates,
        "status": weakest(row["status"], row),
        "source": source(row["source"]) + more,
        **({"more_pythons": row["also"]} if row["also"] else {}),
    }


def image_row(row: Mapping[str, Any]) -> Row:
    """The tags of nvidia/cuda for one CUDA on one system."""
    return {
        "cuda": row["cuda"],
        "os": row["os"],
        "flavours": row["flavours"],
        "state": image_state(row),
        "listed": row["last_listed"],
        "pulled": sorted({*row["docker_hub_2026_06"], *row["seen_in_use"]}),
        "cudnn": version(row["cudnn_in_image"]),
        "nccl": version(row["nccl_in_image"]),
        **evidence(row),
    }


def image_state(row: Mapping[str, Any]) -> str:
    """`ImageState`, by which of NVIDIA's two lists the tags are on."""
    lists = (row["on_supported_list"], row["on_unsupported_list"])
    if lists == (False, False):
        return "recent" if row["status_note"].startswith("newer") else "dropped"
    return {
        (True, True): "disputed",
        (True, False): "supported",
        (False, True): "end of life",
    }[lists]
