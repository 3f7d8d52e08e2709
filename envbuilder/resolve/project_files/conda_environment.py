"""conda's environment.yml: its packages under the names that the package index has, and what needs no wheel."""

import re
from collections.abc import Iterator
from dataclasses import replace

import yaml

from envbuilder.resolve.project_files.requirements_txt import read_requirements
from envbuilder.resolve.project_files.statements import (
    FileLine,
    FileProblem,
    FileStatement,
    StatementKind,
    file_line,
    left_out,
    option,
    package,
    problem,
    requires_python,
)

_SPEC = re.compile(
    r"(?:(?P<channel>[A-Za-z0-9_./:-]+)::)?(?P<name>[A-Za-z0-9_.-]+)"
    r"(?:\[[^\]]*\])?(?P<version>[ =<>!~][^=]*(?:=[^=]*)*)?"
)
_CLAUSES = re.compile(r"(?:(?:==|!=|<=|>=|<|>|~=)\s*[0-9][A-Za-z0-9.*+!-]*,?\s*)+")
_PLAIN = re.compile(r"[0-9][A-Za-z0-9.+!]*(?:\.\*)?")
_CUDA_IN_BUILD = re.compile(
    r"cuda(?P<cuda>[0-9]{1,2}\.[0-9])(?:.*cudnn(?P<cudnn>[0-9]+(?:\.[0-9]+)*))?"
)
# conda's name → the index's, where they differ.
_NAMES = {
    "pytorch": "torch",
    "pytorch-gpu": "torch",
    "pytorch-lightning": "pytorch-lightning",
    "opencv": "opencv-python",
    "py-opencv": "opencv-python",
    "matplotlib-base": "matplotlib",
    "tensorboardx": "tensorboardX",
    "faiss": "faiss-cpu",
    "pytables": "tables",
    "huggingface_hub": "huggingface-hub",
    "python-dateutil": "python-dateutil",
    "msgpack-python": "msgpack",
    "attrs": "attrs",
    "brotlipy": "brotlipy",
    "pysoundfile": "soundfile",
    "ipython": "ipython",
    "rouge-score": "rouge-score",
    "py-xgboost": "xgboost",
}
_CUDA = frozenset({"pytorch-cuda", "cudatoolkit", "cuda-version"})
_CUDA_TOOLKIT = frozenset(
    {"cuda", "cuda-toolkit", "cuda-nvcc", "cuda-runtime", "cudatoolkit-dev"}
)
_WITH_PYTHON = frozenset({"pip", "setuptools", "wheel", "conda", "mamba", "pip-tools"})
# conda's name → Debian's, of programs that no wheel brings.
_SYSTEM = {
    "ffmpeg": "ffmpeg",
    "git": "git",
    "git-lfs": "git-lfs",
    "libsndfile": "libsndfile1",
    "sox": "sox",
    "tesseract": "tesseract-ocr",
    "poppler": "poppler-utils",
    "graphviz": "graphviz",
    "ninja": "ninja-build",
    "cmake": "cmake",
    "wget": "wget",
    "curl": "curl",
    "make": "make",
    "openmpi": "openmpi-bin",
}
_OF_CONDA = re.compile(
    r"_.*|lib(?!rosa).*|mkl.*|blas|openblas|openssl|ca-certificates|certifi|zlib|xz|sqlite|tk|readline|ncurses|ld_impl.*"
    r"|bzip2|zstd|lz4-c|freetype|jpeg|lcms2|giflib|gmp|gnutls|nettle|intel-openmp|llvm-openmp|openh264|lame|cuda-.*"
    r"|pytorch-mutex|torchtriton|gcc.*|gxx.*|cxx-compiler|c-compiler|compilers|binutils.*|sysroot.*|nccl|icu|expat|python_abi"
    r"|tzdata|yaml|krb5|brotli.*|aom|x264|dav1d|fontconfig|glib|harfbuzz|cairo|pango|pixman|qt.*|gstreamer.*"
)
_RANGES = ("<", ">", "!", "~")
_LARGEST = 200_000  # characters: an exported environment has a tenth
_DEEPEST = 8
_LIBRARY = "a library or compiler of conda's: wheels bring theirs"


