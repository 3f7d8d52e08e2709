"""A certificate for an address, by a CA that no system trusts."""

import subprocess
from pathlib import Path


def make_certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """The CA's certificate, and a file with the server's certificate and key."""
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2".split()
    ca = ["-subj", "/CN=private", "-keyout", "ca.key", "-out", "ca.pem"]
    leaf = ["-subj", "/CN=mirror", "-keyout", "leaf.key", "-out", "leaf.pem"]
    leaf += "-CA ca.pem -CAkey ca.key -addext basicConstraints=CA:FALSE".split()
    leaf += ["-addext", f"subjectAltName=IP:{address}"]
    for words in (ca, leaf):
        subprocess.run([*make, *words], check=True, capture_output=True, cwd=folder)
    texts = [(folder / name).read_text() for name in ("leaf.key", "leaf.pem")]
    server = folder / "server.pem"
    server.write_text("".join(texts))
    return folder / "ca.pem", server
