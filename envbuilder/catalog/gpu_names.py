"""What GPUs are called: by NVIDIA's page, by `nvidia-smi`, by people, and which names are no GPU of NVIDIA's.

A name is read word by word, without what says nothing about the chip: the maker, the size of the memory, how it is
mounted, that it is in a laptop, an instance of a GPU that is split (MIG), the profile of a virtual GPU (vGPU).
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from packaging.version import Version

from envbuilder.catalog.gpus import is_jetson
from envbuilder.catalog.rows import Catalog, Gpu

_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")
_MAKERS = frozenset(
    {"nvidia", "geforce", "tesla", "quadro", "grid", "rtx", "gtx", "generation"}
)
_PACKAGING = frozenset(
    {"laptop", "mobile", "notebook", "embedded", "gpu", "graphics", "card", "edition"}
    | {
        "active",
        "lc",
        "ac",
        "ls",
        "oem",
        "lhr",
        "dgxs",
        "fhhl",
        "dgx",
        "hgx",
        "station",
    }
    | {"grace", "superchip", "hopper", "developer", "kit", "module", "nvgpu"}
)
_SAYS_NOTHING = _MAKERS | _PACKAGING | {""}
_BETWEEN = re.compile(r"[\s()\[\],-]+")
_LOOKS_LIKE_FIGURES = re.compile(r"(?<=[0-9])[ol]+(?![a-z])")
_MODEL = re.compile(r"([a-z]*)([0-9]+)[a-z]*")
_SHAPES = re.compile(
    r"[0-9]+gb?|sxm[0-9]*|pcie|hbm[0-9]e?|nvl[0-9]*"
)  # an H100 is an H100 however it is mounted
_MIG = re.compile(r"[\s-]+mig[\s-]+[0-9].*")  # "MIG 1g.10gb", "MIG 1c.3g.20gb+me"
_MAX_Q = re.compile(r"\b(with )?max-?q( design)?\b")
_MEMORY = re.compile(r"\b[0-9]+ ?gi?b\b")
# "-48Q", "-2B4", "-1-5CME", and "-12": what a vGPU has behind the name of its board.
_VGPU = re.compile(r"(.*?[a-z0-9])-(?:[0-9]{1,2}-)?[0-9]{1,3}(?:[abq]4?|c|cme)?")
_BOARD = re.compile(r"(.*[0-9])[a-z]{1,2}")  # A100DX, H100XM: variants of a board
_APART = re.compile(
    r"(?<=[0-9])(?=(ti|super)\b)|(?<=rtx)(?=a?[0-9])|(?<=gtx)(?=[0-9])|(?<=\bgt)(?=[0-9])"
)  # rtx3090ti, rtxa6000
# An MX 450 is an MX450. The Quadro 4000 is fifteen years older than the RTX 4000, which may also be called a Quadro.
_JOINED = re.compile(r"\b(mx|quadro) (?=[0-9])")
_SERIES = frozenset({"gtx", "rtx", "gt", "quadro", "tesla", "jetson"})
_MAX_SUGGESTIONS = 3

# NVIDIA sells different chips under one name, apart from one of these words: without it, the name means either.
_TELLING_WORDS = (frozenset({"ada"}), frozenset({"pascal"}))

_OTHER_MAKERS = (
    (
        "AMD",
        r"amd|radeon|instinct|firepro|fire ?gl|vega|navi|ryzen|rocm|rdna[0-9]?|cdna[0-9]?|gfx[0-9]{3,4}[a-z]?"
        r"|mi[0-9]{2,3}[a-z]?|rx ?-?[0-9]{3,4}m?|[0-9]{4} ?xtx?|r[579] [0-9]{3}x?|w[5-9][0-9]00x?",
    ),
    (
        "Intel",
        r"intel|arc|gaudi ?[0-9]?|habana|iris|uhd|hd graphics|battlemage|alchemist|ponte vecchio"
        r"|data cent(?:er|re) gpu (?:max|flex)|[ab](?:310|380|570|580|750|770)m?",
    ),
    ("Apple", r"apple|m[1-5](?: (?:pro|max|ultra))?"),
    ("Huawei", r"huawei|ascend|910[abc]|310p"),
    ("Google", r"google|tpu|v[2-6][ep]?(?:-[0-9]+)"),
    ("Moore Threads", r"moore threads|mtt|s[345]000"),
    ("Cambricon", r"cambricon|mlu ?[0-9]{3}"),
    ("Hygon", r"hygon|dcu"),
    ("Qualcomm", r"qualcomm|adreno"),
    ("Arm", r"mali"),
)


def find_gpus(name: str, catalog: Catalog) -> Sequence[Gpu]:
    """The rows that a GPU's name or a compute capability such as `8.6` can mean; several if the name is ambiguous."""
    if is_capability(name):
        return _rows_of_capability(name, catalog)
    rows = _rows_of(name, catalog)
    newest_first = sorted(rows, reverse=True)
    found = []
    for capability in newest_first:
        found.append(rows[capability])
    return found


