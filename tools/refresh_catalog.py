#!/usr/bin/env python3
"""Rewrite the facts of the catalog from a survey: show the difference, write only with `--write`.

    tools/refresh_catalog.py SURVEY.json [--write]

SURVEY.json is what research collects (tables of releases, distributions, GPUs, each row with source and status);
`tools/supplement.toml` says what it left open. Only facts change here: what people decide stands in
`envbuilder/catalog/policy.toml`, which no program writes. An answer with fewer rows than the catalog has is refused: it
means that the survey broke, not that the world shrank. Fields that another refresher wrote stay as they are.
"""

import argparse
import difflib
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FACTS = ROOT / "envbuilder" / "catalog" / "facts"
SUPPLEMENT = tomllib.loads((Path(__file__).parent / "supplement.toml").read_text())
OLDEST_TORCH = (1, 13)
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("survey", type=Path)
    parser.add_argument("--write", action="store_true", help="write the facts after showing what changes")
    options = parser.parse_args(argv)
    files = convert(json.loads(options.survey.read_text()))
    if (FACTS / "torch.json").exists():
        files["torch.json"] = with_others_fields((FACTS / "torch.json").read_text(), files["torch.json"])
    return publish(files, FACTS, write=options.write)


def publish(files: Mapping[str, str], folder: Path, *, write: bool) -> int:
    """Show how the files differ from those in `folder`; 1 if they do and are not written."""
    changed = False
    for name, new in files.items():
        path = folder / name
        old = path.read_text() if path.exists() else ""
        refuse_shrunken(name, old, new)
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), name, name, n=1))
        changed = changed or old != new
        if write:
            path.write_text(new)
    return 0 if write or not changed else 1


def convert(survey: Mapping[str, Any]) -> dict[str, str]:
    """File name → JSON text of every file of facts; pure."""
    covered = [row for row in survey["table1_torch_releases"] if is_covered(row)]
    tables: dict[str, list[Row]] = {
        "torch.json": [torch_row(row) for row in covered] + list(variant_rows(covered, survey)),
        "transformers.json": transformers_rows(survey),
        "distributions.json": [distribution_row(r) for r in survey["table5_os_python"] if r["os"] in DEBIAN],
        "systems.json": [system_row(row) for row in survey["table5_os_python"] if row["os"] != UNKNOWN_SYSTEM],
        "gpus.json": [gpu_row(row) for row in survey["table6_gpu_compute_capability"]],
        "toolkits.json": [toolkit_row(row) for row in survey["table2_cuda_drivers"]],
        "compatibility.json": [compatibility_row(row, survey) for row in SUPPLEMENT["compatibility"]],
        "advisories.json": [{**row, "checked": SUPPLEMENT["checked"]} for row in SUPPLEMENT["advisory"]],
        "architectures.json": [architecture_row(row) for row in survey["table2c_cuda_arch_changes"]],
        "nvidia_images.json": [image_row(row) for row in survey["table3_nvidia_cuda_images"]],
        "transformers_runs.json": [run_row(row) for row in survey["table4b_transformers_torch_empirical"]],
        "statements.json": list(statement_rows(survey)),
    }
    return {name: dumps(survey["meta"]["date"], rows) for name, rows in tables.items()}


def dumps(date: str, rows: Sequence[Row]) -> str:
    """One row a line, so that a diff shows what changed."""
    lines = ",\n  ".join(json.dumps(row, ensure_ascii=False, default=str) for row in rows)
    return f'{{\n "date": "{date}",\n "rows": [\n  {lines}\n ]\n}}\n'


def refuse_shrunken(name: str, old: str, new: str) -> None:
    before, after = (len(json.loads(text)["rows"]) if text else 0 for text in (old, new))
    if after < before:
        sys.exit(
            f"error: {name} would shrink from {before} rows to {after}\nhint: look at the survey before the catalog"
        )


FROM_THE_INDEX = (
    "family",
    "requires_python",
    "glibc_tag",
    "setuptools",
    "setuptools_source",
    "platforms",
    "arch_list_arm64",
)


def with_others_fields(old: str, text: str) -> str:
    """The new torch.json with what `tools/refresh_torch.py` read from the wheels of every release."""
    before = {(row["torch"], row["index"]): row for row in json.loads(old)["rows"]}
    document = json.loads(text)
    rows = [with_own(row, before.get((row["torch"], row["index"]), {})) for row in document["rows"]]
    return dumps(document["date"], rows)


