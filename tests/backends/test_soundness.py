"""Files that can't be weights are told apart before anything is made with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bglora.backends.soundness import check
from bglora.errors import UserError


def saved(path: Path) -> Path:
    save_file({"a": torch.arange(64.0)}, path)
    return path


def test_whole_checkpoints_of_each_kind_pass(tmp_path: Path) -> None:
    check(saved(tmp_path / "a.safetensors"), setting="inpaint.lama")
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    torch.save({"a": torch.ones(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    check(tmp_path / "a.pt", setting="inpaint.lama")
    check(tmp_path / "old.pt", setting="inpaint.lama")
    check(tmp_path, setting="inpaint.lama")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"just some text", "no checkpoint"), (b"", "no checkpoint"), (b"#!/bin/sh\nrm", "no checkpoint")],
)
def test_what_is_no_checkpoint_is_told_in_three_lines(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "r.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as told:
        check(path, setting="inpaint.lama")
    assert told.value.where == f"inpaint.lama = {path}" and "bglora models" in told.value.cure


@pytest.mark.parametrize("left", [20, 100, -1])
def test_a_file_that_was_cut_is_told(tmp_path: Path, left: int) -> None:
    path = saved(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(UserError, match="cut short"):
        check(path, setting="inpaint.lama")


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no weights in this folder"):
        check(tmp_path, setting="inpaint.lama")