def read_environment(text: str, file: str) -> Iterator[FileStatement]:
    """What each entry of an environment.yml says. Raises `FileProblem` for what is none."""
    for key, value in _top_level(text, file):
        name = key.value
        line = _line_of(key, file, text)
        if name == "dependencies":
            yield from _dependencies(value, file, text)
        elif name == "channels":
            for item in _items(value, file):
                yield left_out(
                    _line_of(item, file, text),
                    "packages come from the package index, not from conda",
                )
        elif name == "name":
            yield left_out(line, "an image has its stack's name")
        else:
            yield left_out(line, "of conda alone")


def _top_level(text: str, file: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    root = _composed(text, file)
    if not isinstance(root, yaml.MappingNode):
        raise FileProblem(f"{file}: it has no list of dependencies")
    pairs = []
    for key, value in root.value:
        if isinstance(key, yaml.ScalarNode):
            pairs.append((key, value))
    if not any(key.value == "dependencies" for key, _ in pairs):
        raise FileProblem(f"{file}: it has no list of dependencies")
    return pairs


def _composed(text: str, file: str) -> yaml.Node | None:
    """The nodes of the file, none of which becomes an object. Raises `FileProblem` for what is no YAML."""
    if len(text) > _LARGEST:
        raise FileProblem(f"{file}: it is too large for an environment")
    try:
        _check_events(text, file)
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        place = file
        mark = error.problem_mark
        if mark:
            place += f":{mark.line + 1}"
        message = f"{place}: it is no YAML: {error.problem}"
        raise FileProblem(message) from None
    except (yaml.YAMLError, RecursionError):
        raise FileProblem(f"{file}: it is no YAML") from None


def _check_events(text: str, file: str) -> None:
    """Refuse aliases, which could repeat a node many times, and what is nested more deeply than any environment."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        number = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise FileProblem(f"{file}:{number}: aliases are not accepted")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise FileProblem(f"{file}:{number}: it is nested too deeply")


def _line_of(node: yaml.Node, file: str, text: str) -> FileLine:
    number = node.start_mark.line
    lines = text.splitlines()
    content = ""
    if number < len(lines):
        content = lines[number].strip()
        content = content.removeprefix("- ")
    return file_line(file, number + 1, content)


def _items(node: yaml.Node, file: str) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.ScalarNode) and not node.value:
        return []
    number = node.start_mark.line + 1
    raise FileProblem(f"{file}:{number}: it must be a list")


def _dependencies(node: yaml.Node, file: str, text: str) -> Iterator[FileStatement]:
    for item in _items(node, file):
        if isinstance(item, yaml.ScalarNode):
            yield from read_dependency(_line_of(item, file, text), item.value)
        elif isinstance(item, yaml.MappingNode):
            yield from _pip_list(item, file, text)
        else:
            number = item.start_mark.line + 1
            raise FileProblem(
                f"{file}:{number}: a dependency is a name or a list of pip's"
            )


def _pip_list(node: yaml.MappingNode, file: str, text: str) -> Iterator[FileStatement]:
    for key, value in node.value:
        if key.value != "pip":
            line = _line_of(key, file, text)
            yield left_out(line, "of conda alone")
            continue
        for item in _items(value, file):
            number = item.start_mark.line + 1
            content = ""
            if isinstance(item, yaml.ScalarNode):
                content = item.value
            # Each item is a line of a requirements file.
            for statement in read_requirements(content, file):
                line = file_line(file, number, content)
                yield replace(statement, line=line)


def read_dependency(line: FileLine, text: str) -> Iterator[FileStatement]:
    """What one package of conda's says, in a file or on a command line."""
    match = _SPEC.fullmatch(text.split(" #", maxsplit=1)[0].strip())
    if not match:
        raise problem(line, "is not a package of conda's")
    name = match["name"].lower()
    version, build = _version_and_build(match["version"] or "")
    if name == "python":
        yield from _python(line, version)
    elif name in _CUDA:
        yield from _cuda(line, version)
    elif name in _CUDA_TOOLKIT:
        yield from _cuda(line, version, soft=True)
    elif name == "cudnn":
        yield _prefix_option(line, "cudnn", version, soft=True)
    elif name == "cpuonly":
        yield option(line, "flavour", "cpu")
    elif name in _WITH_PYTHON:
        yield left_out(line, "an image is installed with uv")
    elif name in _SYSTEM:
        yield FileStatement(
            line=line, kind=StatementKind.SYSTEM_PACKAGE, value=_SYSTEM[name]
        )
    elif _OF_CONDA.fullmatch(name):
        yield left_out(line, _LIBRARY)
    else:
        clauses = _clauses(version)
        if clauses is None:
            yield left_out(line, "its version is written as only conda reads it")
            return
        yield package(line, f"{_NAMES.get(name, name)}{clauses}")
        yield from _of_build(line, name, build)


def _version_and_build(text: str) -> tuple[str, str]:
    """`=1.2`, `py39_0` of `=1.2=py39_0`; a version alone may follow a blank."""
    text = text.strip()
    if text.startswith(_RANGES):
        return text, ""
    is_exact = text.startswith("==")
    is_fuzzy = text.startswith("=") and not is_exact
    rest = text.lstrip("=")
    version, _, build = rest.partition("=")
    version, _, _ = version.strip().partition(" ")
    if version in ("", "*"):
        return "", build
    if not is_fuzzy or build or "*" in version:
        # With a build string, or without the fuzzy `=`, it is this very version.
        return f"=={version}", build
    return f"=={version}.*", build


def _clauses(version: str) -> str | None:
    """conda's bounds as PEP 440 has them; None for several alternatives, and for what is no version."""
    if not version or _CLAUSES.fullmatch(version):
        return version
    return None


def _number(version: str) -> str:
    """`11.7` of `==11.7.*`; "" for a range."""
    number = version.removeprefix("==").removesuffix(".*")
    return number if _PLAIN.fullmatch(number) else ""


def _prefix_option(
    line: FileLine, name: str, version: str, *, soft: bool = False
) -> FileStatement:
    number = _number(version)
    if not number:
        return left_out(line, f"it names no version of {name}")
    return option(line, name, number, soft=soft)


def _cuda(
    line: FileLine, version: str, *, soft: bool = False
) -> Iterator[FileStatement]:
    number = _number(version)
    if not number:
        yield left_out(line, "it names no version of CUDA")
        return
    yield option(line, "cuda", ".".join(number.split(".")[:2]), soft=soft)


def _python(line: FileLine, version: str) -> Iterator[FileStatement]:
    number = _number(version)
    if number and "." in number:
        yield option(line, "python", ".".join(number.split(".")[:2]))
    elif version and _clauses(version):
        yield requires_python(line, version)
    else:
        yield left_out(line, "it names no version of Python")


def _of_build(line: FileLine, name: str, build: str) -> Iterator[FileStatement]:
    """`py3.10_cuda11.7_cudnn8.5.0_0`: the CUDA and cuDNN that conda's torch was built for."""
    if _NAMES.get(name) != "torch":
        return
    found = _CUDA_IN_BUILD.search(build)
    if found:
        cuda = found["cuda"]
        cudnn = found["cudnn"]
        yield option(line, "cuda", cuda)
        if cudnn:
            yield option(line, "cudnn", cudnn, soft=True)
    elif "cpu" in build:
        yield option(line, "flavour", "cpu")
