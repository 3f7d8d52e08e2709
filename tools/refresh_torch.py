"""Read the wheels of torch and its family on the index: show how the facts differ, write only with `--write`.

    .venv/bin/python tools/refresh_torch.py [--index-url URL] [--write]

Which wheels there are stands on the index's pages. What is in them (pins, CUDA, torch.compile's gate, architectures) is
read out of the wheels by range requests, a few hundred kilobytes each: not every index serves their metadata as a file.
It writes `facts/wheels.json` and, in `facts/torch.json`, the fields of a release that a wheel can prove; what is known
from elsewhere stays as it is. A release that the catalog does not have becomes a new row. policy.toml is not touched.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import requests
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from pypi_simple import PYPI_SIMPLE_ENDPOINT, ProjectPage, PyPISimple

from facts import FACTS, Row, dumps, dumps_today, publish
from index.pages import OLDEST, allows, places, pythons, releases
from index.texts import CUDA, requires, torch_facts
from index.wheels import Index, Wheels
from supplement import FLOORS, SUPPLEMENT

ARM = "linux/arm64"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 1 if the facts differ and were not written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--index-url",
        default=PYPI_SIMPLE_ENDPOINT,
        help="an index that serves range requests",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the facts after showing what changes",
    )
    options = parser.parse_args(argv)
    today = datetime.now(tz=UTC).date().isoformat()
    with (
        requests.Session() as session,
        PyPISimple(options.index_url, session=session) as index,
    ):
        pages = {package: index.get_project_page(package) for package in OLDEST}
        wheels = Index(pages, session)
        rows = [
            row
            for package, page in pages.items()
            for row in wheel_rows(package, page, wheels)
        ]
        old = json.loads((FACTS / "torch.json").read_text(encoding="utf-8"))
        torch = torch_rows(old["rows"], rows, wheels)
    # Stacks are resolved as of a day relative to the date of torch.json: it moves only when a release comes in.
    date = today if len(torch) > len(old["rows"]) else old["date"]
    return publish(
        {
            "wheels.json": dumps_today("wheels.json", rows),
            "torch.json": dumps(date, torch),
        },
        FACTS,
        write=options.write,
    )


# --- rows of wheels.json -------------------------------------------------------------------------------------------


def wheel_rows(package: str, page: ProjectPage, wheels: Wheels) -> Iterator[Row]:
    """One row for each release of a package."""
    for name, files in releases(package, page).items():
        covered: dict[str, set[Version]] = {}
        glibc: dict[str, Version] = {}
        required = SpecifierSet(files[0].requires_python or "")
        for file in files:
            for platform, promised in places(file.filename).items():
                covered.setdefault(platform, set()).update(
                    p for p in pythons(file.filename) if allows(required, p)
                )
                glibc[platform] = min(promised, glibc.get(platform, promised))
        texts = wheels.read(package, name, "linux/amd64") if package != "numpy" else {}
        yield {
            "package": package,
            "version": name,
            "released": min(
                file.upload_time.date().isoformat()
                for file in files
                if file.upload_time
            ),
            "requires_python": files[0].requires_python or "",
            "pythons": {
                platform: [str(p) for p in sorted(found)]
                for platform, found in sorted(covered.items())
            },
            "glibc": {
                platform: str(found) for platform, found in sorted(glibc.items())
            },
            "requires": requires(texts["METADATA"]) if texts else {},
            "status": "verified",
            "source": f"PyPI: {package}, its page"
            + (" and METADATA read with HTTP range requests" if texts else ""),
        }


# --- rows of torch.json --------------------------------------------------------------------------------------------


def torch_rows(old: Sequence[Row], rows: Sequence[Row], wheels: Wheels) -> list[Row]:
    """The rows with what the wheels say; a release that was not there comes in, one that is not on the index stays."""
    by_name = {(row["package"], row["version"]): row for row in rows}
    known = {(row["torch"], row["index"]): row for row in old}
    found: dict[str, Row] = {}
    for (package, name), wheel in by_name.items():
        if package == "torch":
            facts = {
                **torch_facts(wheels.read("torch", name, "linux/amd64")),
                **placed(wheel, wheels),
            }
            before = known.get((name, "pypi")) or new_row(
                facts, wheel, rows, old, wheels
            )
            found[name] = proven({**before, **facts}, wheel, by_name, wheels)
    after = []
    for row in old:
        proved = found.get(row["torch"], row)
        after.append(proved if row["index"] == "pypi" else like_sister(row, proved))
    return after + [row for name, row in found.items() if (name, "pypi") not in known]


def placed(wheel: Row, wheels: Wheels) -> Row:
    """The platforms whose wheel is a CUDA build; on arm64 most are for a CPU."""
    arm = wheels.read("torch", wheel["version"], ARM) if ARM in wheel["pythons"] else {}
    return {
        "platforms": [
            "linux/amd64",
            *([ARM] if arm and CUDA.search(arm["version.py"]) else []),
        ]
    }


def proven(
    before: Row, wheel: Row, by_name: Mapping[tuple[str, str], Row], wheels: Wheels
) -> Row:
    """A row with everything that its wheel proves."""
    row = {
        **before,
        "released": wheel["released"],
        "pythons": wheel["pythons"]["linux/amd64"],
        "glibc_tag": wheel["glibc"]["linux/amd64"],
        **setuptools_bound(wheel["version"], wheel["requires"]),
    }
    if ARM in row["platforms"] and not row.get("arch_list_arm64"):
        row["arch_list_arm64"] = wheels.architectures(wheel["version"], ARM)
    return {**row, "family": family_of(row, by_name)}


def setuptools_bound(release: str, pins: Mapping[str, str]) -> Row:
    """The setuptools that a release works with: what its wheel asks for, or for an old one what the supplement says."""
    known = SUPPLEMENT["setuptools"]
    if Version(release) < Version(known["until"]):
        return {"setuptools": known["bound"], "setuptools_source": known["source"]}
    return {
        "setuptools": pins.get("setuptools", ""),
        "setuptools_source": "the wheel's METADATA",
    }


def family_of(row: Row, by_name: Mapping[tuple[str, str], Row]) -> dict[str, list[str]]:
    """Platform → the Pythons for which torch, torchvision and torchaudio all have a wheel, be it for a CPU."""
    names = [
        (package, row[package])
        for package in ("torch", "torchvision", "torchaudio")
        if row[package]
    ]
    found = {}
    for platform in ("linux/amd64", ARM):
        sets = [set(by_name[name]["pythons"].get(platform, ())) for name in names]
        if pythons := set.intersection(*sets):
            found[platform] = sorted(pythons, key=Version)
    return found


def new_row(
    facts: Row, wheel: Row, rows: Sequence[Row], old: Sequence[Row], wheels: Wheels
) -> Row:
    """A release that the catalog does not have: its family by their pins, the rest as in the newest row there is."""
    name = wheel["version"]
    newest = max(
        (row for row in old if row["index"] == "pypi"),
        key=lambda row: Version(row["torch"]),
    )
    return {
        "torch": name,
        "released": wheel["released"],
        "index": "pypi",
        **{field: facts[field] for field in ("cuda", "cudnn", "nccl", "triton")},
        **{
            package: companion(package, name, rows)
            for package in ("torchvision", "torchaudio")
        },
        "pythons": wheel["pythons"]["linux/amd64"],
        "platforms": facts["platforms"],
        "arch_list": wheels.architectures(name, "linux/amd64"),
        "glibc": wheel["glibc"]["linux/amd64"],
        "numpy2": newest["numpy2"],
        "driver_floor": FLOORS[facts["cuda"].split(".")[0]],
        "status": "verified",
        "source": f"PyPI: torch {name}, its wheel read with HTTP range requests",
        "compile_source": "torch/_dynamo/eval_frame.py inside the wheel",
        "numpy2_source": f"as torch {newest['torch']}",
        "field_status": {"numpy2": "inferred", "glibc": "documented"},
    }


def companion(package: str, torch: str, rows: Sequence[Row]) -> str | None:
    """The newest release of a package that asks for this torch."""
    fitting = []
    for row in rows:
        bound = row["requires"].get("torch") if row["package"] == package else None
        if bound and SpecifierSet(bound).contains(torch):
            fitting.append(row["version"])
    return max(fitting, key=Version, default=None)


def like_sister(row: Row, sister: Row) -> Row:
    """A build on PyTorch's own index, whose wheels nobody could read: Pythons and bounds as its release has on PyPI."""
    names = ("requires_python", "glibc_tag", "setuptools", "setuptools_source")
    family = {
        place: found
        for place, found in sister.get("family", {}).items()
        if place in row["platforms"]
    }
    more = {name: sister[name] for name in names if name in sister}
    status = {
        **row.get("field_status", {}),
        **dict.fromkeys(("family", "glibc_tag", "requires_python"), "inferred"),
    }
    return {**row, **more, "family": family, "field_status": status}


if __name__ == "__main__":
    sys.exit(main())
