"""The page that `tools/mutate.py` writes: counts, score and every survivor with its change."""

import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from mutation import ROOT, Mutant


class Result(Protocol):
    """What became of one mutant."""

    @property
    def mutant(self) -> Mutant: ...
    @property
    def outcome(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run: the results, how many mutants each file has in all, and what drew the sample."""

    seed: int
    minutes: float
    totals: dict[str, int]
    hand_made: Sequence[Result]
    sampled: Sequence[Result]


def score(results: Sequence[Result]) -> float | None:
    """The share that was noticed, in percent; excused mutants do not count. None if there is nothing to count."""
    counted = [result for result in results if not result.mutant.excuse]
    if not counted:
        return None
    noticed = [result for result in counted if result.outcome != "survived"]
    return 100 * len(noticed) / len(counted)


def _percent(results: Sequence[Result]) -> str:
    value = score(results)
    return "–" if value is None else f"{value:.1f} %"


def summary(report: Report) -> str:
    parts = []
    for title, results in (
        ("hand-made", report.hand_made),
        ("sampled", report.sampled),
    ):
        if results:
            noticed = sum(result.outcome != "survived" for result in results)
            parts.append(
                f"{title} {noticed} of {len(results)} noticed ({_percent(results)})"
            )
    return ", ".join(parts)


def text(report: Report) -> str:
    lines = [
        "# Mutation run",
        "",
        f"Written by `make mutate` on {datetime.now(UTC):%Y-%m-%d} at commit {_commit()}",
        f"in {report.minutes:.0f} minutes.",
        "Each mutant is one small change of the source; it is killed when a fast test fails on it.",
        "How it works, and why this way: [decision 18](../decisions/0018-mutation.md).",
        "",
        f"**{summary(report)}.**",
        "",
    ]
    if report.hand_made:
        lines += ["## Hand-made mutants", "", *_hand_made_table(report), ""]
    if report.sampled:
        total = sum(report.totals.values())
        lines += [
            "## Sampled mutants",
            "",
            f"Seed {report.seed}: {len(report.sampled)} of {total:,} mutants by the operators of mutmut. A mutant that",
            "runs into its time limit counts as killed; an excused one does not count.",
            "",
            *_sampled_table(report),
            "",
        ]
    lines += _survivors([*report.hand_made, *report.sampled])
    return "\n".join(lines) + "\n"


def _commit() -> str:
    argv = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _by_file(results: Sequence[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.mutant.file, []).append(result)
    return dict(sorted(found.items()))


def _hand_made_table(report: Report) -> list[str]:
    lines = ["| file | mutants | killed | survived |", "| --- | ---: | ---: | ---: |"]
    for file, results in [
        *_by_file(report.hand_made).items(),
        ("all", list(report.hand_made)),
    ]:
        survived = sum(result.outcome == "survived" for result in results)
        lines.append(
            f"| {file} | {len(results)} | {len(results) - survived} | {survived} |"
        )
    return lines


def _sampled_table(report: Report) -> list[str]:
    lines = [
        "| file | of | sampled | killed | timed out | survived | excused | score |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for file, results in [
        *_by_file(report.sampled).items(),
        ("all", list(report.sampled)),
    ]:
        total = report.totals.get(file, sum(report.totals.values()))
        counts = Counter(
            "excused" if result.mutant.excuse else result.outcome for result in results
        )
        cells = [
            f"{total:,}",
            len(results),
            *(counts[word] for word in ("killed", "timed out", "survived", "excused")),
        ]
        lines.append(
            f"| {file} | {' | '.join(map(str, cells))} | {_percent(results)} |"
        )
    return lines


def _survivors(results: Sequence[Result]) -> list[str]:
    lines = ["## Survivors", ""]
    for result in results:
        mutant = result.mutant
        if result.outcome == "survived" and not mutant.excuse:
            title = f" {mutant.name}" if mutant.tests else ""
            lines += [
                f"`{mutant.file}:{mutant.line}`{title}",
                "",
                "```diff",
                mutant.diff,
                "```",
                "",
            ]
    excused = [result.mutant for result in results if result.mutant.excuse]
    if excused:
        lines += [
            "## Excused",
            "",
            "No test can tell these from the original, or none should.",
            "",
        ]
    for mutant in excused:
        lines += [
            f"`{mutant.file}:{mutant.line}`: {mutant.excuse}",
            "",
            "```diff",
            mutant.diff,
            "```",
            "",
        ]
    return lines[:-1]
