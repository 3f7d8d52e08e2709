"""A lock as the requirements files that uv and pip install from."""

from envbuilder.model import Layer, Lock


def requirements_text(lock: Lock, *layers: Layer) -> str:
    """A hashed requirements file of the given layers (none: all) for uv and pip alike; installs wheels only."""
    included = layers or tuple(Layer)
    lines = ["--only-binary :all:"]
    for wheel in lock.wheels:
        if wheel.layer in included:
            lines.append(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}")
    return "\n".join(lines) + "\n"
