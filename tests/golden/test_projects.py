"""Thirty-two projects: what became of each line, for everybody to read in tests/projects/*/answers.txt."""

import projects

SAMPLES = projects.read_projects()


def test_every_line_of_a_project_has_its_answer() -> None:
    """After a change: `.venv/bin/python tools/projects.py --answers`, and read the difference."""
    assert len(SAMPLES) == 32
    for sample in SAMPLES:
        expected = sample.answers.read_text(encoding="utf-8")
        assert projects.answers_text(sample) == expected, sample.name


def test_every_folder_is_in_the_list_and_few_fail() -> None:
    folders = {path.name for path in projects.FOLDER.iterdir() if path.is_dir()}
    assert folders == {sample.name for sample in SAMPLES}
    reasons = [sample.fails for sample in SAMPLES if sample.fails]
    # Those from a git host lock where it can be reached.
    assert len([reason for reason in reasons if "git host" not in reason]) <= 5
    page = projects.PAGE.read_text(encoding="utf-8")
    assert "25 of 32 lock." in page
    for sample in SAMPLES:
        assert f"| {sample.name} |" in page
