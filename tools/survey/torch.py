"""The builds of torch: those on PyPI, and those that only PyTorch's own index carries."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from packaging.version import Version

from facts import Row
from supplement import FLOORS, SUPPLEMENT
from survey.cells import evidence, line_of, source, version, weakest

NO_PTX_SINCE = Version("2.11")  # policy.toml, ruling "PTX in the builds for CUDA 13"
OLDEST_TORCH = Version("1.13")


def is_covered(row: Mapping[str, Any]) -> bool:
    """Whether the catalog goes back as far as this release."""
    return Version(row["version"]) >= OLDEST_TORCH


def torch_row(row: Mapping[str, Any]) -> Row:
    """The build of a release that PyPI carries."""
    gate = re.search(r"raises on Python >= ([0-9.]+)", row["torch_compile"])
    return {
        "torch": row["version"],
        "released": row["release_date"],
        "index": "pypi",
        "cuda": row["pypi_default_cuda"],
        "cudnn": version(row["cudnn"]),
        "nccl": version(row["nccl"]),
        "triton": version(row["triton"]),
        "torchvision": version(row["torchvision"]),
        "torchaudio": version(row["torchaudio"]),
        "pythons": [
            python for python in row["python_linux_x86_64"] if not python.endswith("t")
        ],
        "platforms": [
            "linux/amd64",
            *(["linux/arm64"] if has_cuda_on_arm(row) else []),
        ],
        "arch_list": row["pypi_default_sm"][0].split(),
        **(
            {"arch_list_arm64": row["aarch64"]["sm"][0].split()}
            if has_cuda_on_arm(row)
            else {}
        ),
        "glibc": row["glibc_symbols_needed"],
        "numpy2": row["numpy2"].startswith("yes"),
        "compile": gate is not None,
        "compile_until": gate[1] if gate else None,
        "driver_floor": version(row["min_driver_minor_compat"].lstrip(">=")),
        **evidence(row),
        "compile_source": row["torch_compile_source"],
        "numpy2_source": row["numpy2_source"],
    }


def has_cuda_on_arm(row: Mapping[str, Any]) -> bool:
    """Whether the index's aarch64 wheel is a CUDA build for the same CUDA; most releases have a CPU build there."""
    return bool(row["aarch64"]) and str(row["aarch64"]["cuda"]).startswith(
        row["pypi_default_cuda"].rsplit(".", 1)[0]
    )


def variant_rows(
    covered: Sequence[Mapping[str, Any]], survey: Mapping[str, Any]
) -> Iterator[Row]:
    """The builds that only PyTorch's own index carries; the survey describes those of the newest patch of each line."""
    described = {
        (line_of(row["torch"]), row["variant"]): row
        for row in survey["table1b_torch_cuda_variants"]
    }
    for row in covered:
        for variant in row["variants_documented"]:
            found = described.get((line_of(row["version"]), variant))
            alone = "alone" in said_of_build(row["version"], variant)
            if (
                (variant != row["pypi_default_variant"] or alone)
                and found
                and version(found["cudnn"])
            ):
                yield variant_row(row, found)


def variant_row(row: Mapping[str, Any], found: Mapping[str, Any]) -> Row:
    """One build on PyTorch's own index: what is said of it, and beside that what its sister on PyPI has."""
    variant = found["variant"]
    more = said_of_build(row["version"], variant)
    sm = more.get("sm") or found["sm"]
    nccl = more.get("nccl") or version(found["nccl"])
    same_patch = "documented" if found["torch"] == row["version"] else "inferred"
    statuses = {
        "pythons": "inferred", "triton": "inferred", "glibc": "documented" if "glibc" in more else "inferred",
        "cudnn": same_patch, "arch_list": more.get("sm_status") or weakest(found["sm_status"]),
        **({"nccl": same_patch} if nccl else {}),
    }  # fmt: skip
    on_arm = architectures(more.get("arm64", ""))
    if on_arm:
        statuses |= dict.fromkeys(("platforms", "arch_list_arm64"), "documented")
    platforms = ["linux/amd64", "linux/arm64"] if on_arm else ["linux/amd64"]
    if "alone" in more:
        platforms.remove("linux/amd64")
    sister = {
        name: value
        for name, value in torch_row(row).items()
        if name != "arch_list_arm64"
    }
    return {
        **sister,
        "index": f"pytorch-{variant}",
        "cuda": SUPPLEMENT["cuda"].get(variant, f"{variant[2:4]}.{variant[4:]}"),
        "cudnn": version(found["cudnn"]),
        "nccl": nccl,
        "platforms": platforms,
        "arch_list": on_arm if "alone" in more else architectures(sm),
        **({"arch_list_arm64": on_arm} if on_arm else {}),
        **({"ptx": ["compute_120"]} if has_ptx(row["version"], sm) else {}),
        "glibc": more.get("glibc", row["glibc_symbols_needed"]),
        "driver_floor": FLOORS[variant[2:4]],
        "status": "inferred",
        "source": "; ".join(
            filter(
                None,
                [
                    source(found["source"]),
                    source(found["sm_source"] or ""),
                    more.get("source"),
                ],
            )
        ),
        "field_status": statuses,
        **({} if nccl else {"unknown": ["nccl"]}),
    }


def architectures(text: str) -> list[str]:
    """`8.6 9.0 12.0 +PTX12.0` → sm_86, sm_90, sm_120."""
    return [
        f"sm_{major}{minor}"
        for major, minor in re.findall(r"(?<!PTX)\b([0-9]+)\.([0-9])", text)
    ]


def has_ptx(release: str, text: str) -> bool:
    """Whether a newer GPU can compile a build's kernels at load: `+PTX12.0`, where that is believed."""
    return "PTX12.0" in text and Version(release) < NO_PTX_SINCE


def said_of_build(release: str, variant: str) -> Row:
    """What `tools/supplement.toml` says of a build; its release before its line."""
    found = [row for row in SUPPLEMENT["variant"] if row["variant"] == variant]
    exact = [row for row in found if row["torch"] == release]
    return next(
        iter(exact or [row for row in found if row["torch"] == line_of(release)]), {}
    )