def _rows_of_capability(capability: str, catalog: Catalog) -> list[Gpu]:
    for row in catalog.gpus:
        if str(row.capability) == capability:
            return [row]
    return []


def find_gpu(name: str, catalog: Catalog) -> Gpu | None:
    """The one row of a GPU's name or capability; None for an unknown or ambiguous name."""
    rows = find_gpus(name, catalog)
    return rows[0] if len(rows) == 1 else None


def is_capability(name: str) -> bool:
    """`8.6`, and not a name."""
    return _CAPABILITY.fullmatch(name) is not None


def needs_arm64(name: str, gpu: Gpu, catalog: Catalog) -> bool:
    """Whether the GPU of this name is one with an arm64 processor of its own: a Jetson, or with a Grace."""
    index = _index(catalog)
    if is_jetson(gpu):
        return True
    if not is_capability(name):
        return index.is_arm64(name)
    for other in gpu.names:
        if not index.is_arm64(other):
            return False
    return True


def other_maker(name: str) -> str | None:
    """Who makes a GPU of this name, if it is not NVIDIA: `AMD` for `Radeon RX 7900 XTX`."""
    text = name.lower()
    if "nvidia" in text or "geforce" in text:
        return None
    for maker, pattern in _OTHER_MAKERS:
        if re.search(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", text):
            return maker
    return None


# --- the names of a catalog ----------------------------------------------------------------------------------------

Rows = dict[Version, Gpu]
"""By compute capability: a name that has several is ambiguous."""


@dataclass(frozen=True, slots=True)
class NameIndex:
    """Every name of a catalog, as it is written and by its words."""

    whole: Mapping[str, Rows]
    words: Mapping[frozenset[str], Rows]
    arm64: frozenset[
        object
    ]  # names, whole and by words, of GPUs with an arm64 processor

    def is_arm64(self, name: str) -> bool:
        if _whole(name) in self.arm64:
            return True
        return any(words in self.arm64 for words in _readings(name))


@lru_cache(maxsize=4)
def _index(catalog: Catalog) -> NameIndex:
    whole: dict[str, Rows] = {}
    by_words: dict[frozenset[str], Rows] = {}
    arm64: set[object] = set()
    by_capability = {row.capability: row for row in catalog.gpus}
    for row in catalog.gpus:
        for name in row.names:
            _add(name, row, whole, by_words)
    for names in catalog.gpu_names:
        gpu = by_capability.get(names.capability)
        if gpu is None:
            continue  # a custom catalog can name what it has no row of
        gpu = replace(gpu, status=names.status, source=names.source)
        for name in names.names:
            _add(name, gpu, whole, by_words)
            if names.arm64:
                arm64.update((_whole(name), _words(name)))
    by_words.pop(
        frozenset(), None
    )  # of a name such as Grace Hopper, which is known as a whole only
    return NameIndex(whole, by_words, frozenset(arm64) - {frozenset()})


def _add(
    name: str,
    row: Gpu,
    whole: dict[str, Rows],
    by_words: dict[frozenset[str], Rows],
) -> None:
    """The first row that has the name stays: NVIDIA's page comes before other lists."""
    capability = row.capability
    rows_of_whole = whole.setdefault(_whole(name), {})
    rows_of_whole.setdefault(capability, row)
    rows_of_words = by_words.setdefault(_words(name), {})
    rows_of_words.setdefault(capability, row)


def _rows_of(name: str, catalog: Catalog) -> Rows:
    index = _index(catalog)
    rows = index.whole.get(_whole(name))
    if rows:
        return rows
    # A virtual GPU has its board's whole name, and nobody says Quadro of an Ada: there no word is missing.
    is_whole = _VGPU.fullmatch(_without_instance(name)) or "quadro" in name.lower()
    for words in _readings(name):
        found = dict(index.words.get(words, {}))
        if words and not is_whole:
            for word in _TELLING_WORDS:
                found |= index.words.get(words | word, {})
        if found:
            return found
    return {}


def _readings(name: str) -> Iterator[frozenset[str]]:
    """The words of a name; of a virtual GPU those of its board, and of the board that it is a variant of."""
    text = _without_instance(name)
    yield _words(text)
    vgpu = _VGPU.fullmatch(text)
    if vgpu is None:
        return
    board = vgpu[1].removesuffix(" dc")
    yield _words(board)
    variant = _BOARD.fullmatch(board)
    if variant:
        yield _words(variant[1])


# --- one name ------------------------------------------------------------------------------------------------------


def _whole(name: str) -> str:
    return name.lower().removeprefix("nvidia ").removeprefix("geforce ")


def _without_instance(name: str) -> str:
    """Without what says that it is a part of a GPU: `NVIDIA H100 80GB HBM3 MIG 1g.10gb`."""
    return _MIG.sub("", name.lower())


@lru_cache(maxsize=4096)
def _words(name: str) -> frozenset[str]:
    """A GPU's name without its maker, family and form: `NVIDIA A100-SXM4-80GB` → a100."""
    words = set(_split(name))
    has_grace = any(word.startswith("gb") for word in words)
    if "pro" in words or has_grace:
        words.discard("blackwell")  # all of them are
    return frozenset(words)


def _split(name: str) -> list[str]:
    text = name.lower()
    text = _MAX_Q.sub(" ", text)
    text = _MEMORY.sub(" ", text)
    text = _JOINED.sub(r"\1", text)
    text = _APART.sub(" ", text)
    words = []
    for word in _BETWEEN.split(text):
        if word in _SAYS_NOTHING:
            continue
        if _SHAPES.fullmatch(word):
            continue
        words.append(word)
    return words


# --- names that may be meant ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Model:
    """What tells one GPU of a maker from another: A6000 in two parts."""

    letters: str
    figures: str


def similar_gpus(name: str, catalog: Catalog) -> list[str]:
    """Names that may be meant by one that no GPU has: first those of the same words, then those spelt nearly so.

    All of one compute capability, or none: a hint for another architecture would be an image that does not run.
    """
    names = _names_of_same_words(name, catalog)
    if not names:
        names = _names_spelt_nearly(name, catalog)
    capabilities: set[Version] = set()
    for similar in names:
        rows = _rows_of(similar, catalog)
        capabilities.update(rows)
    if len(capabilities) != 1:
        return []
    return names[:_MAX_SUGGESTIONS]


def named_gpus(catalog: Catalog) -> Iterator[tuple[str, Version]]:
    """Every name, with a compute capability that it can mean."""
    for gpu in catalog.gpus:
        for name in gpu.names:
            yield name, gpu.capability
    for row in catalog.gpu_names:
        for name in row.names:
            yield name, row.capability


def _names_of_same_words(name: str, catalog: Catalog) -> list[str]:
    """Names that have all the words of the name."""
    words = _words(name)
    names: list[str] = []
    if not words:
        return names
    for other, _ in named_gpus(catalog):
        if words <= _words(other):
            names.append(other)
    return names


def _names_spelt_nearly(name: str, catalog: Catalog) -> list[str]:
    """Names whose model is that of the name but for a slip of the fingers: of those, the ones spelt most like it."""
    model = _model(name)
    families = _families(name)
    best = 0.0
    names: list[str] = []
    if model is None:
        return names
    for other, _ in named_gpus(catalog):
        if _are_strangers(families, _families(other)):
            continue
        likeness = _likeness(model, _model(other))
        if likeness > best:
            best = likeness
            names = []
        if likeness and likeness == best:
            names.append(other)
    return names


def _are_strangers(families: frozenset[str], others: frozenset[str]) -> bool:
    """Whether both names say of which family they are, and not of the same: a GTX 480 is no Quadro 410."""
    if not families or not others:
        return False
    return families.isdisjoint(others)


def _likeness(typed: Model, known: Model | None) -> float:
    """From 0, for another model, to 1."""
    if known is None:
        return 0
    if not _is_slip(typed, known):
        return 0
    matcher = difflib.SequenceMatcher(
        None,
        typed.figures,
        known.figures,
    )
    return matcher.ratio()


def _families(name: str) -> frozenset[str]:
    text = _APART.sub(" ", name.lower())
    return _SERIES & set(text.split())


def _as_typed(word: str) -> str:
    """With figures for the letters that look like them: h1oo."""
    return _LOOKS_LIKE_FIGURES.sub(_figures, word)


def _figures(letters: re.Match[str]) -> str:
    return letters[0].replace("o", "0").replace("l", "1")


def _model(name: str) -> Model | None:
    """The letters and the figures of a model: `rtx a6000` is an a6000."""
    for word in _split(name):
        text = _as_typed(word)
        parts = _MODEL.fullmatch(text)
        if parts:
            letters, figures = parts.groups()
            return Model(letters, figures)
    return None


def _is_slip(typed: Model, known: Model) -> bool:
    """Whether two models differ in figures only; another letter, or another first figure, is another family."""
    if typed.letters != known.letters:
        return False
    if typed.figures[0] != known.figures[0]:
        return False
    if len(typed.figures) == len(known.figures):
        return True
    is_start = known.figures.startswith(typed.figures)
    return is_start and len(typed.figures) > 1
