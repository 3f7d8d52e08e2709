"""One cause is named once; what follows from it refers to it."""

from typing import Any

from acceptance.causes import Causes

LOST = "OSError: libcudart.so.12: cannot open shared object file: No such file"


def result(check_id: str, detail: str, status: str = "error") -> dict[str, Any]:
    return {"id": check_id, "status": status, "detail": detail, "remedy": "do this"}


def test_errors_that_follow_name_the_first_check() -> None:
    causes = Causes()
    first = result("imports.failed", f"torch: {LOST}; x: KeyError: 'a'", "failed")
    assert causes.attribute(first) == first
    broke = f"the training job broke: {LOST}"
    for status, detail in (("error", f"{LOST} or directory"), ("failed", broke)):
        second = causes.attribute(result("training.loss", detail, status))
        assert second["status"] == status
        start = detail.split("lib")[0]
        assert second["detail"].startswith(f"because of imports.failed: {start}lib")
        assert second["remedy"] == "fix imports.failed first"


def test_other_results_stay_as_they_are() -> None:
    causes = Causes()
    kept = [
        result("a.one", LOST, "passed"),
        result("a.two", "took longer than 120 s"),
        result("a.three", "took longer than 120 s"),
        result("a.four", LOST),
        result("own.five", LOST),
        result("a.six", "OSError:  two spaces and some more words"),
        result("a.seven", LOST.replace("cudart", "cublas")),
    ]
    assert [causes.attribute(fields) for fields in kept] == kept
