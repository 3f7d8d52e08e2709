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
    shown = []
    for answer in answers:
        if not only_left_out or answer.outcome is Outcome.LEFT_OUT:
            shown.append((_place(answer), _text(answer), _verdict(answer)))
    places = max((len(place) for place, _, _ in shown), default=0)
    texts = max((len(text) for _, text, _ in shown), default=0)
    for place, text, verdict in shown:
        yield f"{place:{places}}  {text:{texts}}  {verdict}"


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
    files = ", ".join(dict.fromkeys(clean(answer.file) for answer in answers))
    counts = Counter(answer.outcome for answer in answers)
    taken = counts[Outcome.TAKEN]
    options = counts[Outcome.BECAME]
    left_out = counts[Outcome.LEFT_OUT]
    return f"{files or 'the files'}: {taken} taken, {options} became options, {left_out} left out"
