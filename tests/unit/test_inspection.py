"""What an image is made of, from what an engine says: history, lock, packages, receipt; ours, foreign and odd."""

import ast
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from json_documents import problems

from envbuilder import serialize
from envbuilder.acceptance.inspect_image import (
    Distribution,
    HistoryStep,
    Inspection,
    Installed,
    one_line,
    read_installed,
    read_instruction,
    read_lock,
    read_steps,
)
from envbuilder.engine.image import ImageFacts
from envbuilder.format.image_text import inspection_document, inspection_text
from envbuilder.lock.lock_file import parse_lock
from envbuilder.model import SCHEMA, Check, Receipt, Status, Verdict
from envbuilder.render.context import labels_of

ROOT = Path(__file__).parents[2]
PROBE = ROOT / "docker" / "probe" / "packages.py"
TEXT = (
    ROOT / "docker" / "images" / "cu117-torch2.0.1-py3.9-debian11" / "envbuilder.lock"
).read_text()
LABELS = labels_of(parse_lock(TEXT, source="preset"), TEXT)
WHEELS = "RUN /bin/sh -c python3 /install/wheels.py /requirements.txt"
HISTORY = [
    (270_000_000, "Imported from -"),
    (
        9_000,
        "RUN /bin/sh -c useradd --create-home --uid 1000 --shell /bin/bash trainer # buildkit",
    ),
    (0, "ENV PATH=/opt/venv/bin:/usr/bin"),
    (2_500_000_000, f"{WHEELS} # buildkit"),
    (1_300_000_000, f"{WHEELS} # buildkit"),
    (268_000_000, f"{WHEELS}         torch numpy # buildkit"),
    (59_000_000, f"{WHEELS}         datasets # buildkit"),
    (82_000, "COPY payload /opt/envbuilder/payload # buildkit"),
    (0, "USER 1000"),
]


# --- history -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ('/bin/sh -c #(nop)  CMD ["bash"]', 'CMD ["bash"]'),
        ("/bin/sh -c #(nop) ADD file:abc in / ", "ADD file:abc in /"),
        (
            "/bin/sh -c apt-get update \t && apt-get install gcc",
            "RUN apt-get update && apt-get install gcc",
        ),
        ("RUN /bin/sh -c make # buildkit", "RUN make"),
        ("RUN |2 TOKEN=hunter2 B=x y /bin/sh -c make # buildkit", "RUN make"),
        ("|1 TOKEN=hunter2 /bin/sh -c make", "RUN make"),
        ("RUN /bin/bash -o pipefail -c a | b # buildkit", "RUN a | b"),
        ("COPY a b # buildkit", "COPY a b"),
        ("RUN python -c x # buildkit", "RUN python -c x"),
        ("bazel build\n\x1b[31m...", "bazel build [31m..."),
        ("", ""),
    ],
)
def test_history_shows_the_dockerfile_instructions(said: str, read: str) -> None:
    assert read_instruction(said) == read


def test_our_layers_are_named_by_their_contents() -> None:
    steps = read_steps(HISTORY, ours=True)
    assert [step.holds for step in steps] == [
        "base", "system", "", "nvidia", "torch", "libraries", "stack", "payload", ""
    ]  # fmt: skip
    assert [step.size for step in steps] == [size for size, _ in HISTORY]


def test_unknown_layers_are_not_guessed() -> None:
    assert {step.holds for step in read_steps(HISTORY, ours=False)} == {""}
    fewer = [*HISTORY[:3], *HISTORY[4:]]
    assert "torch" not in [step.holds for step in read_steps(fewer, ours=True)]
    assert read_steps([], ours=True) == ()


# --- lock ----------------------------------------------------------------------------------------------------------


def test_labels_and_lock_agree() -> None:
    inside = read_lock(TEXT.encode(), LABELS)
    assert inside.lock
    assert inside.problems == ()
    assert inside.sha256 == LABELS["dev.envbuilder.lock"]


def test_wrong_label_is_reported_with_both_values() -> None:
    inside = read_lock(TEXT.encode(), LABELS | {"dev.envbuilder.torch": "2.1.0"})
    assert inside.problems == (
        "the label dev.envbuilder.torch says 2.1.0; by the lock it is 2.0.1",
    )
    changed = read_lock(TEXT.encode() + b"\n", LABELS)
    assert len(changed.problems) == 1
    assert "the label dev.envbuilder.lock says sha256:" in changed.problems[0]
    assert read_lock(TEXT.encode(), {}).problems == ("no label dev.envbuilder.lock",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b'{"schema": 9}',
        b'{"x": ' + b"[" * 100_000,
        TEXT.replace("torch==", "torch= =").encode(),
    ],
    ids=["empty", "no text", "no lock", "another schema", "deep", "bad requirement"],
)
def test_invalid_lock_is_a_finding_not_an_error(content: bytes) -> None:
    inside = read_lock(content, LABELS)
    assert inside.lock is None
    assert inside.problems


