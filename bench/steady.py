"""Does the suite ever refuse a good image? Runs it many times and says what came of it, and how near the bounds were.

.venv/bin/python bench/steady.py [RUNS] [IMAGE]        20 runs by default; writes bench/steady.md
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

IMAGE = "envbuilder:cu117-torch2.0.1-py3.9-debian11"
RESULTS = Path(__file__).parent / "steady.md"


def accept(image: str, folder: Path) -> dict[str, Any]:
    """One fresh run's receipt."""
    words = [sys.executable, "-m", "envbuilder", "accept", image, "--fresh", "--json"]
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, check=False
    )
    receipt: dict[str, Any] = json.loads(done.stdout)
    return receipt


def spread(receipts: list[dict[str, Any]]) -> list[str]:
    """For every measured check: its bound, and the worst, median and best value."""
    values: dict[str, list[float]] = {}
    bounds: dict[str, Any] = {}
    for check in (check for receipt in receipts for check in receipt["checks"]):
        if (
            isinstance(check["value"], float)
            and isinstance(check["bound"], dict)
            and check["bound"]
        ):
            values.setdefault(check["id"], []).append(check["value"])
            bounds[check["id"]] = check["bound"]
    lines = []
    for name, found in values.items():
        end, bound = next(iter(bounds[name].items()))
        worst = max(found) if end == "max" else min(found)
        lines.append(
            f"| {name} | {end} {bound:g} | {worst:.3g} | {statistics.median(found):.3g} |"
        )
    return lines


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    image = sys.argv[2] if len(sys.argv) > 2 else IMAGE
    receipts = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            receipts.append(accept(image, Path(folder)))
            print(
                number + 1, receipts[-1]["verdict"], receipts[-1]["seconds"], flush=True
            )
    alarms = Counter(
        check["id"]
        for receipt in receipts
        for check in receipt["checks"]
        if receipt["verdict"] != "passed" and check["status"] in ("failed", "error")
    )
    seconds = [receipt["seconds"] for receipt in receipts]
    passed = sum(receipt["verdict"] == "passed" for receipt in receipts)
    text = [
        f"{passed} of {runs} runs passed; {dict(alarms) or 'no'} false alarms. "
        f"{statistics.median(seconds):.0f} s each (median), {max(seconds):.0f} s at most, on 2 cores, "
        f"{datetime.now(UTC).date()}: `.venv/bin/python bench/steady.py {runs}`.",
        "",
        "| check | bound | worst | median |",
        "| --- | --- | ---: | ---: |",
        *spread(receipts),
    ]
    RESULTS.write_text("\n".join(text) + "\n", encoding="utf-8", newline="\n")
    sys.exit(0 if passed == runs else 1)


if __name__ == "__main__":
    main()
