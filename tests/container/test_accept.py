"""`envbuilder accept`, on real images: reused receipts, foreign images, custom checks."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .engine import Image, docker, envbuilder

OWN = '''"""The tokenizer knows our products."""
import json

from transformers import BertTokenizer

print(json.dumps({"event": "result", "value": len(BertTokenizer.__name__), "bound": {"min": %d}, "remedy": "add them"}))
'''


@pytest.fixture(scope="module")
def foreign() -> Iterator[str]:
    """An image that is not ours: a user's Debian with Python and no torch."""
    name = "test/foreign:1"
    lines = 'FROM envbuilder-base:debian11\nENV LD_LIBRARY_PATH=/usr/local/cuda/lib64\nENTRYPOINT ["/bin/echo", "hi"]\n'
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", name, "-"],
        input=lines.encode(),
        check=True,
    )
    yield name
    docker("rmi", "--force", name, check=False)


def test_accepted_image_is_not_tested_again(image: Image) -> None:
    answer = envbuilder("accept", image.id, "--json", cwd=image.site)
    assert answer.code == 0, answer.err
    assert "already accepted" in answer.err
    assert answer.json()["started"] == image.outcome["receipt"]["started"]


def test_a_part_of_the_suite_is_never_enough(image: Image, tmp_path: Path) -> None:
    answer = envbuilder(
        "accept",
        image.tag,
        "--only",
        "contract.user,identity.packages",
        "--json",
        cwd=tmp_path,
    )
    assert answer.code == 7
    assert answer.json()["verdict"] == "incomplete"
    assert not (tmp_path / "receipts").exists()
    wrong = envbuilder("accept", image.tag, "--only", "contract.nothing", cwd=tmp_path)
    assert wrong.code == 2
    assert "contract.nothing" in wrong.err


def test_foreign_image_is_not_judged_by_promises_it_never_made(
    foreign: str, tmp_path: Path
) -> None:
    answer = envbuilder("accept", foreign, "--json", cwd=tmp_path)
    assert answer.code == 7, answer.err
    receipt = answer.json()
    checks = {check["id"]: check for check in receipt["checks"]}
    assert receipt["verdict"] == "incomplete"
    assert receipt["facts"]["python"] == "3.9"
    assert (
        checks["identity.python"]["status"],
        checks["identity.python"]["value"],
    ) == ("not_run", "3.9")
    assert checks["contract.user"]["detail"] == "observed: runs as root"
    assert checks["linkage.loader_path"]["value"] == 1
    assert checks["contract.space"]["status"] == "passed"
    assert checks["numerics.matmul"]["detail"] == "torch is not installed in this image"
    assert checks["training.accuracy"]["status"] == "error"
    assert {check["status"] for check in receipt["checks"]} == {
        "passed",
        "not_run",
        "error",
    }


@pytest.mark.exhaustive
def test_a_foreign_image_that_trains_is_accepted(image: Image, tmp_path: Path) -> None:
    lines = f"FROM {image.tag}\nUSER 0\nRUN rm -r /opt/envbuilder\nENTRYPOINT []\nLABEL dev.envbuilder.name=\n"
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", "test/lent:1", "-"],
        input=lines.encode(),
        check=True,
    )
    answer = envbuilder("accept", "test/lent:1", "--json", cwd=tmp_path)
    docker("rmi", "--force", "test/lent:1")
    assert answer.code == 0, answer.err
    receipt = answer.json()
    checks = {check["id"]: check for check in receipt["checks"]}
    assert receipt["training"]["accuracy"] >= 0.95
    assert (checks["identity.torch"]["status"], checks["identity.torch"]["value"]) == (
        "not_run",
        "2.0.1",
    )
    assert (
        checks["features.compile"]["status"],
        checks["training.reference"]["status"],
    ) == ("passed", "passed")


