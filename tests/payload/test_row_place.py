"""Where a row of a user's data is, as an editor counts lines."""

from pathlib import Path

import pytest

from train.row_place import place_of


@pytest.mark.parametrize(
    ("name", "content", "row", "place"),
    [
        ("a.csv", "text,label\ngood,1\nbad,\n", 2, "line 3"),
        ("bom.csv", "\ufefftext,label\r\ngood,1\r\n,0\r\n", 2, "line 3"),
        ("blank.csv", "\ntext,label\n\ngood,1\n  \n,0\n", 2, "line 6"),
        ("long.csv", 'text,label\n"a\nb\nc",1\n"\n",0\n', 2, "line 5"),
        ("tabs.TSV", "text\tlabel\na, b\t1\n\t0\n", 2, "line 3"),
        ("a.jsonl", '{"text": "a"}\n\n{"text": ""}\n', 2, "line 3"),
        ("list.json", '[{"text": "a"},\n{"text": ""}]', 2, "row 2"),
        ("a.parquet", "not read", 7, "row 7"),
        ("huge.csv", f"text,label\n{'a' * 200_000},1\n,0\n", 2, "row 2"),
    ],
)
def test_a_row_is_found_in_an_editor(
    tmp_path: Path, name: str, content: str, row: int, place: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert place_of(str(path), row) == f"{path}, {place}"


def test_a_row_of_the_hub_has_only_its_number() -> None:
    assert place_of("imdb", 3) == "imdb, row 3"
