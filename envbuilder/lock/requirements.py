"""A lock as the requirements files that uv and pip install from."""

from envbuilder.lock.torch_index import find_links
from envbuilder.model import Layer, Lock


def requirements_text(lock: Lock, *layers: Layer) -> str:
    """A hashed requirements file of the given layers (none: all) for uv and pip alike; installs wheels only.

    What PyPI does not have is found by the pages of PyTorch's own index. As an `--extra-index-url`, that index would be
    requested to have everything, and it has old copies of NumPy and others.
    """
    included = layers or tuple(Layer)
    wheels = [wheel for wheel in lock.wheels if wheel.layer in included]
    text = "--only-binary :all:\n"
    for page in find_links(lock.stack, wheels):
        text += f"--find-links {page}\n"
    for wheel in wheels:
        pin = f"{wheel.name}=={wheel.version}"
        text += f"{pin} --hash=sha256:{wheel.sha256}\n"
    return text
