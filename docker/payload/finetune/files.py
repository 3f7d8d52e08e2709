"""Tables out of a user's files, read without heavy libraries, so that what is wrong with them is said at once.

CSV with commas, semicolons or tabs, JSON lines, CoNLL and plain text, in UTF-8 or in what charset-normalizer detects;
Parquet by pyarrow.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

from train.data import MOUNTS_HINT, DataError

Columns = Dict[str, List[Any]]

TEXT = (".txt", ".text")
CONLL = (".conll", ".bio", ".iob", ".iob2")
JSON = (".json", ".jsonl")
SUFFIXES = (".csv", ".tsv", *JSON, ".parquet", *CONLL, *TEXT)
DELIMITERS = (",", ";", "\t")
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}
# A Chinese file is nearly always in one of these, and GB18030 reads them all.
GB = ("gb2312", "gbk", "cp936", "gb18030", "hz")
SAMPLE = 1 << 20  # bytes that the encoding is detected from
CANDIDATES = (
    "gb18030 big5 cp932 shift_jis euc_jp cp949 utf_16 utf_16_le utf_16_be cp1252 cp1251"
).split()


@dataclass
class Table:
    """Columns of equal length; `lines` has the line on which each row starts, where the source has lines."""

    source: str
    columns: Columns
    lines: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def place(self, row: int) -> str:
        """Where a row (counted from 0) is, in words that lead to it in an editor."""
        if row < len(self.lines):
            return f"{self.source}, line {self.lines[row]}"
        return f"{self.source}, row {row + 1}"

    def take(
        self,
        rows: list[int],
    ) -> Table:
        """The same with these rows only."""
        columns = {}
        for name, values in self.columns.items():
            columns[name] = [values[row] for row in rows]
        lines = [self.lines[row] for row in rows] if self.lines else []
        return Table(
            self.source,
            columns,
            lines,
            self.notes,
        )


def read_table(path: Path, encoding: str | None, delimiter: str | None) -> Table:
    """A file as a table, by its suffix; raises `DataError` that names the line."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"unsupported file type: {path}", f"supported: {' '.join(SUFFIXES)}"
        )
    if not path.is_file():
        raise DataError(f"no such file: {path}", MOUNTS_HINT)
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    if suffix == ".parquet":
        return read_parquet(path)
    text, notes = decode(path, encoding)
    if suffix in (".csv", ".tsv"):
        table = read_csv(str(path), text, delimiter, notes)
    else:
        readers: dict[str, Callable[[str, str], Table]] = {
            **dict.fromkeys(JSON, read_json),
            **dict.fromkeys(CONLL, read_conll),
            **dict.fromkeys(TEXT, read_lines),
        }
        table = readers[suffix](str(path), text)
    if len(table) == 0:
        raise DataError(f"{path} has no rows")
    table.notes = notes
    return table


def read_parquet(path: Path) -> Table:
    from pyarrow import ArrowException, parquet

    try:
        columns = parquet.read_table(str(path)).to_pydict()
    except ArrowException as error:
        raise DataError(f"{path} is not a Parquet file: {error}") from error
    return Table(str(path), columns)


# --- encodings -----------------------------------------------------------------------------------------------------


def decode(path: Path, encoding: str | None) -> Tuple[str, List[str]]:
    """A file's text, and a note if it is not UTF-8."""
    data = path.read_bytes()
    notes = []
    if encoding is None:
        encoding, found_by = detect(data, path)
        if found_by:
            notes.append(f"{path} is {encoding.upper()} ({found_by}), not UTF-8")
    try:
        text = data.decode(encoding)
    except LookupError as error:
        raise DataError(f"--encoding {encoding} is unknown to Python") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: not {encoding.upper()}",
            "name the file's encoding with --encoding, e.g. gb18030 or latin-1",
        ) from error
    return text.lstrip("\ufeff"), notes


