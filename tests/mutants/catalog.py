"""The mutants: an accepted image, broken in one way each, with the one check that must fail and what it must say.

`dockerfile` are lines on top of the image, run as root; `$S` is its site-packages. Most are judged by the suite in the
image, started with the options `run` of `docker run` and its own options `accept`. What only the host can see (labels,
layers, an answer that never comes) is judged `by_host`, by `envbuilder accept` with the options `accept`.
"""

from base64 import b64encode
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One way to break an image."""

    name: str
    check: str  # the check that must fail
    says: str  # a regular expression that its diagnosis must match
    dockerfile: str = ""
    run: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()  # options of `accept`
    by_host: bool = False
    beside: tuple[
        str, ...
    ] = ()  # checks that must run too, for the named one looks at what they read


def pip(package: str) -> str:
    """A later `pip install` that ignores the lock."""
    name = package.split("==", maxsplit=1)[0]
    return (
        f"RUN --mount=type=secret,id=ca rm -rf $S/{name}-*.dist-info && PIP_CERT=/run/secrets/ca "
        f"$(readlink -f /opt/venv/bin/python) -m pip install --quiet --no-deps --upgrade --no-cache-dir --target $S {package}"
    )


EDITS: list[tuple[str, str]] = []  # each file and the text in it that is replaced


def edit(file: str, old: str, new: str) -> str:
    """Replace text in a file; fails to build if it is not there, so that no mutant is a good image in disguise."""
    EDITS.append((file, old))
    script = f"p={file!r}; s=open(p).read(); assert {old!r} in s, 'not there'; open(p,'w').write(s.replace({old!r}, {new!r}))"
    return f'RUN ["python", "-c", "{_quoted(script)}"]'


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


PAYLOAD = "/opt/envbuilder/payload"
CLAIMS_DEVEL = edit(
    "/opt/envbuilder/envbuilder.lock", '"stack": {', '"stack": {"flavour": "devel",'
)
CUDNN = "$S/nvidia/cudnn/lib"
LAYER_NORM = "return torch.layer_norm(input, normalized_shape, weight, bias, %s,"


def add(file: str, code: str) -> str:
    """Code at the end of a file."""
    script = f"open({file!r}, 'a').write({code!r})"
    return f'RUN ["python", "-c", "{_quoted(script)}"]'


def python_is(script: str) -> str:
    """A shell script in the place of Python."""
    text = f"#!/bin/sh\n{script}\n"
    return (
        f"RUN printf '%s' {text.encode().hex()} | python3 -c \"import sys; "
        "open('/tmp/p', 'wb').write(bytes.fromhex(sys.stdin.read()))\""
        " && mv /tmp/p /opt/venv/bin/python && chmod 755 /opt/venv/bin/python"
    )


def nvcc_is(script: str) -> str:
    """A shell script that calls itself nvcc."""
    text = f"#!/bin/sh\n{script}\n"
    return f"RUN echo {b64encode(text.encode()).decode()} | base64 -d >/usr/local/bin/nvcc && chmod 755 /usr/local/bin/nvcc"


def gpu_of_straw(code: str) -> str:
    """A torch that says it sees an H100, and what else `code` says."""
    straw = """
_cuda = __import__("sys").modules["torch.cuda"]
_cuda.is_available = lambda: True
_cuda.device_count = lambda: 1
_cuda.get_device_name = lambda *_: "NVIDIA H100"
_cuda.get_device_capability = lambda *_: (9, 0)
_cuda.is_bf16_supported = lambda *_: False
_cuda.empty_cache = lambda: None
"""
    return add("$S/torch/__init__.py", straw + code)


def driver_says(text: str) -> str:
    """A torch whose CUDA does not start."""
    code = f"""
def _init():
    raise RuntimeError({text!r})
