"""Tensors out of a torch zip archive, without running its pickle.

A pickle names functions and has them called. Here a name gives one of four: a container of Python's, the rebuilding of
a tensor (written here), a stand-in that keeps its state and does nothing, for classes of the programs that write
checkpoints, or a refusal. No name of the file reaches an import. Format: torch/serialization.py, torch/_utils.py; in a
TorchScript archive the pickle holds modules of `__torch__.*` whose state is their attributes.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
DTYPES = {str(kind).removeprefix("torch."): kind for kind in STORAGES.values()}

CONTAINERS = {kind.__name__: kind for kind in (dict, list, tuple, set, frozenset, int, float, bool, str, complex)}

INERT = (
    "pytorch_lightning",
    "lightning",
    "lightning_fabric",
    "omegaconf",
    "torchmetrics",
    "__torch__",
    "typing",
    "yaml",
)
"""Packages whose objects lie in published checkpoints beside the tensors."""
INERT_NAMES = {
    ("argparse", "Namespace"),
    ("collections", "defaultdict"),
    ("collections", "deque"),
    ("copyreg", "_reconstructor"),
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("pathlib", "Path"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("torch", "device"),
    ("torch", "Size"),
}


class RefusedError(Exception):
    """The pickle names something that is neither data nor a class known to be harmless."""


class DamagedError(Exception):
    """Parts are missing or do not fit together."""


class StandIn:
    """In place of an object whose class isn't wanted: takes everything, does nothing, keeps its state."""

    def __new__(cls, *arguments: Any, **named: Any) -> StandIn:
        made = super().__new__(cls)
        made.state = None
        return made

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *arguments: Any, **named: Any) -> StandIn:
        return StandIn()

    def __setitem__(self, key: Any, value: Any) -> None:
        """Where the class was a dictionary; its entries are not wanted."""

    def append(self, value: Any) -> None:
        """Where the class was a list."""

    def extend(self, values: Any) -> None:
        """Where the class was a list."""

    def add(self, value: Any) -> None:
        """Where the class was a set."""


def read_zip(path: Path) -> dict[str, Tensor]:
    """All tensors of a zip that torch.save or TorchScript wrote, by dotted name.

    Raises:
        RefusedError, DamagedError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError
    """
    with zipfile.ZipFile(path) as archive:
        tops = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(tops) != 1:
            raise DamagedError("there is no data.pkl in this zip (a packed folder has to be unpacked first)")
        if f"{tops[0]}byteorder" in archive.NameToInfo and _entry(archive, f"{tops[0]}byteorder") != b"little":
            raise DamagedError("written on a big-endian machine")
        content = _entry(archive, f"{tops[0]}data.pkl")
        try:
            _check_memo(content)
            return flat(_Reader(content, archive, tops[0]).load())
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise DamagedError(f"its pickle makes no sense ({error})") from error


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """A file of the archive. torch writes them as they are, so that nothing takes more memory than it has on disk."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise DamagedError(f"{name} is compressed, which torch.save and TorchScript never do")
    return archive.read(name)


def _check_memo(content: bytes) -> None:
    """Refuses a number in the memo beyond any that the pickle's length could need: Python makes room up to it."""
    for code, number, _ in pickletools.genops(content):
        if code.name in {"PUT", "BINPUT", "LONG_BINPUT"} and number is not None and number > len(content):
            raise DamagedError(f"its pickle remembers a {number}th thing")


def flat(value: Any) -> dict[str, Tensor]:
    """Every tensor inside dictionaries, lists and stand-ins, by dotted name."""
    return dict(_walk(value, "", set()))


def _walk(value: Any, name: str, open_: set[int]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, StandIn):
        value = value.state
    if isinstance(value, Tensor):
        yield name, value
        return
    if isinstance(value, Mapping):
        parts: Iterator[tuple[Any, Any]] = iter(value.items())
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    else:
        return
    if id(value) in open_:
        return
    open_.add(id(value))
    for key, part in parts:
        yield from _walk(part, f"{name}.{key}" if name else str(key), open_)
    open_.remove(id(value))


class _Reader(pickle.Unpickler):
    def __init__(self, content: bytes, archive: zipfile.ZipFile, top: str) -> None:
        super().__init__(io.BytesIO(content))
        self.archive, self.top = archive, top
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What a name of the pickle stands for; nothing is imported."""
        known = _known(module, name)
        if known is None:
            raise RefusedError(f"it names {module}.{name}")
        return known

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage: ("storage", type, key, device, number of elements)."""
        kind, dtype, key, _, count = pid
        if kind != "storage":
            raise DamagedError(f"unknown reference {kind!r}")
        if key not in self.storages:
            self.storages[key] = self._storage(f"{self.top}data/{key}", dtype, int(count))
        return self.storages[key]

    def _storage(self, entry: str, dtype: torch.dtype, count: int) -> Tensor:
        if entry not in self.archive.NameToInfo:
            raise DamagedError(f"{entry} is missing")
        if count == 0:
            return torch.empty(0, dtype=dtype)
        size = count * dtype.itemsize
        if self.archive.getinfo(entry).file_size < size:
            raise DamagedError(f"{entry} is shorter than its tensors")
        return torch.frombuffer(bytearray(_entry(self.archive, entry)), dtype=dtype, count=count)


def _known(module: str, name: str) -> Any:
    if module in {"torch", "torch.storage"} and name in STORAGES:
        return STORAGES[name]
    if module in {"torch", "torch.storage"} and name == "UntypedStorage":
        return torch.uint8
    if module == "torch" and name in DTYPES:
        return DTYPES[name]
    if (module, name) in _FUNCTIONS:
        return _FUNCTIONS[module, name]
    if module in {"builtins", "__builtin__"} and name in CONTAINERS:
        return CONTAINERS[name]
    if (module, name) == ("collections", "OrderedDict"):
        return OrderedDict
    if module.split(".")[0] in INERT or (module, name) in INERT_NAMES:
        return type(name, (StandIn,), {})
    return None


def _view(storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int]) -> Tensor:
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= storage.numel()):
        raise DamagedError("a tensor reaches beyond its storage")
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _tensor(storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Tensor:
    return _view(storage, offset, size, stride)


def _typed(
    storage: Tensor, offset: int, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> Tensor:
    return _view(storage.view(dtype), offset, size, stride)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _bytes(values: Any = (), *encoding: str) -> bytes:
    """Python's, but for `bytes(10**14)`, which asks for as many zeros."""
    if not isinstance(values, bytes | str | list | tuple):
        raise DamagedError("it makes bytes of what holds none")
    return bytes(values, *encoding)


def _list(values: Any) -> list[Any]:
    return list(values)


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("builtins", "bytes"): _bytes,
    ("__builtin__", "bytes"): _bytes,
    **{("torch.jit._pickle", f"build_{kind}list"): _list for kind in ("int", "double", "bool", "tensor")},
}
