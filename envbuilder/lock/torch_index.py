"""Which index the torch family of a stack comes from, where that is not the package index.

Only the family is asked there: PyTorch's own indexes also carry old copies of NumPy, requests and others.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from envbuilder.errors import LockError
from envbuilder.model import PYPI, Stack, Wheel

FAMILY = ("torch", "torchaudio", "torchvision")
FIND_LINKS = "find-links+"
"""In front of an address: its page lists files, and has no page per project below it."""
TAG = "{tag}"
_TAG = re.compile(r"cpu|xpu|cu[0-9]{2,3}|rocm[0-9.]+")
# An address that ends so is that of one index: there is nothing to append.
_WHOLE = re.compile(r"simple|.*\.html?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchIndex:
    """The address of one index; the login is not in it."""

    name: str  # "pytorch-cu118"
    url: str
    flat: bool = False  # one page with all files

    @property
    def host(self) -> str:
        """`download.pytorch.org`."""
        return urlsplit(self.url).netloc

    @property
    def text(self) -> str:
        """Its name and its host, for messages."""
        return f"the index {self.name} ({self.host})"

    def page_of(self, project: str) -> str:
        """The page that lists a project's files."""
        if self.flat:
            return self.url
        return f"{self.url}/{project}/"


def torch_index(
    stack: Stack, given: str | None, *, package_index: str | None = None
) -> TorchIndex | None:
    """The index of a stack, at the address that `--torch-index` gives, else at its own; None: the package index.

    An index of the user's own catalog may have no address; then a custom package index is taken to have its wheels.
    Raises `LockError` if the address is not known, or if it is that of another CUDA.
    """
    if stack.index == PYPI:
        return None
    if given is None and not stack.index_url:
        if package_index:
            return None
        raise LockError(
            f"{stack.torch_text} is on the index {stack.index}, whose address is not known",
            hint=f"name it: `--torch-index URL`, or `url` in [indexes.{stack.index}] of the catalog's policy.toml",
        )
    text = given or stack.index_url
    url = without_login(text.removeprefix(FIND_LINKS))
    other = other_tag(url, stack.cuda_tag)
    if other:
        tree = url.rpartition("/")[0]
        raise LockError(
            f"{url} is for {other}; {stack.torch_text} needs {stack.cuda_tag}",
            hint=f"name the folder above it, for every CUDA: `--torch-index {tree}`",
        )
    return index_at(text, name=stack.index, tag=stack.cuda_tag)


def index_at(text: str, *, name: str, tag: str) -> TorchIndex:
    """The index for one tag, from its address or that of a mirror."""
    flat = text.startswith(FIND_LINKS)
    given = without_login(text.removeprefix(FIND_LINKS))
    url = address_for(given, tag)
    # Links of a page can be relative to its folder: one that is named with a slash is asked with it.
    if flat and given.endswith("/"):
        url += "/"
    return TorchIndex(name=name, url=url, flat=flat)


def address_for(url: str, tag: str) -> str:
    """The address of the index for one tag. `docker/install/wheels.py` has the same rule, and a test compares them.

    `{tag}` is replaced. An address that ends in a tag, in `simple` or in `.html` is taken as it is; to any other,
    `/cu118` is appended.
    """
    url = url.rstrip("/")
    if TAG in url:
        return url.replace(TAG, tag)
    last = _last_segment(url)
    if _TAG.fullmatch(last):
        return url
    if _WHOLE.fullmatch(last):
        return url
    return f"{url}/{tag}"


def other_tag(url: str, tag: str) -> str:
    """The tag that an address ends in, if it is not this one."""
    last = _last_segment(url)
    if last == tag or not _TAG.fullmatch(last):
        return ""
    return last


def _last_segment(url: str) -> str:
    *_, last = url.rstrip("/").split("/")
    return last


def without_login(url: str) -> str:
    """The address without `user:password@`."""
    parts = urlsplit(url)
    _, _, host = parts.netloc.rpartition("@")
    plain = parts._replace(netloc=host)
    return urlunsplit(plain)


def find_links(stack: Stack, wheels: Sequence[Wheel]) -> list[str]:
    """The pages of the stack's own index that list these wheels; those of PyPI need none."""
    if not stack.index_url:
        return []
    index = index_at(stack.index_url, name=stack.index, tag=stack.cuda_tag)
    pages = []
    for wheel in wheels:
        if wheel.index == PYPI:
            continue
        page = index.page_of(wheel.name)
        pages.append(page)
    pages.sort()
    return pages
