"""Published checkpoints are read without running anything, or refused in words."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bglora.errors import UserError
from bglora.nets.checkpoints import read, write


class Net(nn.Module):
    """Two parts, one of them shared with a buffer that is a view."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.register_buffer("turned", torch.arange(12.0).view(3, 4).t())

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x)


class Call:
    """Its pickle asks for a folder to be made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (str(self.folder),)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_dict_in_either_format_of_torch_save(tmp_path: Path, legacy: bool) -> None:
    state = Net().state_dict()
    torch.save({"model": state, "epoch": 3}, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    assert same(read(tmp_path / "a.pt"), {f"model.{name}": tensor for name, tensor in state.items()})


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_tensors_of_a_torchscript_archive_without_its_program(tmp_path: Path) -> None:
    net = Net().eval()
    torch.jit.save(torch.jit.trace(net, torch.zeros(1, 3, 8, 8)), tmp_path / "a.pt")
    found = read(tmp_path / "a.pt")
    assert all(torch.equal(found[name], tensor) for name, tensor in net.state_dict().items() if name in found)
    assert set(dict(net.named_parameters())) <= set(found)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_every_kind_of_number(tmp_path: Path, dtype: torch.dtype) -> None:
    wanted = {"a": torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype), "scalar": torch.tensor(1).to(dtype)}
    torch.save(OrderedDict(wanted), tmp_path / "a.ckpt")
    assert same(read(tmp_path / "a.ckpt"), wanted)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_asks_for_a_call_is_refused_and_nothing_is_called(tmp_path: Path, legacy: bool) -> None:
    made = tmp_path / "made-by-the-pickle"
    hostile = {"state_dict": Net().state_dict(), "callbacks": Call(made)}
    torch.save(hostile, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError) as told:
        read(tmp_path / "a.ckpt")
    assert len(str(told.value).splitlines()) == 3 and "a.ckpt" in told.value.where
    assert not made.exists()


@pytest.mark.parametrize("name", ["eval", "exec", "getattr", "__import__", "print"])
def test_no_function_of_python_is_reached_by_its_name(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("top/data.pkl", b"\x80\x02cbuiltins\n" + name.encode() + b"\n(X\x01\x00\x00\x001tR.")
    with pytest.raises(UserError, match="asks for code to be run"):
        read(tmp_path / "a.pt")


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(6.0)}, tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(tmp_path / "bad.pt", "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            bad.writestr(name, content[:12] if name.endswith("data/0") else content)
    with pytest.raises(UserError, match="shorter than its tensors"):
        read(tmp_path / "bad.pt")


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.95])
def test_a_cut_file_is_told_in_three_lines(tmp_path: Path, ending: str, kept: float) -> None:
    path = tmp_path / f"a.{ending}"
    state = Net().state_dict()
    if ending == "pt":
        torch.save(state, path)
    else:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    refused(path)


def test_an_older_file_is_told_in_three_lines_wherever_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(Net().state_dict(), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        refused(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("packed", ["data.pkl", "data/0", "byteorder"])
def test_a_packed_entry_is_refused_before_it_is_unpacked(tmp_path: Path, packed: str, compression: int) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(tmp_path / "bad.pt", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name), compression if name.endswith(packed) else zipfile.ZIP_STORED)
    assert f"{packed} is compressed" in refused(tmp_path / "bad.pt").what


@pytest.mark.parametrize(
    "asked",
    [
        b"cbuiltins\nbytes\n(\x8a\x08" + (10**14).to_bytes(8, "little") + b"tR",
        b"cbuiltins\nbytes\n(\x8a\x08" + (10**14).to_bytes(8, "little") + b"t\x81",
        b"}r" + (10**7).to_bytes(4, "little"),
    ],
)
def test_a_pickle_that_asks_for_vast_memory_gets_none(tmp_path: Path, asked: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("top/data.pkl", b"\x80\x02" + asked + b".")
    refused(tmp_path / "a.pt")


def refused(path: Path) -> UserError:
    with pytest.raises(UserError) as told:
        read(path)
    assert len(str(told.value).splitlines()) == 3 and told.value.where == str(path)
    return told.value


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "content, words",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>Not found</html>", "a web page"),
        (pickle.dumps({"a": 1}), "can't be read without running"),
    ],
)
def test_what_is_no_checkpoint_is_told_by_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read(tmp_path / "a.ckpt")


def test_what_is_written_is_read_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in Net().state_dict().items()}
    write(tmp_path / "deep" / "a.safetensors", state)
    assert same(read(tmp_path / "deep" / "a.safetensors"), state)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.safetensors"]