# --- packages ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def probe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("packages", PROBE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Three distributions, byte-code, a hard link, a script outside, an unclaimed file and a missing one."""
    folder = tmp_path / "lib" / "site-packages"
    for name, size in {
        "big/a.py": 1000, "big/__pycache__/a.cpython-39.pyc": 500, "big/b.so": 3000, "small.py": 10, "shared.py": 7,
        "of_nobody.py": 40, "__pycache__/of_nobody.cpython-39.pyc": 2, "../bin/run": 100,
    }.items():  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    (folder / "big" / "same_as_b.so").hardlink_to(folder / "big" / "b.so")
    records = {
        "big_one-1.0.dist-info": (
            'big/a.py,sha256=x,9\nbig/b.so,,\nbig/same_as_b.so,,\nshared.py,,\n../bin/run,,\n"gone,1.py",,\n'
        ),
        "small-2.0.dist-info": "small.py,,\nshared.py,,\n\n",
        "silent-3.dist-info": None,
    }
    for name, text in records.items():
        (folder / name).mkdir()
        if text is not None:
            (folder / name / "RECORD").write_text(text)
    return folder


def test_packages_are_as_large_as_their_files(probe: ModuleType, site: Path) -> None:
    found = probe.measure([str(site)])
    assert {item["name"]: item["bytes"] for item in found["distributions"]} == {
        "big_one": 1000 + 500 + 3000 + 7 + 100,
        "small": 10,
        "silent": None,
    }
    records = sum(path.stat().st_size for path in site.glob("*/RECORD"))
    assert found["unclaimed"] == 40 + 2 + records


