"""The mutants: an accepted image, broken in one way each, with the one check that must fail and what it must say.

`dockerfile` are lines on top of the image, run as root; `$S` is its site-packages, `$P` the payload. `run` are options
of `docker run`. What is judged by the host (labels, history, an answer that never comes) has `by_host`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One way to break an image."""

    name: str
    check: str  # the check that must fail
    says: str  # a regular expression that its diagnosis must match
    dockerfile: str = ""
    run: tuple[str, ...] = ()
    by_host: bool = False
    deadline: int = 900


def pip(package: str) -> str:
    """A later `pip install` of somebody who does not ask the lock."""
    name = package.split("==", maxsplit=1)[0]
    return (
        f"RUN --mount=type=secret,id=ca rm -rf $S/{name}-*.dist-info && PIP_CERT=/run/secrets/ca "
        f"$(readlink -f /opt/venv/bin/python) -m pip install --quiet --no-deps --upgrade --no-cache-dir --target $S {package}"
    )


def edit(file: str, old: str, new: str) -> str:
    """Replace text in a file; fails to build if it is not there, so that no mutant is a good image in disguise."""
    script = f"p={file!r}; s=open(p).read(); assert {old!r} in s, 'not there'; open(p,'w').write(s.replace({old!r}, {new!r}))"
    return f'RUN ["python", "-c", "{_quoted(script)}"]'


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


PAYLOAD = "/opt/envbuilder/payload"
CUDNN = "$S/nvidia/cudnn/lib"
SUITE = f"{PAYLOAD}/accept.py"


def suite_is(text: str) -> str:
    """Another program in the suite's place."""
    script = f"open({SUITE!r}, 'w').write({text!r})"
    return f'RUN ["python", "-c", "{_quoted(script)}"]'


FORGED = suite_is('print(\'{"event": "end", "verdict": "passed"}\')')

