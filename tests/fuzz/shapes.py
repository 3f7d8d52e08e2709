"""The shape of a rendered file, by the parser of its language: what a value must not change.

Instructions, keys, directives, the number of words and of expansions; not the values themselves. Two renders of stacks
that differ only in their values have the same shape.
"""

import io
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import hcl2
import yaml
from dockerfile_parse import DockerfileParser
from markdown_it import MarkdownIt
from packaging.requirements import Requirement

Shape = Any
_INSTRUCTIONS = frozenset(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL ONBUILD RUN SHELL STOPSIGNAL USER VOLUME "
    "WORKDIR".split()
)


@lru_cache(maxsize=512)
def shape(name: str, text: str) -> Shape:
    """The shape of a file of this name. Raises `ValueError` if it is not of its language."""
    for ending, read in _READERS.items():
        if name.endswith(ending):
            return read(text)
    raise ValueError(f"no parser for {name}")


def shell(text: str) -> Shape:
    """The words of a script: operators as they are, the rest as the number of its expansions."""
    lexer = shlex.shlex(_without_quoted_signs(text), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    return [
        token if token and set(token) <= set("();<>|&") else _expansions(token)
        for token in lexer
    ]


def _without_quoted_signs(text: str) -> str:
    """The script without comments, and with nothing in single quotes that would be a sign outside of them."""
    found: list[str] = []
    quote, escaped, comment = "", False, False
    for letter in text:
        starts = letter == "#" and not quote and (not found or found[-1].isspace())
        comment = (comment or starts) and letter != "\n"
        if comment:
            continue
        is_text = quote == "'" and letter in _SIGNS
        if letter in "'\"" and not escaped and quote in ("", letter):
            quote = "" if quote else letter
        escaped = letter == "\\" and not escaped and quote != "'"
        found.append("_" if is_text else letter)
    return "".join(found)


_SIGNS = "$`();<>|&#\\"


def _expansions(text: str) -> int:
    return text.count("$") + text.count("`")


def dockerfile(text: str) -> Shape:
    """Its instructions with their words; directives are comments before the first instruction."""
    structure = DockerfileParser(fileobj=io.BytesIO(text.encode())).structure
    found: list[Any] = []
    for part in structure:
        name, value = part["instruction"], part["value"]
        if name == "COMMENT":
            directive = (
                re.match(r"\s*(syntax|escape|check)\s*=", value) if not found else None
            )
            found += [("directive", directive[1])] if directive else []
        elif name not in _INSTRUCTIONS:
            raise ValueError(f"no instruction: {name!r}")
        elif name == "LABEL" or (name == "ENV" and "=" in value):
            found.append((name, [_pair(word) for word in shlex.split(value)]))
        elif name == "RUN":
            found.append((name, shell(value)))
        else:
            found.append(
                (name, len(value.split()), value.startswith("["), _expansions(value))
            )
    return found


def _pair(word: str) -> tuple[str, int]:
    name, _, value = word.partition("=")
    return name, _expansions(value)


def yaml_documents(text: str) -> Shape:
    """Its keys in order, also one that is there twice; of a scalar its type and what may be expanded in it."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return [_yaml(node) for node in yaml.compose_all(text, Loader=loader)]
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _yaml(node: Any, names_are_values: bool = False) -> Shape:
    if isinstance(node, yaml.MappingNode):
        return {
            "map": [
                _yaml_pair(key, value, names_are_values) for key, value in node.value
            ]
        }
    if isinstance(node, yaml.SequenceNode):
        return [_yaml(item) for item in node.value]
    tag = node.tag.rpartition(":")[2]
    if "\n" in node.value or node.style == "|":
        # Compose and Kubernetes expand in quotes too, but for $$.
        return tag, shell(node.value), node.value.replace("$$", "").count("$")
    return tag, _expansions(node.value)


def _yaml_pair(key: Any, value: Any, names_are_values: bool) -> Shape:
    """A key with its type; jobs of a workflow may have any name."""
    name = "" if names_are_values else str(key.value)
    if name == "args" and isinstance(value, yaml.SequenceNode):
        # No shell reads them; Kubernetes and Compose expand in them, but for $$.
        return name, [
            (item.tag, item.value.replace("$$", "").count("$")) for item in value.value
        ]
    return (
        key.tag.rpartition(":")[2],
        name,
        _yaml(value, names_are_values=name == "jobs"),
    )


def hcl(text: str) -> Shape:
    """Blocks, the first words of their labels' place, and attributes; of a text the number of its templates."""
    try:
        blocks = hcl2.loads(text)
    except Exception as error:  # lark's, which has several
        raise ValueError(f"no HCL: {error}") from error
    return {
        kind: [_block(kind, block) for block in found]
        for kind, found in blocks.items()
        if kind != "__comments__"
    }


def _block(kind: str, block: Mapping[str, Any]) -> Shape:
    """A variable's name is the template's; a target's and a group's is a stack's."""
    return [
        (label if kind == "variable" else "", _plain(body))
        for label, body in block.items()
    ]


def json_document(text: str) -> Shape:
    """Keys, types and expansions; a line of `devcontainer.json` that begins with // is a comment."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("//")]
    return _plain(json.loads("\n".join(lines), object_pairs_hook=list))


def lock_document(text: str) -> Shape:
    """Keys and types; nothing is expanded in it."""
    return _types(json.loads(text))


def toml(text: str) -> Shape:
    """Keys and types; nothing is expanded in it."""
    return _types(tomllib.loads(text))


def _types(value: Any) -> Shape:
    if isinstance(value, dict):
        return {key: _types(inner) for key, inner in value.items()}
    return (
        [_types(item) for item in value]
        if isinstance(value, list)
        else type(value).__name__
    )


def _plain(value: Any) -> Shape:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return "text", _expansions(value)
    return type(value).__name__


def requirements(text: str) -> Shape:
    """Lines of a requirements file: options as they are, of a package what it is made of."""
    found: list[Any] = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if line.startswith("-"):
            found.append(line)
            continue
        head = [word for word in words if not word.startswith("--")]
        wanted = Requirement(" ".join(head))
        hashes = sorted(
            {word.partition("=")[0] for word in words if word.startswith("--")}
        )
        found.append(
            (bool(wanted.url), bool(wanted.marker), len(wanted.specifier), hashes)
        )
    return found


def batch(text: str) -> Shape:
    """A shell script with directives in its comments."""
    code = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    directives = [
        line.partition("=")[0]
        for line in text.splitlines()
        if line.startswith("#SBATCH")
    ]
    return text.splitlines()[0], directives, shell("\n".join(code))


def variables(text: str) -> Shape:
    """A file of `NAME=value` lines in which everything is a comment."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def ignore_file(text: str) -> Shape:
    return [line[:1] for line in text.splitlines() if not line.startswith("#")]


def markdown(text: str) -> Shape:
    """The kinds of its blocks, and in them the kinds of spans."""
    found = []
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(text):
        inner = [
            child.type
            for child in token.children or ()
            if child.type not in ("text", "softbreak")
        ]
        found.append((token.type, inner))
    return found


_READERS: Mapping[str, Callable[[str], Shape]] = {
    "Dockerfile": dockerfile,
    ".dockerignore": ignore_file,
    ".yaml": yaml_documents,
    ".yml": yaml_documents,
    ".hcl": hcl,
    ".json": json_document,
    "envbuilder.lock": lock_document,
    ".toml": toml,
    ".txt": requirements,
    ".sbatch": batch,
    ".env.example": variables,
    "README.md": markdown,
    "/check": batch,
    "/image": batch,
    "/system/base.sh": str,  # copied as they are
    "/system/packages.sh": str,
    "/system/mirror.sh": str,
}
