"""SAM 2.1's published checkpoints: names, sizes, what is refused; short memory and short numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bglora.errors import MachineError, UserError
from bglora.nets import sam2, sam2_checkpoint
from bglora.vision.following import Prompt
from tests.backends import tiny_sam2

CPU = torch.device("cpu")

COUNTS = {"tiny": 38_962_498, "small": 46_060_354, "base_plus": 80_850_178, "large": 224_446_642}
"""Parameters of the published models."""


@pytest.mark.parametrize("size", COUNTS)
def test_every_size_has_the_parameters_of_the_published_one(size: str) -> None:
    from transformers import Sam2VideoModel

    with torch.device("meta"):
        model = Sam2VideoModel(sam2_checkpoint.config(size))
    assert sum(value.numel() for value in model.parameters()) == COUNTS[size]


def test_the_large_file_of_the_package_has_every_tensor_of_the_model() -> None:
    from transformers import Sam2VideoModel

    published = {name: torch.empty(shape, device="meta") for name, shape in tiny_sam2.package_names().items()}
    assert len(published) == 903
    with torch.device("meta"):
        model = Sam2VideoModel(sam2_checkpoint.config_of(published))
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in sam2_checkpoint.from_package(published).items()}
    assert found == wanted


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> str:
    """A size with a small encoder; all else as published."""
    sizes = {**sam2_checkpoint.SIZES, "narrow": (8, 1, [1, 1, 2, 1], [3], [8, 4, 14, 7], [7, 7])}
    monkeypatch.setattr(sam2_checkpoint, "SIZES", sizes)
    return "narrow"


def test_a_file_of_the_package_loads_with_every_number_in_its_place(narrow: str, tmp_path: Path) -> None:
    from transformers import Sam2VideoModel

    model = tiny_sam2.randomized(Sam2VideoModel(sam2_checkpoint.config(narrow)))
    path = tmp_path / "sam2.1_hiera_narrow.pt"
    torch.save({"model": tiny_sam2.to_package(model)}, path)
    loaded = sam2.load(path, CPU, torch.float32)
    wanted, found = model.state_dict(), loaded.state_dict()
    assert wanted.keys() == found.keys()
    # one matrix in the file, used in two places
    shared = "shared_image_embedding.positional_embedding"
    wanted[shared] = wanted["prompt_encoder.shared_embedding.positional_embedding"]
    assert all(torch.equal(wanted[name], found[name]) for name in wanted if name != shared)
    assert torch.equal(found[shared], found["prompt_encoder.shared_embedding.positional_embedding"])


def test_a_file_of_the_package_that_lacks_a_tensor_is_refused(narrow: str, tmp_path: Path) -> None:
    from transformers import Sam2VideoModel

    tensors = tiny_sam2.to_package(Sam2VideoModel(sam2_checkpoint.config(narrow)))
    del tensors["sam_mask_decoder.iou_token.weight"]
    path = tmp_path / "cut.pt"
    torch.save({"model": tensors}, path)
    with pytest.raises(UserError, match=r"don't fit .*1 tensors are missing.*iou_token"):
        sam2.load(path, CPU, torch.float32)


def test_sam2_of_another_version_or_size_and_other_models_are_refused(tmp_path: Path) -> None:
    names = {name: torch.empty(shape, device="meta") for name, shape in tiny_sam2.package_names().items()}
    del names["no_obj_embed_spatial"]
    with pytest.raises(ValueError, match="not SAM 2.1"):
        sam2_checkpoint.config_of(names)
    with pytest.raises(ValueError, match="no size"):
        sam2_checkpoint.config_of({sam2_checkpoint.WIDTH: torch.empty(17, 3, 7, 7)})
    path = tmp_path / "other.pt"
    torch.save({"model": {"a.weight": torch.zeros(2)}}, path)
    with pytest.raises(UserError, match="no checkpoint of SAM 2.1"):
        sam2.load(path, CPU, torch.float32)


@pytest.mark.parametrize("absent", sam2_checkpoint.SHARED)
def test_a_hub_folder_may_hold_the_shared_matrix_once(absent: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = tiny_sam2.write_sam2(tmp_path) / "model.safetensors"
    tensors = load_file(file)
    (present,) = set(sam2_checkpoint.SHARED) - {absent}
    del tensors[absent]
    save_file(tensors, file, {"format": "pt"})
    found = sam2.load(tmp_path, CPU, torch.float32).state_dict()
    assert torch.equal(found[absent], tensors[present]) and torch.equal(found[present], tensors[present])
    del tensors[present]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(UserError, match="2 tensors are missing"):
        sam2.load(tmp_path, CPU, torch.float32)


def test_where_memory_is_short_the_net_looks_at_fewer_frames_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sam2.load(tiny_sam2.write_sam2(tmp_path), CPU, torch.float32)
    follower = sam2.Sam2Follower(model, batch=4)
    frames = list(np.random.default_rng(0).integers(0, 256, (5, 60, 90, 3)).astype(np.uint8))
    whole, seen, batches = follower.look(frames), model.get_image_features, []

    def small(pixels: torch.Tensor, **kwargs: Any) -> Any:
        batches.append(len(pixels))
        if len(pixels) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return seen(pixels, **kwargs)

    monkeypatch.setattr(model, "get_image_features", small)
    limit = 2
    again = follower.look(frames)
    assert batches == [4, 2, 2, 1] and len(again) == 5
    one, other = (torch.stack([view.features[-1] for view in views]) for views in (whole, again))
    assert torch.allclose(one, other, atol=1e-4)
    limit = 0
    with pytest.raises(MachineError, match="too little memory"):
        follower.look(frames)


def test_half_precision_follows_as_full_precision_does(tmp_path: Path) -> None:
    frames = list(np.random.default_rng(1).integers(0, 256, (3, 60, 90, 3)).astype(np.uint8))
    answers = []
    for dtype in (torch.float32, torch.bfloat16):
        follower = sam2.Sam2Follower(sam2.load(tiny_sam2.write_sam2(tmp_path), CPU, dtype))
        views = follower.look(frames)
        memory, first = follower.begin(views[0], 0, 3, Prompt(box=(10.0, 10.0, 60.0, 50.0)))
        answers.append([first, *(follower.step(memory, views[k], k, back=False) for k in (1, 2))])
    full, half = (np.stack(one) for one in answers)
    assert np.corrcoef(full.ravel(), half.ravel())[0, 1] > 0.99
