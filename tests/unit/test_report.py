"""The forms of a receipt say all that is in it, and nothing that an image says can break them."""

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import samples
from markdown_it import MarkdownIt

from envbuilder import serialize
from envbuilder.acceptance import report
from envbuilder.acceptance.report import summary
from envbuilder.acceptance.report.loss_plot import loss_plot
from envbuilder.errors import UsageError
from envbuilder.format.receipt_text import receipt_text
from envbuilder.model import Check, Receipt, Status, Verdict

RECEIPTS = {
    "passed": samples.passed(),
    "failed": samples.failed(),
    "hostile": samples.hostile(),
    "bare": samples.bare(),
}
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff\u202e]"
)


class Tags(HTMLParser):
    """What a browser would see: the tags in order, their attributes, and the text between."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [
            value or ""
            for name, value in attrs
            if name in ("href", "src", "srcset", "xlink:href")
        ]
        if tag not in ("meta", "link", "br", "img", "hr", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "circle", "polyline"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(markdown: str) -> Tags:
    return Tags(
        MarkdownIt("commonmark", {"html": True})
        .enable(["table", "strikethrough"])
        .render(markdown)
    )


def suite_of(receipt: Receipt) -> ElementTree.Element:
    suite = ElementTree.fromstring(report.junit(receipt).encode()).find("testsuite")
    assert suite is not None
    return suite


@pytest.mark.parametrize("suffix", report.FORMS)
def test_each_suffix_has_its_form(suffix: str) -> None:
    text = report.form_of(suffix)(samples.passed())
    beginnings = {
        ".html": "<!doctype html>",
        ".xml": "<?xml",
        ".md": "## ✅ passed: cu117",
        ".json": '{\n "schema": 1',
    }
    assert text.startswith(beginnings[suffix])
    assert text.endswith("\n")


@pytest.mark.parametrize("suffix", ["", ".pdf", ".HTML", "html"])
def test_unknown_suffix_is_refused_with_the_valid_ones(suffix: str) -> None:
    with pytest.raises(UsageError) as caught:
        report.form_of(suffix)
    assert all(
        known in caught.value.hint for known in (".html", ".xml", ".md", ".json")
    )


@pytest.mark.parametrize("name", RECEIPTS)
@pytest.mark.parametrize("form", [report.junit, report.markdown, report.html])
def test_every_format_is_well_formed_and_reproducible(form: object, name: str) -> None:
    text = form(RECEIPTS[name])  # type: ignore[operator]
    assert not FORBIDDEN.search(text)
    assert text.encode()
    assert text == form(RECEIPTS[name])  # type: ignore[operator]


# --- JUnit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECEIPTS)
def test_junit_has_a_case_for_each_check_and_counts_right(name: str) -> None:
    receipt, suite = RECEIPTS[name], suite_of(RECEIPTS[name])
    cases = suite.findall("testcase")
    found = Counter(check.status for check in receipt.checks)
    assert [case.get("name") for case in cases[: len(receipt.checks)]] == [
        f"{check.id}: {check.title}" for check in summary.sanitize(receipt).checks
    ]
    assert suite.get("failures") == str(found[Status.FAILED])
    assert suite.get("skipped") == str(found[Status.NOT_RUN])
    assert suite.get("tests") == str(len(cases))


def test_junit_of_a_failure_gives_number_bound_and_remedy() -> None:
    receipt = samples.failed()
    suite = suite_of(receipt)
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "it still ran 5 s after SIGTERM"
    assert failure.text == (
        "found: 5.09\nbound: at most 5\ndetail: it still ran 5 s after SIGTERM\n"
        "remedy: let the entrypoint `exec` the job, so that it is process 1 and hears its signals"
    )
    skipped = suite.find("testcase[@classname='gpu']/skipped")
    assert skipped is not None
    assert skipped.get("message") == "no GPU is visible in here"
    warnings = suite.find("testcase[@classname='imports']/system-out")
    assert warnings is not None
    assert (warnings.text or "").count("Warning:") == 2
    times = {
        case.get("name", "").split(":")[0]: case.get("time")
        for case in suite.iter("testcase")
    }
    assert times["contract.signals"] == "6.67"
    properties = {
        item.get("name"): item.get("value") for item in suite.iter("property")
    }
    assert properties["image"] == receipt.image
    assert properties["stack"] == receipt.stack
    assert properties["suite.hash"] == receipt.suite["hash"]
    assert properties["host.engine"] == receipt.host["engine"]
    assert properties["verdict"] == "failed"


def error_check(status: Status = Status.ERROR) -> Check:
    return Check(id="a.b", title="A", status=status)


@pytest.mark.parametrize(
    "receipt",
    [
        samples.failed(),
        samples.bare(),
        samples.bare(verdict=Verdict.PASSED),
        samples.bare(error_check()),
        samples.bare(error_check(Status.NOT_RUN)),
        samples.bare(error_check(Status.NOT_RUN), verdict=Verdict.PASSED),
        replace(samples.passed(), verdict=Verdict.INCOMPLETE),
        replace(samples.passed(), verdict=Verdict.FAILED),
    ],
)
def test_junit_is_red_unless_the_receipt_passed(receipt: Receipt) -> None:
    suite = suite_of(receipt)
    told = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    assert told == len(suite.findall("testcase/failure")) + len(
        suite.findall("testcase/error")
    )
    assert told > 0


def test_junit_is_green_if_the_receipt_passed() -> None:
    assert [
        suite_of(samples.passed()).get(count)
        for count in ("failures", "errors", "skipped")
    ] == ["0", "0", "1"]


def test_junit_of_an_attack_is_read_back_as_text() -> None:
    failure = suite_of(samples.hostile()).find("testcase/failure")
    assert failure is not None
    assert failure.get("message", "").startswith(
        "</td></table><script>alert(1)</script> | `code`"
    )
    assert "?[31mred?" in failure.get("message", "")


# --- Markdown ------------------------------------------------------------------------------------------------------


def test_a_receipt_without_a_gpu_names_that_first() -> None:
    receipt = samples.passed()
    gpu = Check(id="gpu.visible", title="the GPU can be used", status=Status.NOT_RUN)
    untried = replace(receipt, checks=(gpu,))
    assert receipt_text(untried).startswith("verdict       passed; no GPU was tried\n")
    assert "No GPU was tried." in summary.meaning(untried)
    tried = replace(receipt, checks=(replace(gpu, status=Status.PASSED),))
    assert "no GPU" not in receipt_text(tried)
    assert "No GPU" not in summary.meaning(tried)


def test_receipts_tell_what_the_causal_model_learned() -> None:
    old = samples.passed()
    learned = replace(old, lm={"accuracy": 1.0, "lora_accuracy": 0.995})
    assert summary.causal_model_text(learned) == "copies 100 %, LoRA 99.5 %"
    without_peft = replace(old, lm={"accuracy": 0.5})
    assert summary.causal_model_text(without_peft) == "copies 50 %, no LoRA"
    broken = Check(id="lm.accuracy", title="it copies", status=Status.FAILED)
    assert summary.causal_model_text(replace(old, checks=(broken,))) == ""


def test_a_receipt_of_an_older_suite_has_no_causal_model() -> None:
    old = samples.passed()
    assert "lm" not in serialize.plain(old)
    version = old.suite["version"]
    assert f"causal model  not in suite {version}\n" in receipt_text(old)


def test_markdown_begins_with_verdict_and_failures() -> None:
    text = report.markdown(samples.failed())
    assert text.startswith(
        "## ❌ failed: cu117-torch2.0.1-py3.9-debian11\n\n"
        "There is evidence against this image. No GPU was tried. 61 checks: 54 passed, 1 failed, 6 not run.\n\n"
        "held-out accuracy **100 %** · negated reviews **100 %** · fine-tune **7.99 s** · samples / s **1,002** · "
        "trained on **cpu** · peak memory **647 MB** · causal model **not in suite 2**\n\n"
        "### ✗ failed: the job hears SIGTERM and ends promptly (<code>contract.signals</code>)\n\n"
        "- **found**: 5.09\n"
        "- **bound**: at most 5\n"
        "- **detail**: it still ran 5 s after SIGTERM\n"
        "- **remedy**: let the entrypoint <code>exec</code> the job, so that it is process 1 and hears its signals\n\n"
        "<details><summary>All 61 checks</summary>\n\n| | check |"
    )


@pytest.mark.parametrize("name", RECEIPTS)
def test_markdown_is_one_table_with_a_row_for_each_check(name: str) -> None:
    page = rendered(report.markdown(RECEIPTS[name]))
    assert page.open == []
    assert page.tags["table"] == 1
    assert page.tags["tr"] == 1 + len(RECEIPTS[name].checks)
    assert page.tags["td"] == 6 * len(RECEIPTS[name].checks)
    assert page.addresses == []


def test_markdown_shows_an_attack_as_it_was_written() -> None:
    page = rendered(report.markdown(samples.hostile()))
    told = {
        "h2",
        "h3",
        "p",
        "strong",
        "ul",
        "li",
        "br",
        "code",
        "details",
        "summary",
        "hr",
    }
    table = {"table", "thead", "tbody", "tr", "th", "td"}
    assert set(page.tags) <= told | table
    assert page.attributes <= {"style"}
    for part in (
        "</td></table><script>",
        "<img src=x onerror=alert(2)>",
        "[a](javascript:b)",
        "*bold* \\|",
        "&#60;",
    ):
        assert part in page.text


# --- the page ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECEIPTS)
def test_page_is_well_formed_with_a_row_per_check(name: str) -> None:
    page = Tags(report.html(RECEIPTS[name]))
    assert page.open == []
    assert page.tags["script"] == page.tags["img"] == page.tags["iframe"] == 0
    assert page.tags["h1"] == page.tags["main"] == 1
    text = report.html(RECEIPTS[name])
    assert text.count('<tr role="row">\n<th scope="row"') == len(RECEIPTS[name].checks)


@pytest.mark.parametrize("name", RECEIPTS)
def test_page_is_self_contained(name: str) -> None:
    page = Tags(report.html(RECEIPTS[name]))
    assert page.addresses == ["data:,"]
    assert not any(attribute.startswith("on") for attribute in page.attributes)
    assert not re.search(r"url\(|@import", report.html(RECEIPTS[name]))


def test_the_page_shows_an_attack_as_it_was_written() -> None:
    text = Tags(report.html(samples.hostile())).text
    for part in (
        "</td></table><script>",
        "<img src=x onerror=alert(2)>",
        "{{ 7 * 7 }}",
        "&amp; *bold* \\|",
        "&#60;",
    ):
        assert part in text


def test_page_lists_failures_first() -> None:
    text = Tags(report.html(samples.failed())).text
    order = [
        "failed cu117",
        "What did not pass",
        "it still ran 5 s after SIGTERM",
        "The fine-tune",
        "Every check",
    ]
    assert sorted(map(text.index, order)) == [text.index(part) for part in order]
    assert "What did not pass" not in report.html(samples.passed())


def test_page_reports_a_missing_fine_tune() -> None:
    text = report.html(samples.bare())
    assert "There are no losses" in text
    assert "<svg" not in text


@pytest.mark.parametrize(
    "losses", [None, [], "0.1", {}, [None], [float("nan")], [True], [10**400]]
)
def test_no_curve_without_losses(losses: object) -> None:
    assert loss_plot(losses, []) is None
    assert "<svg" not in report.html(
        replace(samples.bare(), training={"losses": losses})
    )


# --- the curve -----------------------------------------------------------------------------------------------------


def test_curve_fills_its_frame() -> None:
    drawn = loss_plot([1.0, 0.5, 0.0], [])
    assert drawn
    assert drawn.lines == ("0.0,0.0 50.0,50.0 100.0,100.0",)
    assert [(tick.at, tick.label) for tick in drawn.steps] == [
        (0.0, "1"),
        (50.0, "2"),
        (100.0, "3"),
    ]
    assert [tick.label for tick in drawn.losses] == [
        "0",
        "0.2",
        "0.4",
        "0.6",
        "0.8",
        "1",
    ]
    assert (
        drawn.summary
        == "3 steps: the loss begins at 1, ends at 0, and is 0 at its lowest."
    )


def test_missing_losses_are_gaps_and_single_points_dots() -> None:
    drawn = loss_plot([1.0, 0.5, float("nan"), 0.5, None, 0.0, 0.0], [])
    assert drawn
    assert drawn.lines == ("0.0,0.0 16.67,50.0", "83.33,100.0 100.0,100.0")
    assert drawn.dots == ((50.0, 50.0),)


def test_one_loss_is_a_dot_in_the_middle() -> None:
    drawn = loss_plot(
        [2.0], summary.epochs({"epochs": [{"epoch": 1, "accuracy": 0.5}]})
    )
    assert drawn
    assert (drawn.lines, drawn.dots) == ((), ((50.0, 0.0),))
    assert [(mark.name, mark.accuracy) for mark in drawn.marks] == [("1", "50 %")]


@pytest.mark.parametrize(
    "losses",
    [
        [0.0, 0.0],
        [5e-324],
        [-1e20, -1e20],
        [9e299, -9e299],
        [-3, -1],
        [1e-12, 2e-12],
        [0.3] * 7,
        [7, 1e9],
    ],
)
def test_every_curve_stays_in_its_frame(losses: list[float]) -> None:
    drawn = loss_plot(losses, [])
    assert drawn
    points = [
        tuple(map(float, point.split(",")))
        for line in drawn.lines
        for point in line.split()
    ]
    assert all(
        0 <= number <= 100 for point in (*points, *drawn.dots) for number in point
    )
    assert 2 <= len(drawn.losses) <= 10
    assert len({tick.label for tick in drawn.losses}) == len(drawn.losses)


def test_many_epochs_keep_their_lines_and_lose_some_labels() -> None:
    epochs = summary.epochs(
        {"epochs": [{"epoch": number, "accuracy": 0.5} for number in range(1, 41)]}
    )
    drawn = loss_plot([0.5] * 400, epochs)
    assert drawn
    assert len(drawn.marks) == 40
    assert len([mark for mark in drawn.marks if mark.name]) == 5
    assert drawn.marks[-1].at == 100.0


# --- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (0, "0"), (0.0, "0"), (True, "True"), (1000, "1000"), (75381075968, "75,381,075,968"),
        (2.4881585124434805e-07, "2.488e-07"), (float("nan"), "nan"), ("3.9", "3.9"),
        (["sm_37", "sm_50"], "sm_37, sm_50"),
        ({"a": [1, 2]}, "a: 1, 2"), ({}, ""),
    ],
)  # fmt: skip
def test_values_are_words(value: object, text: str) -> None:
    assert summary.value_text(value) == text


@pytest.mark.parametrize(
    ("bound", "text"),
    [({"min": 0.95}, "at least 0.95"), ({"max": 0}, "at most 0"), ({"min": 1, "max": 2}, "at least 1, at most 2"),
     ("3.9", "3.9"), ({"odd": 1}, "odd: 1"), (None, "")],
)  # fmt: skip
def test_bounds_are_words(bound: object, text: str) -> None:
    assert summary.bound_text(replace(error_check(), bound=bound)) == text


def test_numbers_have_their_unit_and_words_have_none() -> None:
    check = Check(
        id="a.b",
        title="A",
        status=Status.PASSED,
        value=75381075968,
        bound={"min": 67108864},
        unit="B",
    )
    assert (summary.found_text(check), summary.bound_text(check)) == (
        "75.38 GB",
        "at least 67 MB",
    )
    assert summary.found_text(replace(check, value=10**400)).startswith("10,000")
    assert summary.found_text(replace(check, value="none")) == "none"


def test_legible_text_is_unchanged() -> None:
    for receipt in (samples.passed(), samples.failed()):
        assert serialize.dumps(summary.sanitize(receipt)) == serialize.dumps(receipt)