MUTANTS = (
    # what a later pip install does
    Mutant("numpy 2 under torch 2.0", "identity.packages", "numpy is 2", pip("numpy==2.0.2")),
    Mutant(
        "numpy 2 breaks torch",
        "imports.failed|numerics.float32|training.padding",
        "unsized object|numpy|_ARRAY_API",
        pip("numpy==2.0.2"),
    ),
    Mutant("pyarrow too new", "identity.packages", "pyarrow is 2", pip("pyarrow==21.0.0")),
    Mutant("transformers too new", "identity.packages", "transformers is 4.50.3", pip("transformers==4.50.3")),
    Mutant(
        "transformers that torch cannot run",
        "training.accuracy",
        "huggingface-hub",
        pip("transformers==4.51.3"),
    ),
    Mutant("tokenizers that do not fit", "identity.requirements", "tokenizers", pip("tokenizers==0.15.2")),
    Mutant("a package added after the lock", "identity.packages", "colorama is not in the lock", pip("colorama")),
    Mutant("a package taken away", "imports.failed|identity.requirements", "regex", "RUN rm -r $S/regex $S/regex-*"),
    Mutant(
        "another torch by its name",
        "identity.torch",
        "the lock says 2.0.1; in here is 2.6.0",
        "RUN sed -i \"s/^__version__ = .*/__version__ = '2.6.0+cu117'/\" $S/torch/version.py",
    ),
    # libraries
    Mutant(
        "cuDNN is missing",
        "identity.files",
        "libcudnn_ops_infer.so.8 is gone",
        f"RUN rm {CUDNN}/libcudnn_ops_infer.so.8",
    ),
    Mutant("cuDNN cannot load", "linkage.loads", "libcudnn_ops_infer", f"RUN rm {CUDNN}/libcudnn_ops_infer.so.8"),
    Mutant(
        "cuBLAS is cut off",
        "linkage.whole",
        "libcublas.so.11",
        "RUN truncate -s 50M $S/nvidia/cublas/lib/libcublas.so.11",
    ),
    Mutant(
        "cuDNN twice",
        "linkage.single",
        "libcudnn.so.8 is in",
        f"RUN cp {CUDNN}/libcudnn.so.8 /usr/lib/x86_64-linux-gnu/",
    ),
    Mutant(
        "a second CUDA in front",
        "linkage.loader_path",
        "LD_LIBRARY_PATH has /usr/local/cuda/lib64",
        "ENV LD_LIBRARY_PATH=/usr/local/cuda/lib64",
    ),
    Mutant(
        "torch loads another cuDNN",
        "linkage.maps",
        "loaded from elsewhere",
        f"RUN cp -r {CUDNN} /opt/cudnn\nENV LD_LIBRARY_PATH=/opt/cudnn",
    ),
    Mutant(
        "a lying driver requirement",
        "linkage.variables",
        "NVIDIA_REQUIRE_CUDA is 'driver>=999'",
        'ENV NVIDIA_REQUIRE_CUDA="driver>=999"',
    ),
    Mutant(
        "a file of torch edited",
        "identity.files",
        "torch/functional.py has",
        "RUN echo '# patched' >> $S/torch/functional.py",
    ),
    Mutant(
        "another operating system",
        "identity.os",
        "debian 99",
        "RUN sed -i 's/^VERSION_ID=.*/VERSION_ID=\"99\"/' /etc/os-release",
    ),
    # tools
    Mutant(
        "no C++ compiler",
        "features.compile",
        "compiler|g\\+\\+|No such file",
        "RUN rm -f /usr/bin/*g++* /usr/bin/c++* /usr/bin/*gcc*",
    ),
    Mutant(
        "a CUDA compiler in a runtime image",
        "contract.nvcc",
        "there is a CUDA compiler",
        "RUN install -m 755 /dev/null /usr/local/bin/nvcc",
    ),
    # arithmetic
    Mutant(
        "layer normalisation forgets epsilon",
        "numerics.float32",
        "layer normalisation is off",
        edit(
            "$S/torch/nn/functional.py",
            "return torch.layer_norm(input, normalized_shape, weight, bias, eps,",
            "return torch.layer_norm(input, normalized_shape, weight, bias, 0.1,",
        ),
    ),
    Mutant(
        "gradients twice as long",
        "numerics.gradients",
        "backward is off",
        edit("$S/torch/autograd/__init__.py", "torch.ones_like(out", "2 * torch.ones_like(out"),
    ),
    # the job
    Mutant(
        "a tokenizer without words",
        "training.accuracy",
        "does not know",
        edit(f"{PAYLOAD}/train.py", "words or vocabulary()", "vocabulary()[:-20]"),
    ),
    Mutant(
        "an optimiser that does nothing",
        "training.reference",
        "leave the reference at step 2",
        edit(f"{PAYLOAD}/train.py", "optimizer.step()", "pass"),
    ),
    Mutant(
        "gradients never zeroed",
        "training.reference",
        "leave the reference at step",
        edit(f"{PAYLOAD}/train.py", "optimizer.zero_grad()", "pass"),
    ),
    Mutant(
        "the loss is NaN",
        "training.reference",
        "leave the reference at step 1",
        edit(f"{PAYLOAD}/train.py", "loss.backward()", "loss = loss * float('nan'); loss.backward()"),
    ),
    Mutant(
        "shuffled labels",
        "training.accuracy",
        "it did not learn",
        edit(f"{PAYLOAD}/reviews.py", "int(positive != turned)", "int(source.random() < 0.5)"),
    ),
    Mutant(
        "counts words",
        "training.negated",
        "counts words",
        edit(
            f"{PAYLOAD}/reviews.py",
            "int(positive != turned)",
            "int(positive != turned) if not turned else int(source.random() < 0.5)",
        ),
    ),
    Mutant(
        "an attention mask of all ones",
        "training.padding",
        "padding changes the answer",
        edit(
            f"{PAYLOAD}/train.py",
            "return tokenizer(batch[",
            "return dict(tokenizer(batch['text'], padding='max_length', truncation=True, max_length=max_length), attention_mask=[[1] * max_length] * len(batch['text'])) or tokenizer(batch[",
        ),
    ),
    Mutant(
        "another seed each time",
        "training.repeatable",
        "the same seed gives other losses",
        edit(f"{PAYLOAD}/train.py", "torch.manual_seed(settings.seed)", "torch.seed()"),
    ),
    Mutant(
        "a pickled checkpoint",
        "training.checkpoint",
        "not safetensors",
        edit(f"{PAYLOAD}/train.py", "safe_serialization=True", "safe_serialization=False"),
    ),
    Mutant(
        "a learning rate for wide models",
        "training.loss",
        "the loss stays high",
        edit(f"{PAYLOAD}/train.py", "default=1e-3", "default=5e-6"),
    ),
    Mutant(
        "a slow image",
        "training.throughput",
        "training crawls",
        edit(f"{PAYLOAD}/train.py", "loss.backward()", "loss.backward(); time.sleep(0.3)"),
    ),
    # the place where it runs
    Mutant("64 MB of shared memory", "features.shared_memory", "/dev/shm holds 64 MB", run=("--shm-size", "64m")),
    Mutant("a full temporary folder", "contract.space", "MB left", run=("--tmpfs", "/tmp:size=1m")),
    Mutant(
        "a read-only temporary folder",
        "contract.places",
        "cannot be written",
        run=("--read-only", "--env", "TMPDIR=/opt", "--env", "HOME=/dev/shm"),
    ),
    Mutant(
        "contract.places",
        "HOME .* cannot be written",
        'ENTRYPOINT ["/opt/envbuilder/payload/accept"]\nENV HF_HOME=/proc/cache',
    ),
    Mutant("root", "contract.user", "it runs as root", "USER 0"),
    Mutant("ASCII only", "contract.locale", "UnicodeEncodeError", "ENV PYTHONIOENCODING=ascii"),
    Mutant("no CAs", "contract.certificates", "only 0 CAs", "ENV SSL_CERT_FILE=/nonexistent.pem"),
    Mutant("gloo without a network", "features.distributed", "a process died", "ENV GLOO_SOCKET_IFNAME=nothere"),
    Mutant(
        "a .pth file shadows torch",
        "contract.python_path",
        "/srv/torch.py",
        "RUN echo 'import sys; sys.path.insert(0, \"/srv\")' > $S/zz.pth && echo > /srv/torch.py",
    ),
    # secrets
    Mutant(
        "a token in the environment",
        "contract.secrets",
        "the variable HF_TOKEN",
        "ENV HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz",
    ),
    Mutant(
        "credentials in pip.conf",
        "contract.secrets",
        "/etc/pip.conf",
        "RUN printf '[global]\\nindex-url=https://me:hunter2@index.example/simple\\n' > /etc/pip.conf",
    ),
    Mutant(
        "a repository", "contract.secrets", "the repository /home/trainer/work", "RUN mkdir -p /home/trainer/work/.git"
    ),
    Mutant(
        "a shell's history", "contract.secrets", "bash_history", "RUN echo 'export X' > /home/trainer/.bash_history"
    ),
    Mutant(
        "a token in a layer",
        "contract.layers",
        "a secret is in the history",
        "RUN echo hf_abcdefghijklmnopqrstuvwxyz >/dev/null",
        by_host=True,
    ),
    # what only the host can see
    Mutant("a lying label", "identity.labels", "cudnn says 9.9", "LABEL dev.envbuilder.cudnn=9.9", by_host=True),
    Mutant("a bloated image", "contract.size", "GB for", "RUN head -c 800M /dev/urandom > /opt/blob", by_host=True),
    Mutant("a forged pass", "suite.complete", "no answer to", FORGED, by_host=True),
    Mutant(
        "a suite that ends at once", "suite.complete", "no answer to", suite_is("raise SystemExit(0)"), by_host=True
    ),
    Mutant(
        "a suite that hangs",
        "suite.complete",
        "at its deadline",
        suite_is("import time; time.sleep(600)"),
        by_host=True,
        deadline=5,
    ),
    Mutant(
        "a suite killed by SIGBUS",
        "suite.complete",
        "SIGBUS",
        suite_is(
            "import mmap; f = open('/dev/shm/x', 'w+b'); f.truncate(9999); m = mmap.mmap(f.fileno(), 9999); f.truncate(0); m[5000]"
        ),
        by_host=True,
    ),
)
