"""The host believes no suite that did not answer, and no verdict it cannot derive."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from envbuilder import serialize
from envbuilder.acceptance import receipts
from envbuilder.acceptance.check_text import number_text, with_unit
from envbuilder.acceptance.event_stream import SuiteEvents, ending_text
from envbuilder.acceptance.verdict import check_answered, check_labels, verdict
from envbuilder.model import SCHEMA, Check, Receipt, Status, Verdict

PLAN = {
    "event": "plan",
    "suite": "1",
    "checks": [{"id": "a", "title": "A"}, {"id": "b", "title": "B"}],
}


def watched(*events: object) -> SuiteEvents:
    watch = SuiteEvents()
    for event in (PLAN, *events):
        watch.feed(event if isinstance(event, str) else json.dumps(event))
    return watch


def result(name: str, status: str = "passed", **more: object) -> dict[str, object]:
    return {
        "event": "result",
        "id": name,
        "title": name.upper(),
        "status": status,
        "seconds": 1.0,
        **more,
    }


def test_a_whole_run() -> None:
    watch = watched(
        {"event": "start", "id": "a"},
        result("a", value=0.99, bound={"min": 0.95}),
        result("b"),
        {"event": "end", "verdict": "passed"},
    )
    checks = watch.checks("")
    assert [check.status for check in checks] == [Status.PASSED, Status.PASSED]
    assert verdict(checks) == "passed"
    assert [row.note for row in watch.rows()] == ["0.99 (at least 0.95)", ""]


def test_unanswered_check_is_an_error_with_the_container_s_end() -> None:
    checks = watched(result("a"), {"event": "start", "id": "b"}).checks(
        "the suite was killed"
    )
    assert checks[1].status is Status.ERROR
    assert "killed" in checks[1].detail
    assert verdict(checks) == "incomplete"


def test_forged_end_cannot_pass_a_failed_check() -> None:
    watch = watched(
        result("a", "failed"), result("b"), {"event": "end", "verdict": "passed"}
    )
    assert verdict(watch.checks("")) == "failed"


def test_no_output_is_not_a_pass() -> None:
    assert verdict([]) == "incomplete"
    assert verdict([Check(id="a", title="A", status=Status.NOT_RUN)]) == "incomplete"


@pytest.mark.parametrize(
    "line",
    ["passed", "{}", '{"event": "magic"}', '{"event": "result", "id": "a"}', "[1]"],
)
def test_malformed_line_is_recorded(line: str) -> None:
    watch = watched(line)
    assert (watch.violation_count, watch.violations[0].endswith(f": {line}")) == (
        1,
        True,
    )
    assert (
        check_answered([], watch.checks(""), watch.protocol(), "").status
        is Status.ERROR
    )


def test_suite_that_omits_a_check_is_detected() -> None:
    checks = watched(result("a"), result("b")).checks("")
    assert (
        check_answered(["a", "training.accuracy"], checks, "", "").status
        is Status.ERROR
    )
    assert check_answered(["a"], checks, "", "").status is Status.PASSED


LABELS = {
    f"dev.envbuilder.{name}": value
    for name, value in {
        "python": "3.9", "torch": "2.0.1", "torchvision": "0.15.2", "torchaudio": "", "cuda": "11.7.99",
        "cudnn": "8.5.0.96", "nccl": "2.14.3", "arch-list": "sm_37 sm_50", "os": "debian 11", "lock": "sha256:1",
    }.items()
}  # fmt: skip
FACTS = {
    "python": "3.9", "torch": "2.0.1", "torchvision": "0.15.2", "cuda": "11.7.99", "cudnn": "8.5.0",
    "nccl": "2.14.3", "arch_list": ["sm_37", "sm_50"], "os": "debian 11", "lock": "sha256:1",
}  # fmt: skip


def test_true_labels_pass() -> None:
    assert check_labels(LABELS, FACTS).status is Status.PASSED


@pytest.mark.parametrize(
    "label", [name for name in LABELS if name != "dev.envbuilder.torchaudio"]
)
def test_every_wrong_label_is_detected(label: str) -> None:
    check = check_labels({**LABELS, label: "0.0"}, FACTS)
    assert check.status is Status.FAILED
    assert label in check.detail


def test_missing_label_is_detected() -> None:
    assert check_labels({}, FACTS).status is Status.FAILED
    assert check_labels(LABELS, {}).status is Status.ERROR
    assert check_labels(LABELS, {**FACTS, "lock": None}).status is Status.FAILED


def test_end_of_a_container_is_explained() -> None:
    assert ending_text(0, out_of_memory=False, errors=[]) == ""
    assert "memory" in ending_text(137, out_of_memory=True, errors=[])
    assert "/dev/shm" in ending_text(135, out_of_memory=False, errors=[])
    assert "no module x" in ending_text(1, out_of_memory=False, errors=["no module x"])


IMAGE = "sha256:abcdef0123456789"


def receipt(kind: str = "passed") -> Receipt:
    status = Status.PASSED if kind == "passed" else Status.FAILED
    check = Check(
        id="training.accuracy",
        title="it learns",
        status=status,
        value=0.55,
        bound={"min": 0.95},
        remedy="do this",
    )
    return Receipt(
        schema=SCHEMA,
        image=IMAGE,
        suite={"version": "1", "hash": "sha256:5"},
        host={"cpus": 2},
        verdict=Verdict(kind),
        checks=(check,),
        stack="s",
    )


def test_only_passed_receipts_of_the_image_are_reused(tmp_path: Path) -> None:
    (tmp_path / f"broken-{receipts.file_name(receipt('passed'))}").write_text("{")
    (tmp_path / f"a-folder-{receipts.file_name(receipt('passed'))}").mkdir()
    for kind in ("failed", "passed"):
        path = tmp_path / f"{kind}-{receipts.file_name(receipt(kind))}"
        path.write_text(serialize.dumps(receipt(kind)))
        assert (
            receipts.find(tmp_path, IMAGE, "sha256:5", {"cpus": 2}) is not None
        ) == (kind == "passed")
    assert receipts.find(tmp_path, "sha256:other", "sha256:5", {"cpus": 2}) is None
    assert receipts.find(tmp_path, IMAGE, "sha256:6", {"cpus": 2}) is None
    assert receipts.find(tmp_path, IMAGE, "sha256:5", {"cpus": 4}) is None
    assert receipts.find(tmp_path / "none", IMAGE, "sha256:5", {"cpus": 2}) is None


@pytest.mark.parametrize(
    "broken",
    [
        {"training": {"accuracy": "x"}},
        {"facts": {"colour": "red"}},
        {"facts": {"lock": "../../x"}},
        {"checks": [{"id": "../x", "title": "x", "status": "passed"}]},
        {"checks": [{"id": "a", "title": "x", "status": "passed", "value": 10**100}]},
        {"schema": "1"},
    ],
)
def test_receipt_with_invalid_values_is_ignored(broken: dict[str, object]) -> None:
    document = json.loads(serialize.dumps(receipt()))
    assert receipts.read(json.dumps(document).encode()) == receipt()
    assert receipts.read(json.dumps(document | broken).encode()) is None


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b"\xff", b"", b'{"schema": ' + b"9" * 5000 + b"}", b'{"a": NaN}'],
)
def test_invalid_receipt_is_ignored(content: bytes) -> None:
    assert receipts.read(content) is None


def test_receipts_read_are_printable_with_a_plain_stack_name() -> None:
    document = json.loads(serialize.dumps(receipt())) | {
        "stack": "../../x",
        "reference": "a\x1b[2J\nb",
    }
    found = receipts.read(json.dumps(document).encode())
    assert found is not None
    assert (found.stack, found.reference) == ("", "a [2J b")


def test_receipts_are_trusted_only_in_a_private_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = receipts.Store(
        folder=tmp_path / "state" / "receipts", users=frozenset({os.getuid()})
    )
    wanted = (IMAGE, "sha256:5", {"cpus": 2})
    assert store.find(*wanted) is None
    assert store.keep(receipt("passed")) == ""
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert store.find(*wanted) == store.newest(IMAGE) == receipt("passed")
    store.folder.chmod(0o770)
    assert (store.find(*wanted), store.newest(IMAGE)) == (None, None)
    assert "others can write to" in store.keep(receipt("passed"))
    store.folder.chmod(0o700)
    strange = replace(store, users=frozenset({os.getuid() + 1}))
    assert strange.find(*wanted) is None
    assert "belongs to another user" in strange.keep(receipt("passed"))


def test_missing_receipt_store_is_explained(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    store = receipts.Store(
        folder=tmp_path / "state" / "receipts", users=frozenset({os.getuid()})
    )
    assert "Not a directory" in store.keep(receipt("passed"))
    assert store.find(IMAGE, "sha256:5", {"cpus": 2}) is None


@pytest.mark.parametrize(
    "name",
    ["/etc/cron.d/x", "../../x", "a/../../x", "..", ".hidden", "x" * 5000, "a\0b\n"],
)
def test_name_from_an_image_is_not_a_path(tmp_path: Path, name: str) -> None:
    file = receipts.file_name(replace(receipt("passed"), stack=name))
    (tmp_path / file).touch()
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert not file.startswith(".")


def test_special_files_among_receipts_are_ignored(tmp_path: Path) -> None:
    file = receipts.file_name(receipt("passed"))
    os.mkfifo(tmp_path / file)
    (tmp_path / f"x-{file}").symlink_to("/dev/zero")
    (tmp_path / f"y-{file}").write_text("[" * 100_000)
    assert receipts.newest(tmp_path, IMAGE) is None


def test_receipt_contradicting_its_checks_is_ignored(tmp_path: Path) -> None:
    forged = replace(receipt("failed"), verdict=Verdict.PASSED)
    (tmp_path / receipts.file_name(forged)).write_text(serialize.dumps(forged))
    assert receipts.find(tmp_path, IMAGE, "sha256:5", {"cpus": 2}) is None
    assert receipts.newest(tmp_path, IMAGE) == forged


def test_a_refusal_gives_check_number_bound_and_remedy() -> None:
    error = receipts.acceptance_error(receipt("failed"))
    assert error.exit_code == 7
    assert error.problems == (
        "training.accuracy: it learns: 0.55 (at least 0.95)",
        "  remedy: do this",
    )
    assert "sha256:abcdef" in error.hint


def test_failures_of_one_cause_are_listed_together() -> None:
    because = "because of imports.failed: ImportError: libcudart.so.12"
    checks = []
    for name, status in (("b", Status.FAILED), ("c", Status.FAILED)):
        checks.append(Check(id=name, title=name, status=status, detail=because))
    error = receipts.acceptance_error(replace(receipt("failed"), checks=tuple(checks)))
    assert error.problems == (f"2 checks: {because}", "  b, c")


def test_numbers_are_shown_with_their_bound() -> None:
    check = Check(
        id="a", title="A", status=Status.PASSED, value="11.7", bound="11.7.99"
    )
    assert number_text(check) == "11.7 (expected 11.7.99)"


def test_units() -> None:
    check = Check(
        id="a",
        title="A",
        status=Status.PASSED,
        value=75_200_000_000,
        bound={"min": 67_100_000},
        unit="B",
    )
    assert number_text(check) == "75.20 GB (at least 67 MB)"
    assert with_unit(10**400, "B").startswith("1000")
    assert with_unit(8, "s") == "8 s"
