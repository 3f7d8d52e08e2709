"""A lock as the requirements files that uv and pip install from."""

from envbuilder.lock.torch_index import find_links
from envbuilder.model import Layer, Lock, Source, Wheel

WHEELS = "/wheels"
"""Where the wheels that are built from sources are while an image is built."""


def requirements_text(lock: Lock, *layers: Layer) -> str:
    """A hashed requirements file of the given layers (none: all) for uv and pip alike; installs wheels only.

    What PyPI does not have is found by the pages of PyTorch's own index. As an `--extra-index-url`, that index would be
    requested to have everything, and it has old copies of NumPy and others.
    """
    included = layers or tuple(Layer)
    wheels = [wheel for wheel in lock.wheels if wheel.layer in included]
    sources = {source.name: source for source in lock.sources}
    text = "--only-binary :all:\n"
    for page in find_links(lock.stack, wheels):
        text += f"--find-links {page}\n"
    for wheel in wheels:
        source = sources.get(wheel.name)
        pin = _requirement(wheel, source)
        if source and source.in_context:
            text += f"# built from {source.origin}, in the build of the image\n"
        text += f"{pin} --hash=sha256:{wheel.sha256}\n"
    return text


def _requirement(wheel: Wheel, source: Source | None) -> str:
    """A pinned wheel; one that is on no index by its place."""
    if source is None:
        return f"{wheel.name}=={wheel.version}"
    if source.in_context:
        return f"{wheel.name} @ file://{WHEELS}/{wheel.file}"
    return f"{wheel.name} @ {source.origin}"
