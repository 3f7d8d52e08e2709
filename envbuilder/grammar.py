"""What external text may contain: one closed grammar for each kind of value, ASCII unless it is prose.

Text from a lock, a catalog, `envbuilder.toml` or the command line has one of these types before it becomes an argument
of a command, a path, or a line of a Dockerfile, YAML, HCL, JSON or shell. msgspec checks the annotated types of records
when it decodes them; parsers of single values call `matches`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

JsonObject = Mapping[str, Any]
"""An object of JSON as it comes from outside: whoever reads a value checks it."""

LONGEST = 255  # characters of a name
LONGEST_TEXT = 4000  # characters of prose
MOST_BYTES = 1 << 44  # 16 TiB: no wheel and no image is larger

YAML_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})
"""Names that YAML 1.1 does not read as strings."""

_WORDS: dict[str, str] = {}
"""Pattern → its description, for messages: people cannot read the pattern."""


def _kind(words: str, pattern: str, longest: int = LONGEST) -> msgspec.Meta:
    # msgspec searches, so the pattern is anchored; `$` would allow a line break at the end.
    whole = rf"\A(?:{pattern})\Z"
    _WORDS[whole] = words
    return msgspec.Meta(pattern=whole, max_length=longest)


def _pattern_of(kind: object) -> str:
    """The pattern of a kind, to be a part of another's."""
    whole: str = kind.__metadata__[0].pattern  # type: ignore[attr-defined]
    return whole.removeprefix(r"\A(?:").removesuffix(r")\Z")


# Not printable: control characters (C0, DEL, C1), line and paragraph separators, marks and overrides of
# direction, characters of no width, tags, surrogates, and what XML 1.0 cannot hold.
UNPRINTABLE = (
    "\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f"
)

_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]{1,5})?/)?"
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_REPOSITORY = rf"{_HOST}{_PATH}(?:/{_PATH})*"
_DIGEST = r"sha256:[0-9a-f]{64}"
_NUMBERS = r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,3}"
_RELEASE = r"(?:[0-9]{1,6}!)?[0-9]{1,9}(?:\.[0-9]{1,9}){0,7}"
_SUFFIX = r"(?:(?:a|b|rc)[0-9]{1,9})?(?:\.post[0-9]{1,9})?(?:\.dev[0-9]{1,9})?"
_LOCAL = r"(?:\+[a-z0-9]+(?:\.[a-z0-9]+)*)?"
_CLAUSE = (  # PEP 440, in its normal form: what packaging and uv read in the same way
    rf"(?:(?:==|!=) ?{_RELEASE}(?:\.\*|{_SUFFIX}{_LOCAL})|(?:<=|>=|<|>) ?{_RELEASE}{_SUFFIX}"
    rf"|~= ?(?=[0-9!]*\.){_RELEASE}{_SUFFIX})"
)
_CLAUSES = rf"{_CLAUSE}(?: ?, ?{_CLAUSE})*"
_PROJECT = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
# Environment markers (PEP 508) that packaging and uv read in the same way, with one level of parentheses. What depends
# on the kernel that a build happens to run on, such as platform_release, is not among them.
_OF_PYTHON = r"python(?:_full)?_version"
_OF_PLATFORM = (
    r"(?:os_name|sys_platform|platform_machine|platform_system"
    r"|platform_python_implementation|implementation_name)"
)
_NUMBER = r"[0-9]{1,4}(?:\.[0-9]{1,4}){0,3}"


def _in_quotes(value: str) -> str:
    return f"(?:\"{value}\"|'{value}')"


_MARKER_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_MARKER_CLAUSE = (
    rf"(?:{_OF_PYTHON} ?(?:<=|>=|<|>) ?{_in_quotes(_NUMBER)}"
    rf"|{_OF_PYTHON} ?(?:==|!=) ?{_in_quotes(_NUMBER + r'(?:[.][*])?')}"
    rf"|{_OF_PYTHON} ?~= ?{_in_quotes(r'[0-9]{1,4}[.]' + _NUMBER)}"
    rf"|{_OF_PYTHON} (?:not )?in {_in_quotes(_NUMBER + r'(?:,? ' + _NUMBER + r'){0,15}')}"
    rf"|{_OF_PLATFORM} ?(?:==|!=) ?{_in_quotes(_MARKER_WORD)}"
    rf"|{_OF_PLATFORM} (?:not )?in {_in_quotes(_MARKER_WORD + r'(?:,? ' + _MARKER_WORD + r'){0,15}')}"
    rf"|{_in_quotes(_MARKER_WORD)} ?(?:==|!=) ?{_OF_PLATFORM}"
    rf"|{_in_quotes(_MARKER_WORD)} (?:not )?in {_OF_PLATFORM})"
)
_MARKER_GROUP = rf"{_MARKER_CLAUSE}(?: (?:and|or) {_MARKER_CLAUSE}){{0,15}}"
_MARKER_TERM = rf"(?:{_MARKER_CLAUSE}|\({_MARKER_GROUP}\))"
_MARKER = rf"{_MARKER_TERM}(?: (?:and|or) {_MARKER_TERM}){{0,15}}"