def with_own(row: Row, before: Row) -> Row:
    return {**row, **{name: before[name] for name in FROM_THE_INDEX if name in before}}


DEBIAN = ("debian 11 bullseye", "debian 12 bookworm", "debian 13 trixie")
UNKNOWN_SYSTEM = "ubi10 / rockylinux10"  # not looked up, says the survey
STATUSES = ("verified", "documented", "inferred")


def evidence(row: Mapping[str, Any]) -> Row:
    """Status and source of a row; the weakest word wins (`verified … + documented …` is documented)."""
    return {"status": weakest(row["status"], row), "source": source(row["source"])}


def weakest(text: str, row: object = None) -> str:
    named = [word for word in STATUSES if word in text]
    if not named:
        sys.exit(f"error: {row or text} has no status that is one of {', '.join(STATUSES)}")
    return named[-1] if text.split(maxsplit=1)[0] != "verified" else "verified"


def source(text: str) -> str:
    """A source without the hosts of package indexes: the catalog names an index by a word."""
    text = re.sub(r"https://packages\.[a-z]+\.com/(\S+)", r"Ubuntu's package pages: \1", text)
    return re.sub(r"\bdownload\.[a-z]+\.[a-z]+", "PyTorch's own index", text)


def is_covered(row: Mapping[str, Any]) -> bool:
    return tuple(int(part) for part in row["version"].split(".")[:2]) >= OLDEST_TORCH


def version(text: str | None) -> str | None:
    """The version at the start of a cell that goes on with a remark, or None."""
    found = re.match(r"[0-9]+(\.[0-9]+)+", text or "")
    return found[0] if found else None


# --- torch ---------------------------------------------------------------------------------------------------------


def torch_row(row: Mapping[str, Any]) -> Row:
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
        "pythons": [python for python in row["python_linux_x86_64"] if not python.endswith("t")],
        "platforms": ["linux/amd64", *(["linux/arm64"] if has_cuda_on_arm(row) else [])],
        "arch_list": row["pypi_default_sm"][0].split(),
        **({"arch_list_arm64": row["aarch64"]["sm"][0].split()} if has_cuda_on_arm(row) else {}),
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
    return bool(row["aarch64"]) and str(row["aarch64"]["cuda"]).startswith(row["pypi_default_cuda"].rsplit(".", 1)[0])


def variant_rows(covered: Sequence[Mapping[str, Any]], survey: Mapping[str, Any]) -> Iterator[Row]:
    """The builds that only PyTorch's own index carries; the survey describes those of the newest patch of each line."""
    described = {(line_of(row["torch"]), row["variant"]): row for row in survey["table1b_torch_cuda_variants"]}
    for row in covered:
        for variant in row["variants_documented"]:
            found = described.get((line_of(row["version"]), variant))
            if variant != row["pypi_default_variant"] and found and version(found["cudnn"]):
                yield variant_row(row, found)


def line_of(release: str) -> str:
    return ".".join(release.split(".")[:2])


def variant_row(row: Mapping[str, Any], found: Mapping[str, Any]) -> Row:
    """One build on PyTorch's own index: what is said of it, and beside that what its sister on PyPI has."""
    variant = found["variant"]
    more = supplement(row["version"], variant)
    sm = more.get("sm") or found["sm"]
    nccl = more.get("nccl") or version(found["nccl"])
    same_patch = "documented" if found["torch"] == row["version"] else "inferred"
    statuses = {
        "pythons": "inferred", "triton": "inferred", "glibc": "documented" if "glibc" in more else "inferred",
        "cudnn": same_patch, "arch_list": more.get("sm_status") or weakest(found["sm_status"]),
        **({"nccl": same_patch} if nccl else {}),
    }  # fmt: skip
    sister = {name: value for name, value in torch_row(row).items() if name != "arch_list_arm64"}
    return {
        **sister,
        "index": f"pytorch-{variant}",
        "cuda": SUPPLEMENT["cuda"].get(variant, f"{variant[2:4]}.{variant[4:]}"),
        "cudnn": version(found["cudnn"]),
        "nccl": nccl,
        "platforms": ["linux/amd64"],
        "arch_list": architectures(sm),
        **({"ptx": ["compute_120"]} if has_ptx(row["version"], sm) else {}),
        "glibc": more.get("glibc", row["glibc_symbols_needed"]),
        "driver_floor": FLOORS[variant[2:4]],
        "status": "inferred",
        "source": "; ".join(
            filter(None, [source(found["source"]), source(found["sm_source"] or ""), more.get("source")])
        ),
        "field_status": statuses,
        **({} if nccl else {"unknown": ["nccl"]}),
    }


