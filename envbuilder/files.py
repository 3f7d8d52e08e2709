"""Files written whole or not at all."""

import tempfile
from pathlib import Path

from envbuilder.errors import EnvbuilderError


def write_file(path: Path, text: str, *, executable: bool = False) -> None:
    """Replace a file whole, or leave it alone; its folders are made. Raises `EnvbuilderError` if it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as stream:
            temporary = Path(stream.name)
            try:
                stream.write(text)
                stream.flush()
                temporary.chmod(0o755 if executable else 0o644)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise EnvbuilderError(
            f"cannot write {path}: {error.strerror}", hint="is there space, and may you write there?"
        ) from error