Prose = Annotated[str, _kind("one line of text", rf"[^{UNPRINTABLE}]*", LONGEST_TEXT)]
Day = Annotated[str, _kind("a day, YYYY-MM-DD", r"[0-9]{4}-[0-9]{2}-[0-9]{2}")]
Numbers = Annotated[str, _kind("numbers with dots, such as 525.60.13", _NUMBERS)]
NumbersOrNone = Annotated[
    str, _kind('numbers with dots, such as 525.60.13, or ""', rf"{_NUMBERS}|")
]

DebianPackage = Annotated[
    str, _kind("the name of a Debian package", r"[a-z0-9][a-z0-9+.-]+")
]
Soname = Annotated[
    str,
    _kind(
        "the name of a shared library, such as libGL.so.1",
        r"[A-Za-z0-9][A-Za-z0-9._+-]*\.so(?:\.[A-Za-z0-9_.+-]+)?",
    ),
]
CodeName = Annotated[
    str,
    _kind('the code name of a release, such as bookworm, or ""', r"[a-z][a-z0-9-]*|"),
]
SystemName = Annotated[
    str,
    _kind(
        "a system and its release, such as debian 12",
        r"[a-z]+(?: (?:[0-9]+(?:\.[0-9]+)?|[a-z]+))?",
    ),
]