FLOORS = {row["subject"]: row["driver_floor"] for row in SUPPLEMENT["compatibility"] if row["kind"] == "minor-version"}
NO_PTX_SINCE = (2, 11)  # policy.toml, ruling "PTX in the builds for CUDA 13"


def architectures(text: str) -> list[str]:
    """`8.6 9.0 12.0 +PTX12.0` → sm_86, sm_90, sm_120."""
    return [f"sm_{major}{minor}" for major, minor in re.findall(r"(?<!PTX)\b([0-9]+)\.([0-9])", text)]


def has_ptx(release: str, text: str) -> bool:
    return "PTX12.0" in text and tuple(int(part) for part in release.split(".")[:2]) < NO_PTX_SINCE


def supplement(release: str, variant: str) -> Row:
    """What `tools/supplement.toml` says of a build; its release before its line."""
    found = [row for row in SUPPLEMENT["variant"] if row["variant"] == variant]
    exact = [row for row in found if row["torch"] == release]
    return next(iter(exact or [row for row in found if row["torch"] == line_of(release)]), {})


# --- transformers --------------------------------------------------------------------------------------------------


def transformers_rows(survey: Mapping[str, Any]) -> list[Row]:
    """Per torch line the newest transformers that was run and worked, and the day the next release came out."""
    released = {row["transformers"]: row["date"] for row in survey["table4_transformers"]}
    released |= {row["transformers"]: row["date"] for row in survey["table4h_transformers_edges"]}
    runs = [run_row(row) for row in survey["table4b_transformers_torch_empirical"]]
    rows = []
    for row in survey["table4g_last_transformers_ok"]:
        torch, python = re.fullmatch(r"([0-9.]+) \(py([0-9.]+)\)", row["torch"]).groups()  # type: ignore[union-attr]
        newest = row["newest_tested_ok"]
        later = sorted(
            day for name, day in released.items() if _key(name)[:2] > _key(newest)[:2] and day > released[newest]
        )
        broken = [
            run["transformers"] for run in runs
            if (run["torch"], run["python"]) == (torch, python)
            and not run["ok"] and "install" not in run["failed"] and _key(run["transformers"]) < _key(newest)
        ]  # fmt: skip
        rows.append(
            {
                "torch": torch,
                "python": python,
                "newest": newest,
                "released": released[newest],
                "next_released": later[0] if later else None,
                **evidence(row),
                **({"broken": sorted(broken, key=_key)} if broken else {}),
            }
        )
    return rows


STEPS = (
    "install", "import_transformers", "is_torch_available", "bert_fwd_save_load", "gpt2_generate", "llama_generate",
    "import_trainer",
)  # fmt: skip


def run_row(row: Mapping[str, Any]) -> Row:
    return {
        "torch": row["torch"],
        "python": line_of(row["python"]),
        "transformers": row["transformers"],
        "ok": row["all_core_steps_ok"],
        "failed": [step for step in STEPS if not str(row[step] or "ok").lower().startswith(("ok", "true"))],
        **evidence(row),
    }


def _key(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split("."))


# --- systems, drivers, GPUs ----------------------------------------------------------------------------------------


def distribution_row(row: Mapping[str, Any]) -> Row:
    family, number, release = row["os"].split()
    return {
        "os": f"{family} {number}",
        "release": release,
        "glibc": row["glibc"],
        "python": version(row["default_python"]),
        **evidence(row),
    }


def system_row(row: Mapping[str, Any]) -> Row:
    """`ubuntu 24.04`; `ubi8 / rockylinux8 / RHEL 8` is called by its first name."""
    words = row["os"].split(" / ")[0].split()
    name = " ".join(words[:2])
    known = SUPPLEMENT["distro_info"]["systems"].get(name, {})
    dates = {field: known.get(field) for field in ("released", "end_of_life", "long_term")}
    more = f"; dates: {SUPPLEMENT['distro_info']['source']}" if known.get("released") else ""
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


