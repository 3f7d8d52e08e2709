"""Write docs/reference/companions.md from `facts/companions.json`.

.venv/bin/python tools/companions_table.py          tools/refresh_companions.py does it too
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from envbuilder import catalog
from envbuilder.catalog.companions import Companion
from envbuilder.catalog.rows import Evidence

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "companions.md"
INTRODUCTION = """# Companions

Packages that are bound to torch, CUDA or the GPU, and what each range of their releases needs. Written by
`tools/refresh_companions.py` from `envbuilder/catalog/facts/companions.json`, where each row has its source.

- **torch**: what METADATA requires. *C++* says that a library in the wheel uses C++ of torch, which changes with each
  minor release: no other torch will do, whatever METADATA says.
- **CUDA**: the majors that the libraries in the wheel link to; if there is a variant for each CUDA, the variants.
- **Python**: by Requires-Python and the names of the wheels; empty for every Python.
- **transformers**: the upper bound, or the only version.
- **GPU code**: the binaries (`sm_`) and the PTX (`compute_`) in the wheel, as far as they were read.
- A value in *italics* is documented or inferred, not read from a wheel.
"""
_COLUMNS = (
    "releases", "from", "torch", "CUDA", "Python", "glibc", "transformers", "arm64", "GPU code"
)  # fmt: skip


def page(rows: Sequence[Companion]) -> str:
    """docs/reference/companions.md."""
    without = [row for row in rows if row.first is None]
    lines = [INTRODUCTION]
    for name, of_name in groupby(rows, key=lambda row: row.name):
        some = [row for row in of_name if row.first is not None]
        if some:
            lines += _section(name, some)
    lines += ["## Not from PyPI", ""]
    lines += [f"- **{row.name}**: {_sentence(row.says)}" for row in without]
    return "\n".join(lines) + "\n"


def _section(name: str, rows: Sequence[Companion]) -> Iterator[str]:
    newest = rows[-1]
    yield f"## {name}"
    yield ""
    yield from _notes(newest)
    yield from _table(rows)
    yield ""


def _notes(row: Companion) -> Iterator[str]:
    """What holds for the newest release."""
    notes = []
    if row.says:
        notes.append(_sentence(row.says))
    if row.kind.endswith("-source"):
        notes.append("PyPI has source archives alone.")
    if row.imports_without_gpu:
        notes.append("Imports without a GPU.")
    if row.imports_without_gpu is False:
        notes.append("Does not import without a GPU.")
    for cuda, needs in row.needs_for.items():
        notes.append(f"On CUDA {cuda}: {_code(needs)}.")
    if row.needs:
        notes.append(f"Needs {_code(row.needs)}.")
    if row.needs_apt:
        notes.append(f"Needs Debian's {_code(row.needs_apt)}.")
    if notes:
        yield " ".join(notes)
        yield ""


def _table(rows: Sequence[Companion]) -> Iterator[str]:
    """Newest first, without the columns that say nothing."""
    lines = [_cells(row) for row in reversed(rows)]
    used = []
    for number, column in enumerate(_COLUMNS):
        if any(line[number] for line in lines):
            used.append((number, column))
    yield _line(column for _, column in used)
    yield _line("---" for _ in used)
    for line in lines:
        yield _line(line[number] for number, _ in used)


def _line(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Companion) -> tuple[str, ...]:
    releases = str(row.first)
    if row.last != row.first:
        releases += f" – {row.last}"
    cuda = row.cuda_lines or tuple(str(major) for major in row.cuda)
    return (
        releases,
        str(row.released),
        _torch(row),
        _shown(row, "cuda", ", ".join(cuda)),
        _shown(row, "python", row.python),
        str(row.glibc or ""),
        _shown(row, "transformers", row.transformers),
        "yes" if "linux/arm64" in row.platforms else "",
        _shown(row, "sm", " ".join(row.sm)),
    )


def _torch(row: Companion) -> str:
    text = _shown(row, "torch", row.torch)
    if row.torch_minor_abi:
        text = f"{text} C++".strip()
    return text


def _shown(row: Companion, field: str, text: str) -> str:
    """In italics if it is known less well than what a wheel says."""
    status = row.field_status.get(field, Evidence.VERIFIED)
    if text and status is not Evidence.VERIFIED:
        return f"*{text}*"
    return text


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _sentence(text: str) -> str:
    return f"{text}."


def write() -> None:
    """Write the page."""
    text = page(catalog.load_companions())
    PAGE.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write()
