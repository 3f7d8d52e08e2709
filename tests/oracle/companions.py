"""What the facts say of companions, by brute force: every row of each is tried with every row of the others.

As the oracle itself: nothing of envbuilder in it. Bounds are read here, and two of them overlap if one of the versions
around the numbers in them is within both.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oracle import Combination, Oracle

Row = Mapping[str, Any]
Number = tuple[int, ...]
_LONG = 4


def padded(text: str) -> Number:
    numbers = [int(part) for part in text.split(".")]
    return tuple(numbers + [0] * (_LONG - len(numbers)))


def within(bounds: str, version: Number) -> bool:
    for clause in filter(None, bounds.split(",")):
        operator, text = re.fullmatch(
            r"(==|!=|<=|>=|<|>)([0-9.]+?(?:\.\*)?)", clause
        ).groups()  # type: ignore[union-attr]
        if text.endswith(".*"):
            line = tuple(int(part) for part in text.removesuffix(".*").split("."))
            fits = version[: len(line)] == line
        else:
            other = padded(text)
            fits = {
                "==": version == other,
                "!=": version != other,
                "<=": version <= other,
                ">=": version >= other,
                "<": version < other,
                ">": version > other,
            }[operator]
        if not fits:
            return False
    return True


def around(bounds: str) -> Iterator[Number]:
    """The versions in some bounds, and the next ones on both sides."""
    for text in re.findall(r"[0-9]+(?:\.[0-9]+)*", bounds):
        version = padded(text)
        yield version
        yield (*version[:-1], version[-1] + 1)
        for place in range(_LONG):
            if version[place]:
                yield (
                    *version[:place],
                    version[place] - 1,
                    *[9999] * (_LONG - place - 1),
                )


def overlap(one: str, other: str) -> bool:
    both = f"{one},{other}"
    return any(
        within(one, version) and within(other, version)
        for version in [(0,) * _LONG, (9999,) * _LONG, *around(both)]
    )


@dataclass(frozen=True)
class Asked:
    """One companion of a request."""

    name: str
    bounds: str


def asked_for(text: str) -> Asked:
    name, bounds = re.fullmatch(r"([a-z0-9-]+)(.*)", text).groups()  # type: ignore[union-attr]
    return Asked(name, bounds)


class CompanionOracle:
    """The same catalog with companions: `rows` of every folder of facts."""

    def __init__(self, oracle: "Oracle", *folders: Path) -> None:
        self.oracle = oracle
        self.rows: list[Row] = []
        for folder in folders:
            self.rows += json.loads((folder / "facts" / "companions.json").read_text())[
                "rows"
            ]

    def best(
        self, options: Mapping[str, str], companions: Sequence[str]
    ) -> "tuple[Combination, list[Row]] | None":
        """The first combination that fits, and the newest rows that go together on it."""
        for some in self.oracle.all:
            if not self.oracle.fits(some, options):
                continue
            if "as_of" in options and some.row["released"] > options["as_of"]:
                continue
            for rows in product(
                *(self.choices(text, some, options) for text in companions)
            ):
                if self.together(rows):
                    return some, list(rows)
        return None

    def choices(
        self, text: str, some: "Combination", options: Mapping[str, str]
    ) -> list[Row]:
        asked = asked_for(text)
        rows = [
            row
            for row in self.rows
            if asked.name in (row["name"], row.get("family"))
            and row["kind"] not in ("dead", "elsewhere")
            and overlap(asked.bounds, f">={row['first']},<={row['last']}")
            and self.fits(row, some, options)
            and self.has_needs(row, some, options)
        ]
        return sorted(rows, key=lambda row: padded(row["last"]), reverse=True)

    def fits(self, row: Row, some: "Combination", options: Mapping[str, str]) -> bool:  # noqa: PLR0911, PLR0912 - one rule a line
        torch, cuda = some.row["torch"], some.row["cuda"].split(".")
        minor = ".".join(torch.split(".")[:2])
        if not within(row.get("torch", ""), padded(torch)):
            return False
        if not row.get("torch_minor_abi") and self.is_past_a_later_release(
            row, padded(torch)
        ):
            return False
        if (
            row.get("torch_minor_abi")
            and row["kind"] == "wheel"
            and "<" not in row["torch"]
        ):
            built = [
                ".".join(text.split(".")[:2])
                for text in re.findall(r"(?:==|>=)([0-9.]+)", row["torch"])
            ]
            if minor not in built:
                return False
        if some.cpu:
            if row.get("cuda") or row["kind"] == "cuda-source":
                return False
        else:
            if row.get("cuda") and int(cuda[0]) not in row["cuda"]:
                return False
            if row.get("cuda_lines") and ".".join(cuda[:2]) not in row["cuda_lines"]:
                return False
        if not any(
            within(row.get("python", ""), (*padded(some.python)[:2], patch, 0))
            for patch in range(64)
        ):
            return False
        if row.get("platforms") and some.platform not in row["platforms"]:
            return False
        glibc = row.get("glibc")
        if (
            glibc
            and some.platform != "linux/arm64"
            and self.glibc(some, options) < padded(glibc)
        ):
            return False
        if "as_of" in options and row["released"] > options["as_of"]:
            return False
        if "gpu" in options and row.get("sm"):
            from oracle import runs

            capability = self.oracle.capability(options["gpu"])
            if capability is None or not runs(tuple(row["sm"]), capability):
                return False
        return self.has_transformers(row, some, options)

    def has_needs(
        self, row: Row, some: "Combination", options: Mapping[str, str]
    ) -> bool:
        """What it needs of another companion has a release that fits."""
        for line in row.get("needs", ()):
            asked = asked_for(line)
            others = [
                other
                for other in self.rows
                if other["name"] == asked.name
                and overlap(asked.bounds, f">={other['first']},<={other['last']}")
            ]
            if others and not any(self.fits(other, some, options) for other in others):
                return False
        return True

    def is_past_a_later_release(self, row: Row, torch: Number) -> bool:
        """An open bound ends where that of the next release that has one does."""
        if re.search(r"<|==", row.get("torch", "")):
            return False
        later = [
            other
            for other in self.rows
            if other["name"] == row["name"]
            and padded(other["last"]) > padded(row["last"])
            and re.search(r"<|==", other.get("torch", ""))
        ]
        later.sort(key=lambda other: padded(other["last"]), reverse=True)
        if not later:
            return False
        end = re.search(r"(<|==)([0-9.]+)", later[0]["torch"])
        assert end is not None
        return torch >= padded(end[2]) if end[1] == "<" else torch > padded(end[2])

    def glibc(self, some: "Combination", options: Mapping[str, str]) -> Number:
        if some.place.kind == "own" and "os" in options:
            for system in self.oracle.systems:
                if (
                    options["os"] in (system["os"], system["release"])
                    and system["glibc"]
                ):
                    return padded(system["glibc"])
        return padded(".".join(map(str, some.place.glibc)))

    def has_transformers(
        self, row: Row, some: "Combination", options: Mapping[str, str]
    ) -> bool:
        bounds = row.get("transformers", "")
        line = some.row["torch"].split(".")[:2]
        measured = any(
            known["torch"].split(".")[:2] == line for known in self.oracle.transformers
        )
        newest, _ = self.oracle.ceiling(some)
        if measured and not overlap(bounds, f"<={'.'.join(map(str, newest))}"):
            return False
        wanted = options.get("transformers")
        if wanted is None:
            return True
        exact = f"=={wanted}" if wanted.count(".") > 1 else f"=={wanted}.*"
        return overlap(bounds, exact)

    def together(self, rows: Sequence[Row]) -> bool:
        for one, other in product(rows, rows):
            if one is other:
                continue
            if not overlap(one.get("transformers", ""), other.get("transformers", "")):
                return False
            for need in one.get("needs", ()):
                name, bounds = re.fullmatch(
                    r"([a-z0-9-]+)(?:\[.*\])?(.*)", need
                ).groups()  # type: ignore[union-attr]
                if name == other["name"] and not overlap(
                    bounds, f">={other['first']},<={other['last']}"
                ):
                    return False
        return True
