"""The recorded index: what is kept of an index, that the committed one is whole and small, how it is served."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from index_server import HTML_TYPE, JSON_TYPE, RECORDED, Faults, IndexServer, serve
from packaging.specifiers import SpecifierSet
from packaging.utils import parse_wheel_filename
from packaging.version import Version

import record_index
from envbuilder.lock.lock_file import parse_lock
from envbuilder.model import Lock
from index.recording import (
    Wheel,
    dependencies,
    fits,
    releases_for,
    trim_metadata,
    versions_to_keep,
)

LOCKS = [
    parse_lock(path.read_text(), source=str(path)) for path in record_index.find_locks()
]
STACK = replace(LOCKS[0].stack, as_of=date(2025, 3, 20), python=Version("3.10"))


def wheel(
    version: str, day: str = "2025-01-01", *, tag: str = "py3-none-any", **more: Any
) -> Wheel:
    filename = f"thing-{version}-{tag}.whl"
    fields: dict[str, Any] = {
        "filename": filename, "url": "", "version": Version(version), "tags": parse_wheel_filename(filename)[3],
        "requires_python": None, "sha256": f"{version}-{tag}", "size": 1,
        "uploaded": datetime.fromisoformat(day).replace(tzinfo=UTC), "yanked": None, "metadata_url": None,
    }  # fmt: skip
    return Wheel(**{**fields, **more})


def kept(wheels: Sequence[Wheel], *, wanted: str = "", locked: str = "") -> list[str]:
    releases = releases_for(wheels, STACK)
    versions = versions_to_keep(
        releases, SpecifierSet(wanted), Version(locked) if locked else None
    )
    return [str(version) for version in sorted(versions)]


# --- what is kept --------------------------------------------------------------------------------------------------


def test_newest_release_and_first_later_one_are_recorded() -> None:
    before = [wheel(f"1.{minor}") for minor in range(5)]
    after = [
        wheel("2.0", "2025-03-21"),
        wheel("2.1", "2025-03-25"),
        wheel("2.2", "2025-04-01"),
    ]
    assert kept([*before, *after]) == ["1.3", "1.4", "2.0", "2.1"]


def test_later_uploads_begin_at_the_end_of_day() -> None:
    wheels = [
        wheel("1.0", "2025-03-20T23:59:59.999999"),
        wheel("2.0", "2025-03-21T00:00:00"),
    ]
    releases = releases_for(wheels, STACK)
    assert (releases.usable, releases.later) == ([Version("1.0")], [Version("2.0")])


def test_locked_and_preferred_releases_are_recorded() -> None:
    wheels = [wheel(f"1.{minor}") for minor in range(9)]
    assert kept(wheels, locked="1.4") == ["1.3", "1.4", "1.7", "1.8"]
    assert kept(wheels, wanted="<1.2") == ["1.1", "1.7", "1.8"]


def test_one_that_must_not_be_taken_is_kept() -> None:
    assert kept([wheel("1.0"), wheel("1.1", yanked="broken")]) == ["1.0", "1.1"]
    assert kept([wheel("1.0"), wheel("1.1rc1")]) == ["1.0", "1.1rc1"]
    assert kept([wheel("1.0"), wheel("0.9", yanked="broken")]) == ["1.0"]


def test_patch_of_an_older_line_is_not_later() -> None:
    assert kept([wheel("2.0"), wheel("1.9.9", "2025-03-25")]) == ["2.0"]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("py3-none-any", True), ("py310-none-any", True), ("py311-none-any", False),
        ("cp38-abi3-manylinux1_x86_64", True),
        ("cp310-cp310-manylinux_2_28_x86_64", True), ("cp310-cp310-manylinux_2_99_x86_64", False),
        ("cp310-cp310-manylinux_2_17_aarch64", False), ("cp310-cp310-win_amd64", False),
        ("cp310-cp310-musllinux_1_2_x86_64", False),
    ],
)  # fmt: skip
def test_a_wheel_fits_by_its_tags(tag: str, expected: bool) -> None:
    assert fits(wheel("1.0", tag=tag), STACK) is expected


def test_a_python_that_is_shut_out_is_not_offered() -> None:
    wheels = [
        wheel("1.0"),
        wheel("1.1", requires_python=">=3.11"),
        wheel("1.2", requires_python=">= '2.7'"),
    ]
    assert releases_for(wheels, STACK).usable == [Version("1.0")]


METADATA = """Metadata-Version: 2.4
Name: thing
Version: 1.0
Summary: not needed
Requires-Python: >=3.9
Requires-Dist: numpy>=1.21
Requires-Dist: tomli; python_version < "3.11"
Requires-Dist: colorama; sys_platform == "win32"
Requires-Dist: socksio[fast]<2; extra == "socks"
Provides-Extra: socks

