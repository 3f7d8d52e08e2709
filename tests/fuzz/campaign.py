"""The long run of the fuzzer: seeded, in chunks, resumable. `make fuzz`; `--help` says what can be changed.

After each chunk what was counted is written to build/fuzz/counts.json; a chunk that is there is not run again. At the
end the table goes into docs/explanation/security.md.
"""

import argparse
import json
import os
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from .sandbox import ROOT, Sandbox, sandbox
from .targets import TARGETS

COUNTS = ROOT / "build" / "fuzz" / "counts.json"
PAGE = ROOT / "docs" / "explanation" / "security.md"
BEGIN, END = "<!-- fuzz -->", "<!-- /fuzz -->"
CHUNK = 250
_ADDRESS = re.compile(r"case-[0-9]+|0x[0-9a-f]+|[0-9]+(?:\.[0-9]+)?")


@dataclass
class Counts:
    """What came of some cases."""

    cases: int = 0
    accepted: int = 0
    findings: list[str] = field(default_factory=list)


def run_chunk(target: str, number: int, cases: int, box: Sandbox) -> Counts:
    """`cases` cases of a target; a finding is shrunk and ends the chunk."""
    counts, fuzz = Counts(), TARGETS[target]

    @seed(number)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        print_blob=False,
        verbosity=Verbosity.quiet,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(st.data())
    def one(data: st.DataObject) -> None:
        accepted = fuzz(box, data.draw)
        counts.cases += 1  # a case that Hypothesis gave up while it was drawn is none
        counts.accepted += accepted

    try:
        one()
    except Exception as error:
        notes = "\n".join(getattr(error, "__notes__", ()))
        counts.findings.append(
            f"{type(error).__name__}: {str(error)[:1500]}\n{notes[:4000]}"
        )
    return counts


def main() -> int:
    """Run what is missing, print the table, and write it into the page if the run is whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2500, help="of each target [2500]")
    parser.add_argument("--seed", type=int, default=0, help="of the first chunk [0]")
    parser.add_argument(
        "--chunk", type=int, default=CHUNK, help=f"cases in one [{CHUNK}]"
    )
    parser.add_argument(
        "--target", action="append", choices=list(TARGETS), help="these alone"
    )
    parser.add_argument(
        "--again", action="store_true", help="forget what was counted before"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the table into docs/explanation/security.md",
    )
    options = parser.parse_args()
    known: dict[str, Counts] = {} if options.again else _read()
    chunks = -(-options.cases // options.chunk)
    with sandbox() as box:
        for number in range(options.seed, options.seed + chunks):
            for target in options.target or TARGETS:
                key = f"{target}/{number}"
                if key in known:
                    continue
                known[key] = run_chunk(target, number, options.chunk, box)
                _write(known)
                for finding in known[key].findings:
                    print(f"--- {key}\n{finding}", flush=True)
    table = table_of(known)
    print(table)
    if options.write:
        write_page(PAGE, table)
    return 1 if any(counts.findings for counts in known.values()) else 0


def table_of(known: dict[str, Counts]) -> str:
    """Target × cases × refused × accepted × findings; alike findings count once."""
    rows = [
        "| target | cases | refused | accepted | findings |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    total = [0, 0, 0, 0]
    for target in TARGETS:
        mine = [
            counts for key, counts in known.items() if key.rpartition("/")[0] == target
        ]
        cases, accepted = sum(c.cases for c in mine), sum(c.accepted for c in mine)
        kinds = {
            _ADDRESS.sub("N", text.splitlines()[0])[:120]
            for counts in mine
            for text in counts.findings
        }
        row = [cases, cases - accepted, accepted, len(kinds)]
        total = [one + other for one, other in zip(total, row, strict=True)]
        rows.append(f"| {target} | {' | '.join(f'{number:,}' for number in row)} |")
    rows.append(f"| all | {' | '.join(f'{number:,}' for number in total)} |")
    return "\n".join(rows) + "\n"


def write_page(page: Path, table: str) -> None:
    """Put the table between its marks."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(f"{BEGIN}\n", 1)
    after = rest.split(END, 1)[1]
    page.write_text(
        f"{before}{BEGIN}\n{table}{END}{after}", encoding="utf-8", newline="\n"
    )


def _read() -> dict[str, Counts]:
    if not COUNTS.is_file():
        return {}
    return {
        key: Counts(**value)
        for key, value in json.loads(COUNTS.read_text(encoding="utf-8")).items()
    }


def _write(known: dict[str, Counts]) -> None:
    COUNTS.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({key: asdict(counts) for key, counts in known.items()}, indent=1)
    temporary = COUNTS.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, COUNTS)  # noqa: PTH105


if __name__ == "__main__":
    sys.exit(main())
