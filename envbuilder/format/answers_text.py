"""What became of each line of a project's files, as a table."""

from collections import Counter
from collections.abc import Iterator, Sequence

from envbuilder.console import clean
from envbuilder.resolve.project_files.combination import LineAnswer, Outcome

_WIDEST = 60  # characters of a line that is shown


def answers_lines(
    answers: Sequence[LineAnswer], *, only_left_out: bool = False
) -> Iterator[str]:
    """`requirements.txt:3  torch==2.0.1+cu117  became --torch 2.0.1 --cuda 11.7`, one line for each."""
    shown = list(answers)
    if only_left_out:
        shown = [item for item in answers if item.outcome is Outcome.LEFT_OUT]
    places = 0
    texts = 0
    for answer in shown:
        place = _place(answer)
        text = _text(answer)
        places = max(places, len(place))
        texts = max(texts, len(text))
    for answer in shown:
        place = _place(answer)
        place = place.ljust(places)
        text = _text(answer)
        text = text.ljust(texts)
        verdict = _verdict(answer)
        yield f"{place}  {text}  {verdict}"


def _place(answer: LineAnswer) -> str:
    place = f"{answer.file}:{answer.line}" if answer.line else answer.file
    return clean(place)


def _text(answer: LineAnswer) -> str:
    text = clean(answer.text)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _verdict(answer: LineAnswer) -> str:
    detail = clean(answer.detail)
    if answer.outcome is Outcome.BECAME:
        return f"became {detail}"
    if not detail:
        return answer.outcome.value
    return f"{answer.outcome.value}: {detail}"


def summary_line(answers: Sequence[LineAnswer]) -> str:
    """`requirements.txt: 12 taken, 3 became options, 2 left out`."""
    counts: Counter[Outcome] = Counter()
    files: dict[str, None] = {}
    for answer in answers:
        name = clean(answer.file)
        files[name] = None
        counts[answer.outcome] += 1
    taken = counts[Outcome.TAKEN]
    options = counts[Outcome.BECAME]
    left_out = counts[Outcome.LEFT_OUT]
    names = ", ".join(files)
    return f"{names}: {taken} taken, {options} became options, {left_out} left out"
