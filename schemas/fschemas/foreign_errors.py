"""Known errors of other libraries: full class name and message pattern, with exit code and message for the user."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENVIRONMENT, _INTEGRITY, _USAGE = 4, 5, 2


@dataclass(frozen=True)
class Known:
    """Errors of one kind.

    `kinds` are full class names of the error or of a base class; a name that ends with a dot matches all classes of
    that module. `words` is a pattern that is searched in the message. In `sentence`, `{words}` is the shortened message
    and `{name}` a named group of `words`.
    """

    library: str
    kinds: tuple[str, ...]
    words: re.Pattern[str]
    code: int
    sentence: str


def _known(library: str, kinds: str, words: str, code: int, sentence: str) -> Known:
    return Known(library, tuple(kinds.split()), re.compile(words, re.IGNORECASE | re.DOTALL), code, sentence)


_RUNTIME = "builtins.RuntimeError"
_AGAIN = "and run the command again"
_GPU_MEMORY = "the GPU has too little free memory; use smaller batches (fit.batch_size, fit.micro_batches, --batch-size) or another GPU"
_MEMORY = f"out of memory; use fewer workers or smaller batches {_AGAIN}"
_NETWORK = f"the network or the storage cannot be reached ({{words}}); check the address and the connection {_AGAIN}"
_PROCESSES = f"the processes of this run lost each other ({{words}}); see what ended the first of them {_AGAIN}"
_IMAGE = "an image file cannot be read ({words}); restore it from its source, or remove it"

KNOWN: tuple[Known, ...] = (
    # torch: memory and devices.
    _known("torch", "torch.OutOfMemoryError torch.cuda.OutOfMemoryError", "", _ENVIRONMENT, _GPU_MEMORY),
    _known("torch", _RUNTIME, r"(CUDA|HIP|cuDNN|CUBLAS|cublas)\S* (error: )?(out of memory|\S*ALLOC_FAILED)", _ENVIRONMENT, _GPU_MEMORY),
    _known("torch", _RUNTIME, r"DefaultCPUAllocator|not enough memory: you tried to allocate|std::bad_alloc", _ENVIRONMENT, _MEMORY),
    _known(
        "torch", f"{_RUNTIME} builtins.AssertionError",
        r"no NVIDIA driver|No CUDA GPUs are available|not compiled with CUDA|requires at least one CUDA device|"
        r"no (CUDA|NCCL) support|doesn't have NCCL|device ordinal",
        _ENVIRONMENT, "there is no GPU that torch can use here ({words}); use --device cpu, or install the driver",
    ),
    _known(
        "torch", f"{_RUNTIME} torch.AcceleratorError", r"no kernel image is available", _ENVIRONMENT,
        "this torch does not support this GPU; install a build of torch for it, or take --device cpu",
    ),
    _known(
        "torch", f"{_RUNTIME} torch.AcceleratorError",
        r"CUDA error|cuDNN error|CUBLAS_STATUS|CUDNN_STATUS|NVRTC|unspecified launch failure|uncorrectable ECC", _ENVIRONMENT,
        f"the GPU reports an error ({{words}}); check nvidia-smi and other processes on it {_AGAIN}",
    ),
    # torch: reading and writing.
    _known(
        "torch", "_pickle.UnpicklingError pickle.UnpicklingError", r"weights.only|unsupported (global|class|operand)", _INTEGRITY,
        "a weight file holds more than tensors, so that reading it could run code; it is refused: store it as safetensors",
    ),
    _known(
        "torch", f"_pickle.UnpicklingError pickle.UnpicklingError {_RUNTIME}",
        r"pickle data was truncated|invalid load key|PytorchStreamReader|invalid header or archive is corrupted|unexpected EOF", _INTEGRITY,
        "a weight file is damaged or is none; restore it from its source",
    ),
    _known(
        "torch", _RUNTIME, r"inline_container\.cc|PytorchStreamWriter|unexpected pos \d+ vs", _ENVIRONMENT,
        f"a weight file cannot be written, as on a full disk; free some space {_AGAIN}",
    ),
    _known(
        "torch", _RUNTIME, r"loading state_dict for (?P<network>\w+)", _INTEGRITY,
        "the weights do not fit the network {network}: {words}; use weights of the same model and configuration",
    ),
    # torch: data workers, shared memory and threads.
    _known(
        "torch", _RUNTIME, r"DataLoader worker .*(exited unexpectedly|is killed by signal)|unable to (open|mmap|write|allocate).*shm|"
        r"shared memory|insufficient shared memory", _ENVIRONMENT,
        f"a data worker died, perhaps for want of memory or of space in /dev/shm ({{words}}); use fewer workers {_AGAIN}",
    ),
    _known(
        "torch", _RUNTIME, r"ancdata|too many open files", _ENVIRONMENT,
        f"too many open files; raise the limit (ulimit -n) or use fewer workers {_AGAIN}",
    ),
    _known("python", _RUNTIME, r"can't start new thread", _ENVIRONMENT, f"no more threads may be started here; raise the limit {_AGAIN}"),
    # torch: several processes.
    _known("torch", "torch.distributed.DistError torch.distributed.DistBackendError", "", _ENVIRONMENT, _PROCESSES),
    _known(
        "torch", _RUNTIME, r"gloo|NCCL|connection (closed|reset) by peer|Timed out (waiting|initializing)|Broken pipe|"
        r"ProcessGroup|monitoredBarrier", _ENVIRONMENT, _PROCESSES,
    ),
    _known(
        "torch", "builtins.ValueError", r"environment variable (?P<variable>RANK|WORLD_SIZE|MASTER_ADDR|MASTER_PORT|LOCAL_RANK)\b",
        _USAGE, "the environment variable {variable} is not set; start several processes with torchrun",
    ),
    # torch: compiling.
    _known(
        "torch", f"torch._inductor. torch._dynamo. triton. {_RUNTIME}",
        r"InvalidCxxCompiler|No working C\+\+ compiler|Failed to find C compiler|CppCompileError|C\+\+ compile error|Python\.h", _ENVIRONMENT,
        "torch.compile finds no C++ compiler that works; install one (g++ and Python's headers), or train without --compile",
    ),
    _known(
        "torch", "torch._inductor. torch._dynamo. triton.", "", _ENVIRONMENT,
        "torch.compile cannot compile this network here ({words}); train without --compile",
    ),
    # torch: unsupported sizes of a network or layer.
    _known(
        "torch", "builtins.ValueError", r"Expected more than 1 value per channel when training", _USAGE,
        "batch normalization cannot train on a batch of one; use larger batches (fit.batch_size, fit.micro_batches)",
    ),
    _known(
        "torch", _RUNTIME, r"Kernel size can't be greater than actual input size|Calculated (padded )?(input|output) size.*too small|"
        r"Output size is too small", _USAGE,
        "the network shrinks its input to nothing ({words}); use a larger model.input_size",
    ),
    # safetensors
    _known(
        "safetensors", "safetensors._safetensors_rust.SafetensorError safetensors_rust.SafetensorError safetensors.SafetensorError",
        r"serializ\w+: I/O|while writing", _ENVIRONMENT, f"a weight file cannot be written ({{words}}); free some space {_AGAIN}",
    ),
    _known(
        "safetensors", "safetensors._safetensors_rust.SafetensorError safetensors_rust.SafetensorError safetensors.SafetensorError",
        "", _INTEGRITY, "a safetensors file is damaged or is none ({words}); restore it from its source",
    ),
    # faiss
    _known(
        "faiss", _RUNTIME, r"faiss.*(could not open .* for (reading|writing)|write error)", _ENVIRONMENT,
        f"a faiss index cannot be read or written ({{words}}); check the disk {_AGAIN}",
    ),
    _known(
        "faiss", _RUNTIME, r"faiss.*(read error|not recognized|index_read\.cpp|unexpected|invalid)", _INTEGRITY,
        "a faiss index is damaged or is none ({words}); build the index again",
    ),
    _known(
        "faiss", _RUNTIME, r"faiss.*(training points|could not parse index string|index_factory)", _USAGE,
        "faiss cannot build such an index of so few images ({words}); use --kind exact",
    ),
    # fsspec and its backends
    _known(
        "fsspec", "builtins.ValueError", r"Protocol not known: (?P<protocol>\S+)", _USAGE,
        "{protocol}:// is no storage that is known here; use a local folder, s3://, gs://, https:// or another scheme of fsspec",
    ),
    _known(
        "fsspec", "builtins.ImportError", r"(install|requires) .*(s3fs|gcsfs|adlfs|aiohttp|paramiko|fsspec|to access)", _ENVIRONMENT,
        "a package for this storage is missing ({words})",
    ),
    _known("fsspec", "fsspec.exceptions.FSTimeoutError aiohttp. botocore.exceptions. httpx. httpx2. httpcore. httpcore2. requests.exceptions. "
           "urllib3.exceptions. google.auth.exceptions. gcsfs. azure. ssl.SSLError socket.gaierror http.client.HTTPException",
           "", _ENVIRONMENT, _NETWORK),
    _known("huggingface_hub", "huggingface_hub.errors. huggingface_hub.utils.", "", _ENVIRONMENT,
           "a file of the Hugging Face hub cannot be had ({words}); check its name and the connection, or give a local file"),
    # timm
    _known("timm", _RUNTIME, r"Unknown model \((?P<model>[^)]*)\)", _USAGE, "timm knows no network {model}; `timm.list_models()` lists those it knows"),
    _known("timm", _RUNTIME, r"Invalid pretrained tag|No pretrained weights exist|pretrained weights .*not (found|available)", _USAGE,
           "timm has no such weights ({words}); choose another tag, or model.weights=none or a file"),
    _known("timm", "builtins.AssertionError", r"feature index \d+ is out of range|Input (height|width|img).*doesn't match|"
           r"should be divisible by patch size", _USAGE, "the network cannot be used so ({words}); choose another model.backbone or model.input_size"),
    # OpenCV
    _known("OpenCV", "cv2.error", r"Insufficient memory|Failed to allocate", _ENVIRONMENT, _MEMORY),
    _known("OpenCV", "cv2.error", r"SHRT_MAX|32767|too (large|big)|CV_IO_MAX_IMAGE", _USAGE,
           "an image is too large for OpenCV ({words}); make it smaller, with at most 32,766 pixels a side"),
    _known("OpenCV", "cv2.error", r"could not find a (writer|encoder)", _USAGE,
           "OpenCV writes no images of this kind ({words}); give the file an ending such as .png or .jpg"),
    _known("OpenCV", "cv2.error", r"empty\(\)", _INTEGRITY, _IMAGE),
    # Pillow, simplejpeg
    _known("Pillow", "PIL.UnidentifiedImageError PIL.Image.DecompressionBombError", "", _INTEGRITY, _IMAGE),
    _known("Pillow", "builtins.OSError builtins.SyntaxError builtins.ValueError",
           r"image file is truncated|broken (data stream|PNG)|decoder error|unrecognized data stream|bad image data|cannot decode image|"
           r"not a (PNG|TIFF|GIF|BMP|WebP) file|tj\w+\(\)", _INTEGRITY, _IMAGE),
    _known("Pillow", "builtins.OSError", r"encoder error", _ENVIRONMENT, f"an image cannot be written ({{words}}); check the disk {_AGAIN}"),
    # numpy
    _known("numpy", "builtins.OSError", r"\d+ requested and \d+ written", _ENVIRONMENT,
           f"an array cannot be written whole, as on a full disk; free some space {_AGAIN}"),
    _known("numpy", "builtins.ValueError builtins.OSError builtins.EOFError",
           r"allow_pickle=False|contains? pickled|Failed to interpret file|magic string is not correct|Cannot parse header|No data left in file|"
           r"mmap length is greater than file size|requested and \d+ read", _INTEGRITY,
           "a file of arrays is damaged or is none; restore it, or make it again"),
    # pyarrow, polars
    _known("pyarrow", "pyarrow.lib.ArrowMemoryError", "", _ENVIRONMENT, _MEMORY),
    _known("pyarrow", "pyarrow.lib.ArrowInvalid pyarrow.lib.ArrowNotImplementedError pyarrow.lib.ArrowSerializationError pyarrow.lib.ArrowIOError builtins.OSError",
           r"parquet|Arrow file|thrift|page|footer|magic|snappy|zstd|corrupt|CRC", _INTEGRITY,
           "a Parquet table is damaged or is none ({words}); write it again"),
    _known("polars", "polars.exceptions.ComputeError", r"parquet|out of specification|ipc|csv|fields than defined", _INTEGRITY,
           "a table is damaged or is none ({words}); write it again"),
    _known("polars", "polars.exceptions.ColumnNotFoundError polars.exceptions.SchemaError polars.exceptions.SchemaFieldNotFoundError", "",
           _INTEGRITY, "a table lacks what belongs into it ({words}); write it again with this version"),
    _known("polars", "pyo3_runtime.PanicException", r"memory|capacity overflow|alloc", _ENVIRONMENT, _MEMORY),
    # DVC and DVCLive
    _known("DVCLive", "dvclive.error.", "", _ENVIRONMENT, "DVCLive cannot log here ({words}); train with --tracker none, or restore RUN/dvclive"),
    _known("DVC", "dvc.exceptions. dvc.scm. scmrepo.exceptions. dvc_data. dvc_objects. git.exc.", "", _ENVIRONMENT,
           "DVC or Git fails ({words}); check `dvc status`, or train with --tracker none"),
    # ONNX
    _known("onnx", "google.protobuf.message.DecodeError onnx.onnx_cpp2py_export.checker.ValidationError onnx.checker.ValidationError "
           "onnx.onnx_cpp2py_export.shape_inference.InferenceError", "", _INTEGRITY,
           "an ONNX model is damaged or is none ({words}); export it again"),
    _known("onnx", "google.protobuf.message.EncodeError builtins.ValueError", r"exceeds? maximum protobuf size|2\s?GB", _USAGE,
           "the model is too large for one ONNX file (2 GB); use --to torch-export"),
    _known("onnx", "torch.onnx. torch.export. onnxscript.", "", _USAGE,
           "the network cannot be exported to this format ({words}); try the other one with --to"),
    _known("onnxruntime", "onnxruntime.capi.onnxruntime_pybind11_state.NoSuchFile", "", _USAGE, "there is no such ONNX model ({words})"),
    _known("onnxruntime", "onnxruntime.capi.onnxruntime_pybind11_state.",
           r"allocat|memory|CUDA|cudnn|provider", _ENVIRONMENT, f"ONNX Runtime cannot work here ({{words}}); free some memory {_AGAIN}"),
    _known("onnxruntime", "onnxruntime.capi.onnxruntime_pybind11_state.", "", _INTEGRITY,
           "ONNX Runtime cannot run the model ({words}); export it again"),
    # trackers
    _known("mlflow", "mlflow.exceptions.", "", _ENVIRONMENT, "MLflow fails ({words}); check MLFLOW_TRACKING_URI, or train without --tracker mlflow"),
    # Python itself
    _known("python", "tarfile.TarError zipfile.BadZipFile gzip.BadGzipFile zlib.error _lzma.LZMAError lzma.LZMAError", "", _INTEGRITY,
           "an archive or a compressed file is damaged or is none ({words}); fetch it again"),
    _known("python", "concurrent.futures.process.BrokenProcessPool concurrent.futures._base.BrokenExecutor", "", _ENVIRONMENT,
           f"a process at work for us died (killed, or out of memory); use fewer workers {_AGAIN}"),
    _known("python", "builtins.UnicodeDecodeError", "", _INTEGRITY, "a text file is not UTF-8 ({words}); restore it from its source"),
    _known("python", "builtins.UnicodeEncodeError", r"surrogates not allowed", _USAGE,
           "a name is not valid UTF-8 ({words}); rename the file or folder"),
    _known("python", "builtins.ValueError", r"embedded null (byte|character)", _USAGE, "a path contains a NUL byte; correct it"),
    _known("python", "urllib.error.URLError builtins.ConnectionError builtins.TimeoutError", "", _ENVIRONMENT, _NETWORK),
)  # fmt: skip
