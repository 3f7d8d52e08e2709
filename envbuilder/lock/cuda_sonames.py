"""Which CUDA a library is of, by its name (the sonames of NVIDIA's wheels for CUDA 11, 12 and 13).

`docker/payload/acceptance/cuda_names.py` has the same for the suite, and a test compares them.
"""

import re

_CUDA = re.compile(
    r"lib(cudart|cublas|cublasLt|nvrtc|nvJitLink|cupti|cufft|cufftw|curand|cusparse|cusolver)\.so\.([0-9]{1,4})"
    r"(?:\.[0-9]+)*"
)
_CUDNN = re.compile(r"libcudnn\w*\.so\.([0-9]{1,4})(?:\.[0-9]+)*")
# The numbers of these are their own; those of the others are CUDA's.
_MAJORS = {
    ("cufft", 10): (10, 11),
    ("cufft", 11): (12,),
    ("cufft", 12): (13,),
    ("curand", 10): (10, 11, 12, 13),
    ("cusparse", 12): (12, 13),
    ("cusolver", 11): (11, 12),
    ("cusolver", 12): (13,),
}


def cuda_majors(soname: str) -> tuple[int, ...]:
    """The CUDA majors that have a library of this name; () if it is not one of CUDA's."""
    match = _CUDA.fullmatch(soname)
    if match is None:
        return ()
    stem = match[1]
    if stem == "cufftw":
        stem = "cufft"
    number = int(match[2])
    of_cuda = (number,)
    return _MAJORS.get((stem, number), of_cuda)


def cudnn_major(soname: str) -> int | None:
    """The major of cuDNN that a library is of; None if it is not one of cuDNN's."""
    match = _CUDNN.fullmatch(soname)
    return int(match[1]) if match else None