def test_an_image_without_anything_is_an_error_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    docker("build", "--quiet", "--tag", "test/empty:1", str(tmp_path))
    answer = envbuilder("accept", "test/empty:1", cwd=tmp_path)
    docker("rmi", "--force", "test/empty:1")
    assert answer.code == 6
    assert "the suite cannot start in this image" in answer.err


def test_an_image_without_python_is_refused_at_once(
    foreign: str, tmp_path: Path
) -> None:
    lines = (
        f"FROM {foreign}",
        "USER 0",
        "RUN rm -f /usr/bin/python* /usr/local/bin/python*",
    )
    (tmp_path / "Dockerfile").write_text("\n".join(lines))
    docker("build", "--quiet", "--tag", "test/no-python:1", str(tmp_path))
    answer = envbuilder("accept", "test/no-python:1", cwd=tmp_path)
    docker("rmi", "--force", "test/no-python:1")
    assert answer.code == 6
    assert (
        "error: the suite cannot start in this image: this image has no" in answer.err
    )
    assert not (tmp_path / "receipts").exists()


@pytest.mark.parametrize(
    ("least", "status", "code"), [(3, "passed", 7), (99, "failed", 7)]
)
def test_custom_checks_from_the_settings_run(
    image: Image, tmp_path: Path, least: int, status: str, code: int
) -> None:
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "my_check.py").write_text(OWN % least)
    (tmp_path / "envbuilder.toml").write_text(
        '[accept]\nchecks = ["checks/my_check.py"]\n'
    )
    answer = envbuilder(
        "accept", image.tag, "--only", "own.my_check", "--json", cwd=tmp_path
    )
    assert answer.code == code
    own = next(
        check for check in answer.json()["checks"] if check["id"] == "own.my_check"
    )
    assert (own["status"], own["title"], own["value"]) == (
        status,
        "The tokenizer knows our products",
        13,
    )


def test_the_documented_example_works(image: Image, root: Path, tmp_path: Path) -> None:
    example = root / "docs" / "examples" / "check_products.py"
    words = ("--check", str(example), "--only", "own.check_products", "--json")
    checks = envbuilder("accept", image.tag, *words, cwd=tmp_path).json()["checks"]
    assert (checks[0]["title"], checks[0]["status"]) == (
        "Our products are words that the tokenizer knows",
        "passed",
    )


def test_out_of_memory_fails_one_check_and_others_run(
    image: Image, tmp_path: Path
) -> None:
    only = "identity.torch,training.accuracy,training.loss,contract.size"
    answer = envbuilder(
        "accept", image.tag, "--memory", "150m", "--only", only, "--json", cwd=tmp_path
    )
    checks = {check["id"]: check for check in answer.json()["checks"]}
    assert answer.json()["verdict"] == "failed"
    assert "out of memory" in checks["training.accuracy"]["detail"]
    assert checks["training.loss"]["detail"].startswith("not measured")
    assert checks["contract.size"]["status"] == "passed"


def test_reports_are_written_in_every_form(image: Image, tmp_path: Path) -> None:
    names = ["report.html", "report.xml", "report.md", "report.json"]
    words = [word for name in names for word in ("--report", name)]
    answer = envbuilder("accept", image.tag, *words, cwd=image.site)
    assert answer.code == 0, answer.err
    assert json.loads((image.site / "report.json").read_text())["verdict"] == "passed"
    for name in names[:3]:
        assert "training.accuracy" in (image.site / name).read_text()
    wrong = envbuilder("accept", image.tag, "--report", "report.pdf", cwd=image.site)
    assert wrong.code == 2
    assert ".html" in wrong.err


def test_an_interrupt_leaves_no_container_and_no_receipt(
    image: Image, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "envbuilder", "accept", image.tag],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Python uses UTF-8" in line:
            break
    process.terminate()
    assert process.wait(20) == 130
    process.stderr.close()
    assert not list(tmp_path.glob("receipts/*.json"))
    assert (
        docker("ps", "--all", "--quiet", "--filter", "label=dev.envbuilder.run").stdout
        == ""
    )