@pytest.mark.slow
def test_the_probe_runs_where_it_is_sent() -> None:
    """As in an image: as text, isolated. Here it measures this environment."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROBE.read_text()], capture_output=True, text=True, check=True
    )  # fmt: skip
    installed = read_installed(done.stdout.splitlines())
    assert installed
    sizes = {item.name: item.bytes or 0 for item in installed.distributions}
    assert sizes["pytest"] > 100_000
    assert [item.bytes or 0 for item in installed.distributions] == sorted(
        sizes.values(), reverse=True
    )


def test_the_probe_survives_names_that_are_no_text(
    probe: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "\udcff-1.dist-info").mkdir()
    found = probe.measure([str(tmp_path)])
    assert read_installed([json.dumps(found)])


def test_the_probe_is_python_3_8() -> None:
    ast.parse(PROBE.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("lines", [[], [""], ["Hello"], ["[]"], ['{"python": 3}']])
def test_a_python_that_answers_something_else_is_unknown(lines: list[str]) -> None:
    assert read_installed(lines) is None


# --- as a person and a program see it ------------------------------------------------------------------------------

IMAGE = ImageFacts(
    id="sha256:0123", labels=LABELS, env=(), size=4_397_091_000, digest=None, created="2026-01-01T00:00:00Z",
    platform="linux/amd64", user="1000",
)  # fmt: skip
RECEIPT = Receipt(
    schema=SCHEMA,
    image=IMAGE.id,
    suite={"version": "1", "hash": "sha256:5"},
    host={"cpus": 2, "architecture": "x86_64", "gpu": "none", "memory": 8},
    verdict=Verdict.FAILED,
    checks=(
        Check(id="a.b", title="it is so", status=Status.PASSED),
        Check(
            id="c.d",
            title="it learns",
            status=Status.FAILED,
            value=0.5,
            bound={"min": 0.9},
            detail="no\nluck",
        ),
    ),
    training={"accuracy": 0.5, "negated": None, "seconds": 6.7, "device": "cpu"},
    started="2026-01-02T00:00:00+00:00",
    seconds=24.3,
)


def ours() -> Inspection:
    many = tuple(
        Distribution(name=f"p{number:02}", version="1", bytes=1_000_000)
        for number in range(20)
    )
    return Inspection(
        reference="envbuilder:x",
        image=IMAGE,
        steps=read_steps(HISTORY, ours=True),
        lock=read_lock(TEXT.encode(), LABELS),
        installed=Installed(
            python="3.9.2", folders=("/x",), distributions=many, unclaimed=8000
        ),
        receipt=RECEIPT,
        suite="sha256:5",
    )


def foreign(**labels: str) -> Inspection:
    image = replace(
        IMAGE,
        labels=labels,
        env=("PYTHON_VERSION=3.10.1", "HOME=/x"),
        user="",
        entrypoint=("a b", "c"),
        size=12,
    )
    return Inspection(
        reference="foreign image", image=image, steps=(HistoryStep(size=12, instruction="ADD x /"),), lock=None,
        installed=None, receipt=None, suite="sha256:5",
    )  # fmt: skip


def section(text: str, title: str) -> list[str]:
    return next(
        lines
        for part in text.split("\n\n")
        if (lines := part.split("\n"))[0].startswith(title)
    )


def test_the_text_of_ours() -> None:
    text = inspection_text(ours())
    assert section(text, "stack")[1:3] == [
        "  cu117-torch2.0.1-py3.9-debian11",
        "  CUDA           11.7.99",
    ]
    assert section(text, "lock")[2:] == [
        "  wheels   85, 2.47 GB to download",
        "  as of    2025-03-20",
        f"  catalog  {LABELS['dev.envbuilder.catalog']}",
        "  base     envbuilder-base:debian11 (no digest)",
        "  labels   agree with it",
    ]
    assert section(text, "layers") == [
        "layers: 4.40 GB in 7",
        "   270 MB   6.1 %  base       Imported from -",
        "     9 kB   0.0 %  system     RUN useradd --create-home --uid 1000 --shell /bin/bash trainer",
        "  2.50 GB  56.9 %  nvidia     RUN python3 /install/wheels.py /requirements.txt",
        "  1.30 GB  29.6 %  torch      RUN python3 /install/wheels.py /requirements.txt",
        "   268 MB   6.1 %  libraries  RUN python3 /install/wheels.py /requirements.txt torch numpy",
        "    59 MB   1.3 %  stack      RUN python3 /install/wheels.py /requirements.txt datasets",
        "    82 kB   0.0 %  payload    COPY payload /opt/envbuilder/payload",
    ]
    packages = section(text, "packages")
    assert packages[0] == "packages: 20 MB in 20, Python 3.9.2"
    assert len(packages) == 1 + 15 + 2
    assert packages[-2:] == ["  5 MB  25.0 %  5 more", "  8 kB          in no package"]


def test_the_text_of_a_receipt() -> None:
    assert section(inspection_text(ours()), "receipt") == [
        "receipt: failed",
        "  when          2026-01-02T00:00:00+00:00, 24.3 s",
        "  suite         sha256:5 (this envbuilder's)",
        "  host          2 CPUs, x86_64, GPU access: none",
        "  fine-tune     0.500 on held-out reviews; 6.7 s on cpu",
        "  causal model  not in suite 1",
        "  checks        2, 1 of them did not pass",
        "  ✗ c.d: it learns: 0.5 (at least 0.9): no luck",
    ]
    forged = replace(
        ours(), receipt=replace(RECEIPT, verdict=Verdict.PASSED), suite="sha256:6"
    )
    lines = section(inspection_text(forged), "receipt")
    assert lines[0] == "receipt: passed, but its checks do not confirm it"
    assert lines[2].endswith("(of another envbuilder)")


def test_the_text_of_a_foreign_image() -> None:
    assert inspection_text(foreign(maintainer="somebody")).split("\n") == [
        "foreign image",
        "  image     sha256:0123",
        "  created   2026-01-01T00:00:00Z",
        "  platform  linux/amd64",
        "  size      12 B",
        "",
        "stack: unknown, it contains no lock, so envbuilder did not build it",
        "  user            root",
        "  entrypoint      'a b' c",
        "  command         none",
        "  PYTHON_VERSION  3.10.1",
        "  maintainer      somebody",
        "",
        "layers: 12 B in 1",
        "  12 B  100.0 %    ADD x /",
        "",
        "packages: unknown, no Python runs in this image",
        "",
        "receipt: none: `envbuilder accept 'foreign image'`",
    ]


def test_an_image_that_a_registry_has_shows_its_digest_there() -> None:
    pushed = replace(ours(), image=replace(IMAGE, digest="sha256:4567"))
    assert (
        section(inspection_text(pushed), "envbuilder:x")[-1]
        == "  digest    sha256:4567, from a registry"
    )
    assert inspection_document(pushed)["digest"] == "sha256:4567"


def test_odd_labels_break_no_line() -> None:
    text = inspection_text(foreign(**{"a\nb": "c\x1b[31m\r\nstack\u202e" + "x" * 500}))
    assert "  a b             c [31m stack x" in text
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text.split("\n")) == len(inspection_text(foreign(a="b")).split("\n"))
    assert one_line("\ud800a\x00\tb") == "a b"


def test_unreadable_lock_is_reported() -> None:
    text = inspection_text(replace(ours(), lock=read_lock(b"{}", LABELS)))
    assert (
        section(text, "stack")[0]
        == "stack: unknown, this envbuilder cannot read its lock"
    )
    assert "problems" in section(text, "lock")[2]


def test_document_has_all_keys_for_any_image() -> None:
    full, bare = inspection_document(ours()), inspection_document(foreign(a="b\n"))
    assert full.keys() == bare.keys()
    assert [key for key in bare if bare[key] is None] == [
        "digest",
        "stack",
        "lock",
        "packages",
        "receipt",
    ]
    assert (full["stack"]["torch"], full["lock"]["wheels"], full["lock"]["agrees"]) == (
        "2.0.1",
        85,
        True,
    )
    assert sum(layer["size"] for layer in full["layers"]) == IMAGE.size
    assert len(full["packages"]["distributions"]) == 20
    assert full["packages"]["bytes"] == 20_000_000
    assert (full["receipt"]["verdict"], full["receipt"]["suite"]["current"]) == (
        "failed",
        True,
    )
    assert [check["id"] for check in full["receipt"]["failed"]] == ["c.d"]
    assert json.loads(serialize.dumps(full)) == json.loads(
        json.dumps(serialize.plain(full))
    )
    assert json.loads(serialize.dumps(bare))["labels"] == {"a": "b\n"}
    for document in (full, bare):
        assert (
            problems(
                "inspect", json.loads(serialize.dumps({"schema": SCHEMA, **document}))
            )
            == []
        )