Nor is the description.
"""


def test_recorded_metadata_has_what_resolving_needs() -> None:
    assert trim_metadata(METADATA) == [
        "Requires-Python: >=3.9",
        "Requires-Dist: numpy>=1.21",
        'Requires-Dist: tomli; python_version < "3.11"',
        'Requires-Dist: colorama; sys_platform == "win32"',
        'Requires-Dist: socksio[fast]<2; extra == "socks"',
        "Provides-Extra: socks",
    ]


def test_dependencies_are_those_of_the_image() -> None:
    lines = trim_metadata(METADATA)
    assert [str(needed) for needed in dependencies(lines, STACK, ())] == [
        "numpy>=1.21",
        "tomli",
    ]
    assert [str(needed) for needed in dependencies(lines, STACK, {"socks"})][2:] == [
        "socksio[fast]<2"
    ]


def test_the_same_wheels_give_the_same_bytes() -> None:
    wheels = [wheel("1.10"), wheel("1.9", yanked=""), wheel("1.9", tag="py2-none-any")]
    metadata = {one.sha256: ["Requires-Dist: numpy"] for one in wheels}
    text = record_index.dumps("thing", wheels, metadata)
    assert record_index.dumps("thing", wheels[::-1], metadata) == text
    document = json.loads(text)
    assert [row["filename"] for row in document["files"]] == [
        "thing-1.9-py2-none-any.whl", "thing-1.9-py3-none-any.whl", "thing-1.10-py3-none-any.whl"
    ]  # fmt: skip
    assert [row["yanked"] for row in document["files"]] == [False, True, False]
    assert list(document["metadata"].values()) == [["Requires-Dist: numpy"]]


def test_missing_changed_and_yanked_wheels_are_reported() -> None:
    lock = replace(
        LOCKS[0], wheels=tuple(one for one in LOCKS[0].wheels if one.name == "numpy")
    )
    (locked,) = lock.wheels
    same = wheel("1.0", filename=locked.file, sha256=locked.sha256)
    assert list(record_index.find_drift(lock, {"numpy": [same]})) == []
    gone = f"{lock.stack.name}: the index does not have {locked.file} as it was locked"
    assert list(record_index.find_drift(lock, {"numpy": []})) == [gone]
    assert list(
        record_index.find_drift(lock, {"numpy": [replace(same, sha256="0")]})
    ) == [gone]
    yanked = replace(same, yanked="broken")
    assert list(record_index.find_drift(lock, {"numpy": [yanked]})) == [
        f"{lock.stack.name}: {locked.file} is yanked: broken"
    ]


# --- what is committed ---------------------------------------------------------------------------------------------


def recorded(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return document


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stack.name)
def test_every_locked_wheel_is_recorded(lock: Lock) -> None:
    missing = []
    for locked in lock.wheels:
        rows = [
            row
            for row in recorded(locked.name)["files"]
            if row["filename"] == locked.file
        ]
        if [(row["hashes"]["sha256"], row["size"]) for row in rows] != [
            (locked.sha256, locked.size)
        ]:
            missing.append(locked.file)
    assert missing == [], "run `make record-index`"


def test_the_recorded_index_is_small() -> None:
    sizes = {path.name: path.stat().st_size for path in RECORDED.iterdir()}
    assert max(sizes.values()) < 2**20
    assert sum(sizes.values()) < 3_000_000


def test_recordings_contain_no_index_address() -> None:
    keys = {
        "filename",
        "hashes",
        "metadata",
        "requires-python",
        "size",
        "upload-time",
        "yanked",
    }
    for path in sorted(RECORDED.iterdir()):
        document = recorded(path.stem)
        assert document.keys() == {"files", "metadata", "name"}
        assert {key for row in document["files"] for key in row} == keys, path.name


# --- how it is served ----------------------------------------------------------------------------------------------


def get(url: str, accept: str = JSON_TYPE) -> str:
    opener = build_opener(ProxyHandler({}))  # whatever proxy this machine has
    with opener.open(Request(url, headers={"Accept": accept}), timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith((accept, "text/plain"))
        return str(answer.read().decode())


def page(index: IndexServer, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(get(urljoin(index.url, f"{name}/")))
    return document


def names(index: IndexServer, name: str) -> set[str]:
    return {file["filename"] for file in page(index, name)["files"]}


def test_a_page_leads_to_metadata_with_its_hash() -> None:
    with serve() as index:
        file = page(index, "packaging")["files"][0]
        text = get(urljoin(f"{index.url}packaging/", file["url"]) + ".metadata")
        assert sha256(text.encode()).hexdigest() == file["core-metadata"]["sha256"]
        assert text.startswith("Metadata-Version: 2.1\nName: packaging\nVersion: ")
        assert index.paths == [
            "/simple/packaging/",
            f"/files/packaging/{file['filename']}.metadata",
        ]


def test_a_client_that_asks_for_html_gets_it() -> None:
    first = recorded("packaging")["files"][0]
    with serve(Faults(yanked={first["filename"]: "broken & gone"})) as index:
        text = get(urljoin(index.url, "packaging/"), HTML_TYPE)
    line = next(line for line in text.splitlines() if first["filename"] in line)
    assert (
        f'href="../../files/packaging/{first["filename"]}#sha256={first["hashes"]["sha256"]}"'
        in line
    )
    assert 'data-yanked="broken &amp; gone"' in line
    assert 'data-requires-python="&gt;=' in line


def test_the_index_as_it_stood_has_no_younger_file() -> None:
    days = sorted(row["upload-time"][:10] for row in recorded("packaging")["files"])
    with serve(Faults(last_day=date.fromisoformat(days[2]))) as index:
        assert [
            file["upload-time"][:10] for file in page(index, "packaging")["files"]
        ] == days[:3]


def test_a_file_is_removed_renamed_or_replaced() -> None:
    gone, renamed, changed = [
        row["filename"] for row in recorded("packaging")["files"]
    ][:3]
    other = renamed.replace("py3-", "py2-")
    faults = Faults(
        removed={gone}, renamed={renamed: other}, changed={changed: "0" * 64}
    )
    with serve(faults) as index:
        listed = names(index, "packaging")
        assert gone not in listed
        assert renamed not in listed
        assert other in listed
        hashes = {
            file["filename"]: file["hashes"]["sha256"]
            for file in page(index, "packaging")["files"]
        }
        assert hashes[changed] == "0" * 64
        with pytest.raises(HTTPError, match="404"):
            get(f"{index.url.removesuffix('simple/')}files/packaging/{gone}.metadata")


def test_server_fails_or_waits_on_request() -> None:
    faults = Faults(
        statuses={"/simple/numpy/": 503}, delays={"/simple/packaging/": 0.01}
    )
    with serve(faults) as index:
        with pytest.raises(HTTPError, match="503"):
            page(index, "numpy")
        with pytest.raises(HTTPError, match="404"):
            page(index, "unknown")
        assert names(index, "packaging")
        faults.statuses.clear()
        assert names(index, "numpy")


@pytest.mark.parametrize(
    "path",
    [
        "simple/../secret/",
        "files/packaging/",
        "files/packaging/x.whl.metadata",
        "simple/",
    ],
)
def test_missing_file_is_404(path: str, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    with serve() as index, pytest.raises(HTTPError, match="404"):
        get(f"{index.url.removesuffix('simple/')}{path}")
