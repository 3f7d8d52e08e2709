"""The README's pictures of an accepted and of a refused image: what `envbuilder accept` really said, as SVG.

    .venv/bin/python bench/pictures.py [IMAGE]

The refused one is the image with one word of torch changed. Takes two runs of the suite, about two minutes.
"""

import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
IMAGE = "envbuilder:cu117-torch2.0.1-py3.9-debian11"
BROKEN = "envbuilder-broken:1"
DOCKERFILE = """FROM {image}
USER 0
RUN sed -i 's/weight, bias, eps, torch.backends/weight, bias, 0.1, torch.backends/' {site}/torch/nn/functional.py
USER 1000
"""
SITE = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
WIDTH = 110


def said(*words: str) -> list[str]:
    """What a command prints, both streams, coloured as on a terminal."""
    env = {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH)}
    done = subprocess.run(
        [
            "env",
            *(f"{name}={value}" for name, value in env.items()),
            sys.executable,
            "-m",
            "envbuilder",
            *words,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()


def draw(name: str, command: str, lines: list[str]) -> None:
    """Lines of a terminal as docs/pictures/NAME.svg, without a font from elsewhere."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    for line in [f"$ {command}", *lines]:
        console.print(Text.from_ansi(line))
    plain = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    plain = plain.replace("Fira Code", "ui-monospace, Menlo, Consolas")
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.svg").write_text(
        console.export_svg(title="envbuilder", code_format=plain, unique_id=name),
        encoding="utf-8",
        newline="\n",
    )


def tail(lines: list[str], first: str) -> list[str]:
    """The last of the lines, from the one that begins with a word."""
    start = next(
        number
        for number, line in enumerate(lines)
        if Text.from_ansi(line).plain.startswith(first)
    )
    return lines[start:]


def main() -> None:
    image = sys.argv[1] if len(sys.argv) > 1 else IMAGE
    draw(
        "passed",
        f"envbuilder accept {image}",
        tail(said("accept", image, "--fresh"), "image"),
    )
    site = subprocess.run(
        ["docker", "run", "--rm", image, "python", "-c", SITE],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    lines = DOCKERFILE.format(image=image, site=site)
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", BROKEN, "-"],
        input=lines,
        text=True,
        check=True,
    )
    draw(
        "failed",
        f"envbuilder accept {BROKEN}",
        tail(said("accept", BROKEN, "--fresh"), "image"),
    )
    subprocess.run(
        ["docker", "rmi", "--force", BROKEN], check=True, capture_output=True
    )


if __name__ == "__main__":
    main()
