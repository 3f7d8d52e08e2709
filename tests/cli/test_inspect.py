"""`envbuilder inspect` where there is nothing to inspect."""

import json

from .conftest import Run


def test_no_engine_is_exit_6(run: Run) -> None:
    answer = run("inspect", "envbuilder:nothing", "--json")
    assert answer.code == 6
    assert "no Docker engine answers" in answer.err
    assert json.loads(answer.out)["ok"] is False


def test_no_image_named_is_exit_2(run: Run) -> None:
    answer = run("inspect")
    assert (answer.code, answer.out) == (2, "")
    assert "IMAGE" in answer.err