__import__("sys").modules["torch.cuda"].init = _init
"""
    return add("$S/torch/__init__.py", code)


def links_to(soname: str, module: str) -> str:
    """A module that links to a library which nothing in the image has."""
    folder, _, name = module.rpartition("/")
    return (
        f"RUN mkdir -p $S/{folder} && cd $S/{folder} && gcc -shared -x c /dev/null -Wl,-soname,{soname} -o {soname}"
        f" && gcc -shared -Wl,--no-as-needed ./{soname} -Wl,-soname,{name} -o {name} && rm {soname}"
    )


GPU_NODE = ("--device", "/dev/null:/dev/nvidia0")
FORGED = 'echo \'{"event": "plan", "suite": "2", "checks": []}\'; echo \'{"event": "end", "verdict": "passed"}\''
LYING = (
    'echo \'{"event": "plan", "checks": [{"id": "gpu.kernel", "title": "a GPU computes"}]}\'; '
    f'echo \'{{"event": "facts", "lock": "sha256:{"0" * 64}"}}\'; '
    'echo \'{"event": "result", "id": "gpu.kernel", "title": "a GPU computes", "status": "passed"}\'; '
    'echo \'{"event": "end", "verdict": "passed"}\''
)
LLAMA = "$S/transformers/models/llama/modeling_llama.py"
# Installed anew, whether or not the image has it: the mutants below edit it.
PEFT = pip("peft==0.15.0")
LORA_LAYER = "$S/peft/tuners/lora/layer.py"
ONE_STEP = "losses.append(batch_loss)"

MUTANTS = (
    # what a later pip install does
    Mutant(
        "numpy 2 under torch 2.0",
        "identity.packages",
        "numpy is 2",
        pip("numpy==2.0.2"),
    ),
    Mutant(
        "numpy 2 breaks torch",
        "training.padding",
        "the training job broke",
        pip("numpy==2.0.2"),
    ),
    Mutant(
        "pyarrow too new", "identity.packages", "pyarrow is 2", pip("pyarrow==21.0.0")
    ),
    Mutant(
        "transformers too new",
        "identity.packages",
        "transformers is 4.50.3",
        pip("transformers==4.50.3"),
    ),
    Mutant(
        "transformers that torch cannot run",
        "training.accuracy",
        "huggingface-hub",
        pip("transformers==4.51.3"),
    ),
    Mutant(
        "an accelerate that is too new for transformers",
        "training.trainer",
        "dispatch_batches",
        f"{pip('transformers==4.36.2')}\n{pip('tokenizers==0.15.2')}",
    ),
    Mutant(
        "a Trainer that does not step",
        "training.trainer",
        "is not that of a plain loop",
        edit(
            "$S/transformers/trainer.py",
            "self.optimizer.step()",
            "self.optimizer.zero_grad()",
        ),
    ),
    Mutant(
        "an accelerate that halves gradients",
        "training.accelerate",
        "is not that of a plain loop",
        edit("$S/accelerate/accelerator.py", "loss.backward(", "(loss / 2).backward("),
    ),
    Mutant(
        "tokenizers that do not fit",
        "identity.requirements",
        "tokenizers",
        pip("tokenizers==0.15.2"),
    ),
    Mutant(
        "a package added after the lock",
        "identity.packages",
        "colorama is not in the lock",
        pip("colorama"),
    ),
    Mutant(
        "a package taken away",
        "identity.requirements",
        "regex, which is missing",
        "RUN rm -r $S/regex $S/regex-*",
    ),
    Mutant(
        "a package that does not import",
        "imports.failed",
        "regex: ImportError: no _regex",
        add("$S/regex/__init__.py", "raise ImportError('no _regex')"),
    ),
    Mutant(
        "a package that takes Python down",
        "imports.failed",
        "Python died",
        add("$S/regex/__init__.py", "import os; os.abort()"),
    ),
    Mutant(
        "another torch by its name",
        "identity.torch",
        "the lock says 2.0.1, the image has 2.6.0",
        "RUN sed -i \"s/^__version__ = .*/__version__ = '2.6.0+cu117'/\" $S/torch/version.py",
    ),
    Mutant(
        "torchvision for another torch",
        "identity.family",
        "torchvision: ",
        pip("torchvision==0.16.2"),
    ),
    Mutant(
        "torchvision without its code",
        "identity.family",
        "torchvision: RuntimeError",
        "RUN rm $S/torchvision/_C.so",
    ),
    Mutant(
        "another torchvision by its name",
        "identity.torchvision",
        "the lock says 0.15.2, the image has 0.16.0",
        'RUN sed -i "s/0.15.2/0.16.0/" $S/torchvision/version.py',
    ),
    Mutant(
        "another torchaudio by its name",
        "identity.torchaudio",
        "the lock says 2.0.2, the image has 2.1.0",
        'RUN sed -i "s/2.0.2/2.1.0/" $S/torchaudio/version.py',
    ),
    Mutant(
        "torch for another CUDA",
        "identity.cuda",
        "torch is built for CUDA 11.8",
        "RUN sed -i \"s/cuda = '11.7'/cuda = '11.8'/\" $S/torch/version.py",
    ),
    Mutant(
        "an older cuDNN answers",
        "identity.cudnn",
        "built for cuDNN 8.5.0, the image has 8.3.2",
        edit(
            "$S/torch/backends/cudnn/__init__.py",
            "return __cudnn_version",
            "return 8302",
        ),
    ),
    Mutant(
        "another NCCL answers",
        "identity.nccl",
        "the image has 2.10.3",
        edit(
            "$S/torch/cuda/nccl.py", "return (major, minor, patch)", "return (2, 10, 3)"
        ),
    ),
    Mutant(
        "the lock of another Python",
        "identity.python",
        "the lock says 3.10, the image has 3.9",
        'RUN sed -i \'s/"python": "3.9"/"python": "3.10"/\' /opt/envbuilder/envbuilder.lock',
    ),
    Mutant(
        "the lock of another GPU",
        "identity.arch_list",
        "sm_90",
        'RUN sed -i \'s/"sm_86"/"sm_90"/\' /opt/envbuilder/envbuilder.lock',
    ),
    # libraries
    Mutant(
        "cuDNN is missing",
        "identity.files",
        "libcudnn_ops_infer.so.8 is missing",
        f"RUN rm {CUDNN}/libcudnn_ops_infer.so.8",
    ),
    Mutant(
        "cuDNN cannot load",
        "linkage.loads",
        "libcudnn_ops_infer",
        f"RUN rm {CUDNN}/libcudnn_ops_infer.so.8",
    ),
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
        "cuBLAS twice",
        "linkage.single",
        "libcublas.so.11 is in",
        "RUN mkdir -p /usr/local/cuda/lib64 && cp $S/nvidia/cublas/lib/libcublas.so.11 /usr/local/cuda/lib64/",
    ),
    Mutant(
        "torch is cut off",
        "linkage.whole",
        "torch/lib/libtorch_cpu.so",
        "RUN truncate -s 99M $S/torch/lib/libtorch_cpu.so",
    ),
    Mutant(
        "a plug-in lacks more than what it plugs in",
        "linkage.loads",
        "libgone",
        "RUN mkdir -p $S/nvidia/cufile/lib && cd $S/nvidia/cufile/lib && gcc -shared -x c /dev/null -o libgone.so && gcc -shared -Wl,--no-as-needed ./libgone.so -o libcufile_rdma.so.1 && rm libgone.so",
    ),
    Mutant(
        "triton's own CUPTI twice",
        "linkage.single",
        "libcupti.so.11.7 is in",
        "RUN mkdir -p $S/triton/backends/nvidia/lib/cupti && for n in 1 2; do cp $S/nvidia/cuda_cupti/lib/libcupti.so.11.7 $S/triton/backends/nvidia/lib/cupti/libcupti.so.$n; done",
    ),
    Mutant(
        "cuBLAS is missing",
        "linkage.loads",
        "libcublasLt",
        "RUN rm $S/nvidia/cublas/lib/libcublasLt.so.11",
    ),
    Mutant(
        "a package for another CUDA",
        "linkage.needs",
        r"libcudart\.so\.99 of CUDA 99 .*this image has CUDA 11\.7",
        links_to("libcudart.so.99", "xgone/_C.so"),
    ),
    Mutant(
        "a package for another cuDNN",
        "linkage.needs",
        r"libcudnn\.so\.99 of cuDNN 99",
        links_to("libcudnn.so.99", "xgone/_C.so"),
    ),
    Mutant(
        "a package for another torch",
        "linkage.needs",
        "libtorch_cuda_gone",
        links_to("libtorch_cuda_gone.so", "xgone/_C.so"),
    ),
    Mutant(
        "a package for an MPI that is not there",
        "linkage.needs",
        r"libmpi\.so\.40",
        links_to("libmpi.so.40", "mpi4py/MPI.openmpi.so"),
    ),
    Mutant(
        "no variant is for this CUDA",
        "linkage.needs",
        r"libcudart\.so\.99",
        links_to("libcudart.so.99", "bitsandbytes/libbitsandbytes_cuda990.so"),
    ),
    Mutant(
        "something is loaded before all",
        "linkage.loader_path",
        "LD_PRELOAD has",
        "ENV LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libz.so.1",
    ),
    Mutant(
        "the loader knows a second CUDA",
        "linkage.loader_path",
        "cuda.conf has /usr/local/cuda/lib64",
        "RUN mkdir -p /usr/local/cuda/lib64 && touch /usr/local/cuda/lib64/libcudart.so.11.0 && echo /usr/local/cuda/lib64 > /etc/ld.so.conf.d/cuda.conf",
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
        "no C compiler",
        "features.extension",
        "gcc",
        "RUN rm -f /usr/bin/*gcc* /usr/bin/cc",
    ),
    Mutant(
        "no Python headers",
        "features.extension",
        "Python.h",
        "RUN rm -r /usr/include/python3*",
    ),
    Mutant(
        "compiling is switched off",
        "features.compile",
        "nothing was compiled",
        "ENV TORCHDYNAMO_DISABLE=1",
    ),
    Mutant(
        "a CUDA compiler in a runtime image",
        "contract.nvcc",
        "the image has a CUDA compiler",
        "RUN install -m 755 /dev/null /usr/local/bin/nvcc",
    ),
    Mutant(
        "a devel image without nvcc",
        "features.nvcc",
        "nvcc is not on PATH",
        CLAIMS_DEVEL,
    ),
    Mutant(
        "nvcc of another CUDA",
        "features.nvcc",
        r"torch is built for CUDA 11\.7, nvcc is 12\.4\.131",
        f"{CLAIMS_DEVEL}\n{nvcc_is('echo Cuda compilation tools, release 12.4, V12.4.131')}",
    ),
    Mutant(
        "a header of CUDA is missing",
        "features.nvcc",
        r"a CUDA program does not compile: .*cuda_runtime\.h: No such file",
        # a compiler that is g++ in disguise looks for the headers that this image does not have
        f"{CLAIMS_DEVEL}\n"
        + nvcc_is(
            "case $1 in --version) echo release 11.7, V11.7.99;; *) exec g++ -x c++ -fsyntax-only $5 2>&1;; esac"
        ),
    ),
    # arithmetic
    Mutant(
        "layer normalisation forgets epsilon",
        "numerics.float32",
        "layer normalization is off",
        edit(
            "$S/torch/nn/functional.py",
            "return torch.layer_norm(input, normalized_shape, weight, bias, eps,",
            "return torch.layer_norm(input, normalized_shape, weight, bias, 0.1,",
        ),
    ),
    Mutant(
        "bfloat16 forgets epsilon",
        "numerics.bfloat16",
        "layer normalization is off",
        edit(
            "$S/torch/nn/functional.py",
            LAYER_NORM % "eps",
            LAYER_NORM % "0.5 if input.dtype is torch.bfloat16 else eps",
        ),
    ),
    Mutant(
        "products in half precision",
        "numerics.matmul",
        "the matrix product is off",
        add(
            "$S/torch/__init__.py",
            "_mm = Tensor.__matmul__\nTensor.__matmul__ = lambda a, b: _mm(a.bfloat16(), b.bfloat16()).to(a.dtype) if a.dtype is float32 else _mm(a, b)\n",
        ),
    ),
    Mutant(
        "quantization does nothing",
        "features.quantization",
        "not smaller",
        add(
            "$S/torch/ao/quantization/__init__.py",
            "\nquantize_dynamic = lambda model, *_, **__: model\n",
        ),
    ),
    Mutant(
        "functorch's grad is wrong",
        "features.transforms",
        "grad or jacrev is off",
        add(
            "$S/torch/func/__init__.py",
            "\n_grad = grad\ngrad = lambda function: lambda point: 2 * _grad(function)(point)\n",
        ),
    ),
    Mutant(
        "checkpointing keeps everything",
        "features.checkpointing",
        "as much memory as without",
        add(
            "$S/torch/utils/checkpoint.py",
            "\ncheckpoint = lambda function, *words, **_: function(*words)\n",
        ),
    ),
    Mutant(
        "gradients twice as long",
        "numerics.gradients",
        "gradients differ from finite differences",
        edit(
            "$S/torch/autograd/__init__.py",
            "torch.ones_like(out",
            "2 * torch.ones_like(out",
        ),
    ),
    # the job
    Mutant(
        "a tokenizer without words",
        "training.accuracy",
        "does not know",
        edit(
            f"{PAYLOAD}/train/model.py", "words or vocabulary()", "vocabulary()[:-20]"
        ),
    ),
    Mutant(
        "an optimiser that does nothing",
        "training.reference",
        "leave the reference at step 2",
        edit(f"{PAYLOAD}/train/loop.py", "scaler.step(optimizer)", "pass"),
    ),
    Mutant(
        "gradients never zeroed",
        "training.reference",
        "leave the reference at step",
        edit(f"{PAYLOAD}/train/loop.py", "optimizer.zero_grad()", "pass"),
    ),
    Mutant(
        "the loss is NaN",
        "training.reference",
        "leave the reference at step 1",
        edit(
            f"{PAYLOAD}/train/loop.py",
            "scaler.scale(loss / settings",
            "loss = loss * float('nan'); scaler.scale(loss / settings",
        ),
    ),
    Mutant(
        "shuffled labels",
        "training.accuracy",
        "it did not learn",
        edit(
            f"{PAYLOAD}/train/reviews.py",
            "int(positive != inverted)",
            "int(generator.random() < 0.5)",
        ),
    ),
    Mutant(
        "a job that makes no step",
        "training.accuracy",
        "the training job broke",
        edit(
            f"{PAYLOAD}/train/loop.py",
            "in range(callbacks.finished_epochs(), settings.epochs)",
            "in range(0)",
        ),
    ),
    Mutant(
        "a job that hangs",
        "training.accuracy",
        "longer than 5 s",
        'RUN sed -i \'s/"training.accuracy": 300/"training.accuracy": 5/\' '
        + f"{PAYLOAD}/acceptance/bounds.json\n"
        + edit(
            f"{PAYLOAD}/train/loop.py",
            ONE_STEP,
            ONE_STEP + "; import time; time.sleep(600)",
        ),
    ),
    Mutant(
        "a job that dies of SIGBUS",
        "training.accuracy",
        "SIGBUS",
        edit(
            f"{PAYLOAD}/train/loop.py", ONE_STEP, "import os; os.kill(os.getpid(), 7)"
        ),
    ),
    Mutant(
        "a job that crashes",
        "training.accuracy",
        "SIGSEGV",
        edit(f"{PAYLOAD}/train/loop.py", ONE_STEP, "__import__('ctypes').string_at(0)"),
    ),
    Mutant(
        "a job that ends early",
        "training.accuracy",
        "exited with code 0 during the check",
        edit(f"{PAYLOAD}/train/loop.py", ONE_STEP, "import os; os._exit(0)"),
    ),
    Mutant(
        "a job that eats all memory",
        "training.accuracy",
        "out of memory",
        edit(
            f"{PAYLOAD}/train/loop.py",
            ONE_STEP,
            ONE_STEP + "; globals().setdefault('hog', []).append(b'x' * (64 << 20))",
        ),
        run=("--memory", "2g", "--memory-swap", "2g"),
    ),
    Mutant(
        "a job without its data",
        "training.reference",
        "No module named 'train.reviews'",
        f"RUN rm {PAYLOAD}/train/reviews.py",
    ),
    Mutant(
        "counts words",
        "training.negated",
        "counts words",
        edit(
            f"{PAYLOAD}/train/reviews.py",
            "int(positive != inverted)",
            "int(positive != inverted) if not inverted else int(generator.random() < 0.5)",
        ),
    ),
    Mutant(
        "an attention mask of all ones",
        "training.padding",
        "padding changes predictions",
        edit(
            f"{PAYLOAD}/train/model.py",
            'data = data.rename_column("label", "labels")',
            'data = data.map(lambda row: {"attention_mask": [1] * len(row["input_ids"])}).rename_column("label", "labels")',
        ),
    ),
    Mutant(
        "another seed each time",
        "training.repeatable",
        "the same seed gives different losses",
        edit(
            f"{PAYLOAD}/train/model.py",
            "torch.manual_seed(settings.seed)",
            "torch.seed()",
        ),
    ),
    Mutant(
        "a pickled checkpoint",
        "training.checkpoint",
        "not saved as safetensors",
        edit(
            f"{PAYLOAD}/train/job.py",
            "safe_serialization=True",
            "safe_serialization=False",
        ),
    ),
    Mutant(
        "a checkpoint that cannot be written",
        "training.checkpoint",
        "Permission|Read-only",
        edit(
            f"{PAYLOAD}/train/job.py",
            "model.save_pretrained(folder,",
            "model.save_pretrained('/opt/out',",
        ),
    ),
    Mutant(
        "a checkpoint of another model",
        "training.checkpoint",
        "the loaded model differs",
        edit(
            f"{PAYLOAD}/train/job.py",
            "    model.save_pretrained(folder,",
            "    model = __import__('copy').deepcopy(model); torch.nn.init.zeros_(model.classifier.weight); model.save_pretrained(folder,",
        ),
    ),
    Mutant(
        "a schedule that begins again",
        "training.resume",
        "a resumed run diverges",
        edit(
            f"{PAYLOAD}/train/record.py",
            'self.schedule.load_state_dict(state["schedule"])',
            "pass",
        ),
    ),
    Mutant(
        "dropout that begins again",
        "training.resume",
        "a resumed run diverges",
        edit(
            f"{PAYLOAD}/train/checkpoints.py",
            'torch.set_rng_state(states["cpu"])',
            "pass",
        ),
    ),
    Mutant(
        "an epoch that is over before its evaluation",
        "training.resume",
        "a resumed run diverges",
        edit(
            f"{PAYLOAD}/train/loop.py",
            "callbacks.finished_epochs()",
            "len(losses) // batches",
        ),
    ),
    Mutant(
        "a learning rate for wide models",
        "training.loss",
        "the training loss stays high",
        edit(f"{PAYLOAD}/train/options.py", "learning_rate=1e-3", "learning_rate=5e-6"),
    ),
    Mutant(
        "a slow image",
        "training.throughput",
        "far slower than this machine allows",
        edit(
            f"{PAYLOAD}/train/loop.py",
            ONE_STEP,
            ONE_STEP + "; import time; time.sleep(0.2)",
        ),
    ),
    Mutant(
        "a slow clock",
        "training.seconds",
        "training takes too long",
        edit(
            f"{PAYLOAD}/train/loop.py",
            ONE_STEP,
            ONE_STEP + "; import time; time.process_time = lambda: 9999.0",
        ),
    ),
    # the causal model
    Mutant(
        "a tokenizer that pads on the other side",
        "lm.tokenizer",
        "does not read back a padded text",
        edit(
            "$S/transformers/tokenization_utils_fast.py",
            '"direction": padding_side if padding_side is not None else self.padding_side',
            '"direction": "right"',
        ),
    ),
    Mutant(
        "a causal mask that leaks",
        "lm.causal",
        "a later token changes earlier logits",
        edit(
            LLAMA,
            "device=device) > cache_position.reshape(-1, 1)",
            "device=device) > cache_position.reshape(-1, 1) + 1",
        ),
    ),
    Mutant(
        "a causal model that reads padding",
        "lm.padding",
        "padding on the left changes logits",
        edit(
            LLAMA, "padding_mask = padding_mask == 0", "padding_mask = padding_mask > 0"
        ),
    ),
    Mutant(
        "labels shifted twice",
        "lm.next_token",
        "labels are shifted wrongly",
        edit(
            "$S/transformers/loss/loss_utils.py",
            "labels = nn.functional.pad(labels, (0, 1), value=ignore_index)",
            "labels = nn.functional.pad(labels[..., 1:], (0, 2), value=ignore_index)",
        ),
    ),
    Mutant(
        "rotary positions off by one with a cache",
        "lm.cache",
        "the KV cache changes logits",
        edit(
            LLAMA,
            "position_ids = cache_position.unsqueeze(0)",
            "position_ids = (cache_position + (cache_position[0] > 0)).unsqueeze(0)",
        ),
    ),
    Mutant(
        "a decoder without attention",
        "lm.accuracy",
        "it did not learn to copy; without attention it would get one word in 32 right",
        edit(
            LLAMA,
            "attn_output = torch.matmul(attn_weights, value_states)",
            "attn_output = value_states[:, :, -query.shape[2] :]",
        ),
    ),
    Mutant(
        "a decoder that is less sure when it is used",
        "lm.loss",
        "it is not sure of what it copies",
        edit(
            LLAMA,
            "logits = self.lm_head(hidden_states[:, slice_indices, :])",
            "logits = self.lm_head(hidden_states[:, slice_indices, :]) * (1 if self.training else 0.2)",
        ),
    ),
    Mutant(
        "greedy generation that draws",
        "lm.generation",
        "greedy generation differs",
        add(
            "$S/transformers/generation/utils.py",
            "\n_argmax = torch.argmax\ntorch.argmax = lambda scores, *a, **k: "
            "_argmax(scores + 30 * torch.rand_like(scores), *a, **k)\n",
        ),
    ),
    Mutant(
        "LoRA that is left out",
        "lm.lora",
        "LoRA did not learn to translate",
        f"{PEFT}\n"
        + edit(
            LORA_LAYER,
            "result = result + lora_B(lora_A(dropout(x))) * scaling",
            "result = result + lora_B(lora_A(dropout(x))) * 0",
        ),
    ),
    Mutant(
        "LoRA that trains the model too",
        "lm.adapter",
        "training the adapter changed the model below it",
        f"{PEFT}\n"
        + edit(
            "$S/peft/tuners/lora/model.py",
            "            if self.prefix not in n:\n                p.requires_grad = False",
            "            if self.prefix not in n:\n                p.requires_grad = True",
        ),
    ),
    Mutant(
        "an adapter that stays on",
        "lm.adapter",
        "with the adapter off, the model is not what it was before",
        f"{PEFT}\n"
        + edit(LORA_LAYER, "        if self.disable_adapters:", "        if False:"),
    ),
    Mutant(
        "a merge that forgets the scale",
        "lm.merged",
        "merging the adapter into the weights changes logits",
        f"{PEFT}\n"
        + edit(
            LORA_LAYER,
            "transpose(weight_B @ weight_A, self.fan_in_fan_out) * self.scaling[adapter]",
            "transpose(weight_B @ weight_A, self.fan_in_fan_out)",
        ),
    ),
    Mutant(
        "a slow clock under the causal model",
        "lm.seconds",
        "the small model takes too long",
        add(LLAMA, "\nimport time\ntime.process_time = lambda: 9999.0\n"),
    ),
    # the place where it runs
    Mutant(
        "64 MB of shared memory",
        "features.shared_memory",
        "/dev/shm holds 64 MB",
        run=("--shm-size", "64m"),
    ),
    Mutant(
        "a full temporary folder",
        "contract.space",
        "MB left",
        run=("--tmpfs", "/tmp:size=1m"),
    ),
    Mutant(
        "a read-only temporary folder",
        "contract.places",
        "is not writable",
        run=("--read-only", "--env", "TMPDIR=/opt", "--env", "HOME=/dev/shm"),
    ),
    Mutant("root", "contract.user", "runs as root", "USER 0"),
    Mutant(
        "ASCII only",
        "contract.locale",
        "UnicodeEncodeError",
        "ENV PYTHONIOENCODING=ascii",
    ),
    Mutant(
        "a locale that nobody made",
        "contract.locale",
        "UnicodeEncodeError",
        "ENV LC_ALL=POSIX PYTHONUTF8=0 PYTHONCOERCECLOCALE=0",
    ),
    Mutant(
        "no CAs",
        "contract.certificates",
        "only 0 CAs",
        "ENV SSL_CERT_FILE=/opt/none.pem",
    ),
    Mutant(
        "a broken bundle of CAs",
        "contract.certificates",
        "CAs",
        "RUN head -c 300 /etc/ssl/certs/ca-certificates.crt > /opt/ca.pem\nENV SSL_CERT_FILE=/opt/ca.pem",
    ),
    Mutant(
        "a cache that cannot be made",
        "contract.places",
        "HF_HOME|the cache",
        run=("--entrypoint", "python", "--env", "HF_HOME=/proc/cache"),
    ),
    Mutant(
        "gloo without a network",
        "features.distributed",
        "a process died",
        "ENV GLOO_SOCKET_IFNAME=nothere",
    ),
    Mutant(
        "a .pth file shadows torch",
        "contract.python_path",
        "/srv/torch.py",
        "RUN echo 'import sys; sys.path.insert(0, \"/srv\")' > $S/zz.pth && echo > /srv/torch.py",
    ),
    Mutant(
        "sitecustomize shadows torch",
        "contract.python_path",
        "/srv/torch/__init__.py",
        'RUN echo \'import sys; sys.path.insert(0, "/srv")\' >> $(python -c "import sitecustomize; print(sitecustomize.__file__)") && mkdir /srv/torch && touch /srv/torch/__init__.py',
    ),
    Mutant(
        "PYTHONPATH is set",
        "contract.python_path",
        "PYTHONPATH is set",
        "ENV PYTHONPATH=/srv/lib",
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
        "a repository",
        "contract.secrets",
        "the repository /home/trainer/work",
        "RUN mkdir -p /home/trainer/work/.git",
    ),
    Mutant(
        "a shell's history",
        "contract.secrets",
        "bash_history",
        "RUN echo 'export X' > /home/trainer/.bash_history",
    ),
    Mutant(
        "a token in a layer that is gone",
        "contract.layers",
        "the layers, as /root/token",
        "RUN printf 'hf_%s' abcdefghijklmnopqrstuvwxyz > /root/token\nRUN rm /root/token",
        by_host=True,
    ),
    Mutant(
        "a token in the history",
        "contract.layers",
        "a secret is in the history",
        "RUN echo hf_abcdefghijklmnopqrstuvwxyz >/dev/null",
        by_host=True,
    ),
    Mutant(
        "a token in a label",
        "contract.layers",
        "a secret is in a label",
        "LABEL token=hf_abcdefghijklmnopqrstuvwxyz",
        by_host=True,
    ),
    Mutant(
        "a cache in a layer that is gone",
        "contract.caches",
        "5 MB are in /root/.cache/pip",
        "RUN mkdir -p /root/.cache/pip && head -c 5M /dev/urandom > /root/.cache/pip/wheel\nRUN rm -r /root/.cache",
        by_host=True,
    ),
    # what only the host can see
    Mutant(
        "a bloated image",
        "contract.size",
        "GB for",
        "RUN head -c 800M /dev/urandom > /opt/blob",
        by_host=True,
    ),
    Mutant(
        "a lying label",
        "identity.labels",
        "cudnn says 9.9",
        "LABEL dev.envbuilder.cudnn=9.9",
        by_host=True,
        beside=("identity.cudnn",),
    ),
    Mutant(
        "a list of requirements that is not the lock's",
        "identity.shipped",
        "requirements.txt is not the lock's",
        "RUN echo 'numpy==2.0.2' >> /opt/envbuilder/requirements.txt",
        by_host=True,
    ),
    Mutant(
        "a lock that was put there later",
        "identity.shipped",
        "the label dev.envbuilder.lock says sha256:",
        "RUN echo >> /opt/envbuilder/envbuilder.lock",
        by_host=True,
    ),
    Mutant(
        "a Python that reports another lock",
        "identity.shipped",
        "Python in the image has read another lock",
        python_is(LYING),
        by_host=True,
        beside=("identity.packages",),
    ),
    Mutant(
        "a Python that reports a GPU",
        "gpu.kernel",
        "it claims to have a GPU, but was given none",
        python_is(LYING),
        by_host=True,
    ),
    Mutant(
        "a Python that writes without end",
        "suite.complete",
        "it wrote more than 16 MB",
        python_is("exec yes"),
        by_host=True,
        beside=("identity.packages",),
    ),
    Mutant(
        "the job of one user",
        "contract.any_user",
        "[Pp]ermission denied",
        "RUN chmod -R go= /opt/envbuilder && chown -R 1000 /opt/envbuilder",
        by_host=True,
    ),
    Mutant(
        "an entrypoint that swallows signals",
        "contract.signals",
        "it still ran",
        'ENTRYPOINT ["/bin/sh", "-c", "/opt/envbuilder/payload/entrypoint \\"$@\\"; exit $?", "sh"]',
        by_host=True,
    ),
    Mutant(
        "a job that is deaf",
        "contract.signals",
        "it still ran",
        edit(
            f"{PAYLOAD}/train/__main__.py",
            "signal.signal(signal.SIGTERM, handle_interrupt)",
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        ),
        by_host=True,
    ),
    Mutant(
        "a job that calls an interrupt a success",
        "contract.signals",
        "exit code 0, not 130",
        edit(
            f"{PAYLOAD}/train/interrupts.py", "os._exit(130)", "import os; os._exit(0)"
        ),
        by_host=True,
    ),
    Mutant(
        "a forged pass",
        "suite.complete",
        "no answer to identity.packages",
        python_is(FORGED),
        by_host=True,
        beside=("identity.packages",),
    ),
    Mutant(
        "Python ends at once",
        "suite.complete",
        "no answer to identity.packages",
        python_is("exit 0"),
        by_host=True,
        beside=("identity.packages",),
    ),
    Mutant(
        "Python hangs",
        "suite.complete",
        "killed at its deadline",
        python_is("exec sleep 600"),
        by_host=True,
        accept=("--deadline", "5"),
        beside=("identity.packages",),
    ),
    Mutant(
        "Python cannot be executed",
        "suite.complete",
        "the suite cannot",
        "RUN rm /opt/venv/bin/python && mkdir /opt/venv/bin/python",
        by_host=True,
        beside=("identity.packages",),
    ),
    # GPUs
    Mutant(
        "no GPU, and one is needed",
        "gpu.visible",
        "the container has no NVIDIA driver",
        accept=("--require-gpu",),
    ),
    Mutant(
        "a GPU without a driver",
        "gpu.visible",
        "/dev/nvidia0 exists, but torch cannot use it: the container has no NVIDIA driver",
        run=GPU_NODE,
    ),
    Mutant(
        "a driver that is too old",
        "gpu.visible",
        "error 35",
        driver_says(
            "The NVIDIA driver on your system is too old (found version 11040)."
        ),
        run=GPU_NODE,
    ),
    Mutant(
        "cuda-compat and another driver",
        "gpu.visible",
        "error 803",
        driver_says(
            "Error 803: system has unsupported display driver / cuda driver combination"
        ),
        run=GPU_NODE,
    ),
    Mutant(
        "cuda-compat on a GeForce",
        "gpu.visible",
        "error 804",
        driver_says(
            "Error 804: forward compatibility was attempted on non supported HW"
        ),
        run=GPU_NODE,
    ),
    Mutant(
        "a GPU that is too new",
        "gpu.capability",
        "NVIDIA H100 has compute capability 9.0",
        gpu_of_straw(""),
    ),
    Mutant(
        "no kernel for the GPU",
        "gpu.kernel",
        "torch has no kernels for this GPU",
        gpu_of_straw(
            "def _no(*_, **__):\n    raise RuntimeError('CUDA error: no kernel image is available')\nTensor.cuda = _no\n"
        ),
    ),
    Mutant(
        "a GPU that computes wrongly",
        "gpu.precision",
        "is off by",
        gpu_of_straw(
            "_to = Tensor.to\nTensor.to = lambda self, device=None, dtype=None: _to(self, float32)\n"
        )
        + "\n"
        + edit("$S/torch/nn/functional.py", LAYER_NORM % "eps", LAYER_NORM % "0.1"),
    ),
    Mutant(
        "a GPU without its features",
        "gpu.features",
        "on a GPU of compute capability 9.0: .*torch.compile",
        gpu_of_straw(""),
    ),
    Mutant(
        "memory that stays taken",
        "gpu.memory",
        "bytes are not released",
        gpu_of_straw(
            "_n = __import__('itertools').count()\n_cuda.memory_allocated = lambda: next(_n)\n_empty = empty\nempty = lambda *a, device=None: _empty(*a)\n"
        ),
    ),
    Mutant(
        "NCCL without a driver", "gpu.nccl", "NVIDIA driver|NCCL|CUDA", gpu_of_straw("")
    ),
)