def detect(data: bytes, path: Path) -> Tuple[str, str]:
    """The name of an encoding, and how it was found; "" for UTF-8."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return name, "" if name == "utf-8-sig" else "by its byte order mark"
    try:
        data.decode("utf-8")
        return "utf-8", ""
    except UnicodeDecodeError:
        pass
    if find_spec("charset_normalizer") is None:
        raise DataError(
            f"{path} is not UTF-8", "name its encoding with --encoding, e.g. gb18030"
        )
    guessed = guess(data[:SAMPLE])
    if guessed is None:
        raise DataError(
            f"{path} is not UTF-8, and its encoding could not be detected",
            "name it with --encoding, e.g. gb18030 or latin-1",
        )
    return guessed, "detected by charset-normalizer"


def guess(sample: bytes) -> str | None:
    """What charset-normalizer takes the bytes for; a sample that ends within a character is cut at a line."""
    from charset_normalizer import from_bytes

    end = sample.rfind(b"\n") + 1
    best = from_bytes(sample[:end] or sample, cp_isolation=CANDIDATES).best()
    if best is None:
        return None
    name = str(best.encoding)
    return "gb18030" if name in GB else name


# --- formats -------------------------------------------------------------------------------------------------------


def read_csv(source: str, text: str, delimiter: str | None, notes: List[str]) -> Table:
    """Records under a header. Every record must have as many fields as the header."""
    if delimiter is None:
        delimiter = find_delimiter(text)
        if delimiter != ",":
            notes.append(f"{source} is separated by {NAMES[delimiter]}")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header: list[str] = []
    rows: list[list[str]] = []
    lines = []
    start = 1
    for record in _long_records(reader):
        is_blank = len(record) < 2 and not "".join(record).strip()
        if is_blank:
            start = reader.line_num + 1
            continue
        if not header:
            header = [name.strip() for name in record]
            check_header(source, header)
        elif len(record) != len(header):
            raise DataError(
                f"{source}, line {start}: {len(record)} fields, and the header has {len(header)}",
                "put a text that contains the separator or a line break in double quotes",
            )
        else:
            rows.append(record)
            lines.append(start)
        start = reader.line_num + 1
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    return Table(source, columns, lines)


def _long_records(reader: Iterator[List[str]]) -> Iterator[List[str]]:
    """The records of a reader, whose fields may be as long as a text is. The limit is of the whole process."""
    limit = csv.field_size_limit(1 << 30)
    try:
        yield from reader
    finally:
        csv.field_size_limit(limit)


def check_header(source: str, header: List[str]) -> None:
    name, count = Counter(header).most_common(1)[0]
    if count > 1:
        raise DataError(f"{source} has {count} columns with the name {name!r}")


def find_delimiter(text: str) -> str:
    """The separator that gives most of the first records the header's number of fields, and the most fields."""
    sample = io.StringIO(
        text[:SAMPLE],
        newline="",
    ).readlines()[:200]
    best, most = ",", (0, 1)
    for delimiter in DELIMITERS:
        records = [
            len(record)
            for record in csv.reader(
                sample,
                delimiter=delimiter,
            )
        ]
        width = records[0] if records else 1
        score = (records.count(width), width)
        if width > 1 and score > most:
            best, most = delimiter, score
    return best


def read_json(
    source: str,
    text: str,
) -> Table:
    """JSON lines, or one list of objects; a key that a row lacks is None."""
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    if text.lstrip().startswith("["):
        rows = parse_json(
            source,
            1,
            text,
        )
    else:
        for number, line in enumerate(
            text.split("\n"),
            1,
        ):
            if line.strip():
                rows.append(
                    parse_json(
                        source,
                        number,
                        line,
                    )
                )
                lines.append(number)
    names: dict[str, None] = {}
    for position, row in enumerate(rows):
        if not isinstance(
            row,
            dict,
        ):
            line = lines[position] if lines else position + 1
            raise DataError(f"{source}, line {line}: not a JSON object")
        names.update(dict.fromkeys(row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Table(
        source,
        columns,
        lines,
    )


def parse_json(source: str, line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{source}, line {line}: not JSON: {error}") from error


def read_conll(
    source: str,
    text: str,
) -> Table:
    """A token and its tag on each line, first and last word of it; a blank line ends a sentence."""
    columns: Columns = {
        "tokens": [],
        "tags": [],
    }
    lines: list[int] = []
    for start, sentence in sentences(text):
        if len(sentence[0]) < 2:
            raise DataError(f"{source}, line {start}: a token without a tag")
        lines.append(start)
        columns["tokens"].append([words[0] for words in sentence])
        columns["tags"].append([words[-1] for words in sentence])
    return Table(
        source,
        columns,
        lines,
    )


def sentences(text: str) -> Iterator[Tuple[int, List[List[str]]]]:
    """The line on which each sentence starts, and its lines as words."""
    sentence: list[list[str]] = []
    for number, line in enumerate(
        [*text.split("\n"), ""],
        1,
    ):
        words = line.split()
        if words and words[0] != "-DOCSTART-":
            sentence.append(words)
        elif sentence:
            yield number - len(sentence), sentence
            sentence = []


def read_lines(source: str, text: str) -> Table:
    """Every line that is not blank."""
    columns: Columns = {"text": []}
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            columns["text"].append(line.strip())
            lines.append(number)
    return Table(source, columns, lines)