Project = Annotated[
    str, _kind("a normalized package name", r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
]
Requirement = Annotated[
    str,
    _kind(
        "a package with an optional version and an optional marker",
        rf"{_PROJECT}(?:\[{_PROJECT}(?:,{_PROJECT})*\])? ?(?:{_CLAUSES})?(?: ?; ?{_MARKER})?",
    ),
]
Specifier = Annotated[
    str, _kind('bounds of a version, such as <82, or ""', rf"(?:{_CLAUSES})?")
]
WheelFile = Annotated[
    str,
    _kind("the file name of a wheel", r"[A-Za-z0-9_.]+(?:-[A-Za-z0-9_.+!]+){4,5}\.whl"),
]
Sha256 = Annotated[str, _kind("a sha256 in hexadecimal digits", r"[0-9a-f]{64}")]
VersionText = Annotated[str, _kind("a version", r"[0-9A-Za-z][0-9A-Za-z.!+_-]{0,63}")]
Size = Annotated[int, msgspec.Meta(ge=0, le=MOST_BYTES)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
Seconds = Annotated[
    float, msgspec.Meta(ge=0, le=253_402_300_799)
]  # since 1970, until the end of year 9999
Days = Annotated[int, msgspec.Meta(ge=0, le=3650)]
IndexName = Annotated[
    str, _kind("the name of an index, such as pytorch-cu118", r"[a-z][a-z0-9.-]*")
]
GpuName = Annotated[
    str,
    _kind(
        "the name of a GPU, such as RTX 3090", r"[A-Za-z0-9][A-Za-z0-9 .+()/-]{0,95}"
    ),
]
GpuArch = Annotated[
    str, _kind("a GPU architecture, such as sm_86", r"(?:sm|compute)_[0-9]{2,3}[af]?")
]
Word = Annotated[
    str,
    _kind(
        "a word of letters, digits, dots, hyphens and underscores",
        r"[A-Za-z][A-Za-z0-9._-]*",
    ),
]

# A place that a package comes from, next to an index. No blank, no quote, and nothing that a shell reads: what follows
# `@` in a requirement ends at a blank. No query and no password, which would be written into the lock.
_PLACE = rf"[^\s\"'`$\\;#<>|&?*{UNPRINTABLE}]"
_NET_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
_NET_PATH = r"(?:/[A-Za-z0-9._~%+,=!-]+)+"
_SUBFOLDER = r"(?!\.\.?(?:/|\Z))[A-Za-z0-9._+-]+(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._+-]+)*"
_GIT_REF = r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/+-]*"
_COMMIT = r"[0-9a-f]{40}"
_GIT_URL = (
    rf"(?:https?://{_NET_HOST}{_NET_PATH}|ssh://(?:[A-Za-z0-9][A-Za-z0-9._-]*@)?{_NET_HOST}{_NET_PATH}"
    rf"|file://(?:/{_PLACE}+)+)"
)
_FOLDER_PATH = rf"\.\.?(?:/{_PLACE}*)?"
_FILE_PATH = rf"/{_PLACE}+"

GitUrl = Annotated[
    str,
    _kind(
        "the address of a git repository, such as https://github.com/owner/repository",
        _GIT_URL,
        1000,
    ),
]
GitRef = Annotated[str, _kind("a commit, a tag or a branch", _GIT_REF)]
Commit = Annotated[str, _kind("a commit in 40 hexadecimal digits", _COMMIT)]
CommitOrNone = Annotated[
    str, _kind('a commit in 40 hexadecimal digits, or ""', rf"{_COMMIT}|")
]
Subfolder = Annotated[str, _kind("a path below a folder, without ..", _SUBFOLDER, 1000)]
SubfolderOrNone = Annotated[
    str, _kind('a path below a folder, without .., or ""', rf"(?:{_SUBFOLDER})?", 1000)
]
LocalPath = Annotated[
    str,
    _kind(
        "a path that begins with ./, ../ or /, without blanks, quotes and what shells read",
        rf"{_FOLDER_PATH}|{_FILE_PATH}",
        1000,
    ),
]
FileUrl = Annotated[
    str,
    _kind(
        "an address of a file, such as https://host/name-1.0-py3-none-any.whl, without password and query",
        rf"https?://{_NET_HOST}{_NET_PATH}",
        2000,
    ),
]
SourceOrigin = Annotated[
    str,
    _kind(
        "a repository, a path, an address of a file, or the file name of a source package",
        rf"{_GIT_URL}|{_FOLDER_PATH}|{_FILE_PATH}|https?://{_NET_HOST}{_NET_PATH}|[A-Za-z0-9][A-Za-z0-9._+-]*",
        2000,
    ),
]
ArchiveFile = Annotated[
    str,
    _kind(
        "the file name of a source archive or of a wheel",
        r"[A-Za-z0-9][A-Za-z0-9._+!-]*\.(?:tar|tar\.gz|tgz|tar\.bz2|tar\.xz|zip|whl)",
    ),
]
_MODULE = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"
BuildBackend = Annotated[
    str,
    _kind(
        'a build backend, such as setuptools.build_meta, or ""',
        rf"(?:{_MODULE}(?::{_MODULE})?)?",
    ),
]
Variable = Annotated[
    str, _kind("the name of a variable, such as DS_BUILD_OPS", r"[A-Z][A-Z0-9_]*")
]
VariableValue = Annotated[
    str,
    _kind(
        "the value of a variable, of letters, digits and ._;:/+=- alone",
        r"[A-Za-z0-9._;:/+=-]*",
    ),
]
_LOCATION = (
    rf"(?:git\+{_GIT_URL}(?:@{_GIT_REF})?(?:#subdirectory={_SUBFOLDER})?|{_FOLDER_PATH}|file://{_FILE_PATH}"
    rf"|https?://{_NET_HOST}{_NET_PATH})"
)
PackageSpec = Annotated[
    str,
    _kind(
        "a package with an optional version, or with the place that it comes from",
        rf"{_pattern_of(Requirement)}|{_PROJECT}(?:\[{_PROJECT}(?:,{_PROJECT})*\])? @ {_LOCATION}",
        2400,
    ),
]
ImageReference = Annotated[
    str, _kind("an image reference", rf"{_REPOSITORY}(?::{_TAG})?(?:@{_DIGEST})?")
]
ImageTag = Annotated[str, _kind("an image name with a tag", rf"{_REPOSITORY}:{_TAG}")]
ImageTemplate = Annotated[
    str,
    _kind(
        "an image reference that may contain {python}, {release} or {number}",
        r"[a-z0-9](?:[A-Za-z0-9._/:-]|\{(?:python|release|number)\})*",
    ),
]
ImageSystem = Annotated[
    str,
    _kind(
        "the system in a tag of nvidia/cuda, such as ubuntu22.04", r"[a-z]+[0-9.]*|\*"
    ),
]
ImageTagPattern = Annotated[
    str, _kind("a tag of nvidia/cuda", r"[A-Za-z0-9_][A-Za-z0-9_.*-]{0,127}")
]
Digest = Annotated[str, _kind("a digest, sha256:…", _DIGEST)]
CheckId = Annotated[
    str,
    _kind("the id of a check, such as training.loss", r"[A-Za-z0-9_][A-Za-z0-9_.-]*"),
]
StackName = Annotated[
    str, _kind("the name of a stack", r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
]
ARM64 = "linux/arm64"
PLATFORMS = ("linux/amd64", ARM64)
IndexUrl = Annotated[
    str,
    _kind(
        "the address of a package index",
        r"(?:https?|file)://[A-Za-z0-9._~:/?#\[\]@!$&()*+,;=%-]+",
        2000,
    ),
]
_PAGE = r"https?://[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%+-]+)*/?"
PageUrl = Annotated[
    str, _kind("the address of a page, without login and query", _PAGE, 2000)
]
PageUrlOrNone = Annotated[
    str,
    _kind('the address of a page, without login and query, or ""', rf"(?:{_PAGE})|"),
]
TorchIndexUrl = Annotated[
    str,
    _kind(
        "the address of a mirror of PyTorch's index",
        r"(?:find-links\+)?https?://(?:[A-Za-z0-9._~%!$&()*+;=-]+(?::[A-Za-z0-9._~%!$&()*+;=-]*)?@)?"
        r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?(?:/(?:[A-Za-z0-9._~%+-]|\{tag\})+)*/?",
        2000,
    ),
]
_LOGIN = r"(?:[A-Za-z0-9._~!*+%-]+(?::[A-Za-z0-9._~!*+%-]*)?@)?"
_NETWORK_HOST = (
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)
_URL_PATH = r"(?:/[A-Za-z0-9._~%+-]+)*"
AptMirror = Annotated[
    str,
    _kind(
        "the address of a mirror of Debian's packages, ending in /debian",
        rf"https?://{_LOGIN}{_NETWORK_HOST}{_URL_PATH}/debian",
        1000,
    ),
]
RegistryMirror = Annotated[
    str,
    _kind(
        "a registry, with a path or without",
        rf"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?:[0-9]{{1,5}}|localhost"
        rf"|[a-zA-Z0-9][a-zA-Z0-9-]*(?:\.[a-zA-Z0-9-]+)+)(?:/{_PATH})*",
    ),
]
PublicUrl = Annotated[
    str,
    _kind(
        "an address without credentials",
        rf"https?://{_NETWORK_HOST}{_URL_PATH}",
        1000,
    ),
]
Path = Annotated[str, _kind("a path", rf"[^{UNPRINTABLE}]+", 4096)]
CacheSpec = Annotated[
    str,
    _kind(
        "a build cache in buildx's syntax", r"[A-Za-z0-9][A-Za-z0-9._/:@=,+~-]*", 1000
    ),
]
FolderName = Annotated[
    str, _kind("the name of a folder", r"[A-Za-z0-9][A-Za-z0-9._+-]*")
]
Setting = Annotated[str, _kind("one line of text", rf"[^{UNPRINTABLE}]*", 1000)]
Platform = Annotated[str, _kind(f"one of {', '.join(PLATFORMS)}", "|".join(PLATFORMS))]


_UNPRINTABLE = re.compile(f"[{UNPRINTABLE}]")
UNPRINTABLE_IN_LINES = re.compile(f"(?!\n)[{UNPRINTABLE}]")


def printable(text: str, longest: int = LONGEST_TEXT) -> str:
    """`text` as `Prose`: unprintable characters become question marks, and long text is cut."""
    clean = _UNPRINTABLE.sub("?", text)
    if len(clean) <= longest:
        return clean
    return clean[: longest - 1] + "…"


def one_line(text: str, longest: int = LONGEST_TEXT) -> str:
    """`text` as `Prose`, with single blanks for unprintable characters, line breaks and runs of blanks."""
    # Text far beyond the bound is not processed: it may be millions of characters.
    words = _UNPRINTABLE.sub(" ", text[: 4 * longest]).split()
    return printable(" ".join(words), longest)


def matches(kind: object, text: str) -> bool:
    """Whether `text` is of one of the kinds above."""
    meta = kind.__metadata__[0]  # type: ignore[attr-defined]
    return len(text) <= meta.max_length and re.search(meta.pattern, text) is not None


def words(kind: object) -> str:
    """The description of a kind, for a message."""
    return _WORDS[kind.__metadata__[0].pattern]  # type: ignore[attr-defined]


def explained(message: str) -> str:
    """A message of msgspec's with the description of a kind instead of its pattern."""
    for pattern, kind in _WORDS.items():
        message = message.replace(f"`str` matching regex {pattern!r}", kind)
    return message