def toolkit_row(row: Mapping[str, Any]) -> Row:
    """`13.2 Update 2` is 13.2.2; a number in brackets is the survey's own."""
    named = re.search(r"\(([0-9.]+)[);]", row["cuda"])
    found = re.match(r"([0-9]+\.[0-9]+)(?: (GA|Update ([0-9])))?", row["cuda"])
    assert found, row
    line, update = found[1], found[3] or "0"
    drivers = {
        name: version((row[name] or "").lstrip(">=")) for name in ("toolkit_driver_linux", "toolkit_driver_windows")
    }
    floor = re.search(r"[0-9]+\.[0-9]+(\.[0-9]+)*", row["min_driver_linux_minor_compat"])
    before_minors = row["min_driver_linux_minor_compat"].startswith("=")  # its own driver, or a newer one
    return {
        "cuda": named[1] if named else f"{line}.{update}" if found[2] else line,
        "name": found[0],
        "driver": drivers["toolkit_driver_linux"],
        "driver_windows": drivers["toolkit_driver_windows"],
        "driver_floor": drivers["toolkit_driver_linux"] if before_minors or floor is None else floor[0],
        "status": weakest(row["status"], row),
        "source": source(row["source"]),
    }


def compatibility_row(row: Mapping[str, Any], survey: Mapping[str, Any]) -> Row:
    if "from" not in row:
        return {**row, "checked": SUPPLEMENT["checked"]}
    found = next((fact for fact in survey["table2b_driver_facts"] if fact["fact"].startswith(row["from"])), None)
    if found is None:
        sys.exit(f"error: no statement of the survey begins with {row['from']!r}")
    own = {name: value for name, value in row.items() if name != "from"}
    return {**own, "says": found["fact"], **evidence(found)}


def architecture_row(row: Mapping[str, Any]) -> Row:
    """What is only deprecated is not dropped."""
    dropped = "" if "still built" in row["dropped"] else row["dropped"]
    return {
        "cuda": row["cuda"],
        "added": re.findall(r"sm_[0-9]+", row["added"].split("(renamed")[0]),
        "dropped": re.findall(r"sm_[0-9]+", dropped.split(": minimum")[0]),
        **evidence(row),
    }


def gpu_row(row: Mapping[str, Any]) -> Row:
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
        "status": weakest(row["status"].split(";")[0], row),  # what follows is about its column of wheels
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
        prefix = own if own else prefix if re.match(r"[A-Z]?[0-9]", text) and len(names) else ""
        tail = re.search(r" (Blackwell|Ada)$", text)
        end = tail[0] if tail else ""
        for part in text[len(own) : len(text) - len(end)].split("/"):
            names.append(f"{whole(prefix)}{part}{end}")
    return names


def whole(prefix: str) -> str:
    return "GeForce GTX " if prefix == "GTX " else prefix


def family(name: str) -> str:
    """Who a GPU is sold to, as the columns of NVIDIA's page have it."""
    if name.startswith("Jetson"):
        return "jetson"
    if "Server Edition" in name or name in ("GB10", "DGX Spark"):
        return "data centre"
    if name.startswith(("GeForce", "TITAN")):
        return "geforce"
    return "workstation" if name.startswith(("Quadro", "RTX", "T1000", "T600", "T400")) else "data centre"


# --- images and statements -----------------------------------------------------------------------------------------


def image_row(row: Mapping[str, Any]) -> Row:
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
    lists = (row["on_supported_list"], row["on_unsupported_list"])
    if lists == (False, False):
        return "recent" if row["status_note"].startswith("newer") else "dropped"
    return {(True, True): "disputed", (True, False): "supported", (False, True): "end of life"}[lists]


TOPICS = {
    "drivers": "table2b_driver_facts",
    "cuDNN": "table2d_cudnn_facts",
    "nvidia/cuda images": "table3b_image_facts",
}


def statement_rows(survey: Mapping[str, Any]) -> Iterator[Row]:
    for topic, table in TOPICS.items():
        for row in survey[table]:
            yield {"topic": topic, "says": row["fact"], **evidence(row)}
    for row in survey["table1_torch_releases"]:
        if row["variant_note"]:
            yield {"topic": f"torch {row['version']}", "says": source(row["variant_note"]), **evidence(row)}


if __name__ == "__main__":
    sys.exit(main())
