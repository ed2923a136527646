"""SAM 2.1 (Ravi et al. 2024) on transformers' classes: follows somebody whom a box, points or a mask point out.

Pictures are squeezed to the net's square and normalized here, as the published models were trained; transformers' own
preprocessing needs torchvision. What the net remembers of somebody is one session each, kept short: of frames that lie
further back than the net looks nothing stays, so that a shot may be of any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import Sam2VideoInferenceSession
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceCache

from bglora.errors import UserError
from bglora.nets import checkpoints, pretrained, sam2_checkpoint
from bglora.nets.device import in_halves
from bglora.vision.arrays import F32, U8
from bglora.vision.following import Prompt

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, per RGB channel."""
SOMEBODY = 1
BATCH = 8
"""Frames that are looked at together."""
CURE = "Choose a smaller sam2, lower segment.window, or set BGLORA_DEVICE=cpu"


def load(path: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The video model from a folder of the hub, or from a file published for the `sam2` package.

    Raises:
        UserError: another model, or a damaged one.
    """
    if path.is_dir():
        return pretrained.load("Sam2VideoModel", path, ["sam2_video"], device, dtype, [sam2_checkpoint.SHARED])
    tensors = checkpoints.read(path)
    tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    if not sam2_checkpoint.is_package(tensors):
        raise UserError("This is no checkpoint of SAM 2.1.", where=str(path), cure=pretrained.CURE)
    try:
        config = sam2_checkpoint.config_of(tensors)
    except ValueError as error:
        raise UserError(f"This checkpoint can't be used: {error}.", where=str(path), cure=pretrained.CURE) from error
    named = sam2_checkpoint.from_package(tensors)
    return pretrained.from_tensors("Sam2VideoModel", path, config, named, device, dtype)


@dataclass(frozen=True)
class View:
    """What the net sees in one frame.

    Attributes:
        features: per level (h * w, 1, C), finest first, on the net's device.
        positions: of the coarsest level (h * w, 1, C); the same tensor for all frames.
        size: height and width of the frame.
    """

    features: list[Tensor]
    positions: Tensor
    size: tuple[int, int]


class Sam2Follower:
    """A `Follower` (see `vision.following`) on a model with the interface of `transformers.Sam2VideoModel`.

    Args:
        model: loaded, on its device.
        batch: frames that are looked at together at most; less where memory is short.
    """

    def __init__(self, model: Any, batch: int = BATCH) -> None:
        self.model, self.batch = model, batch
        self.side = int(model.image_size)
        # In half precision a point of a 1024 wide picture would be off by up to 4 pixels.
        model.prompt_encoder.shared_embedding.float()

    @property
    def device(self) -> torch.device:
        """Where the net runs."""
        return torch.device(self.model.device)

    def look(self, frames: Sequence[U8]) -> list[View]:
        """See `Follower.look`."""
        return in_halves(self._look, frames, self.batch, where="SAM 2", cure=CURE)

    def pixels(self, frames: Sequence[U8], mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
        """Frames as the net takes them: (N, 3, side, side), squeezed to a square, normalized."""
        out = torch.empty(len(frames), 3, self.side, self.side, device=self.device, dtype=self.model.dtype)
        center, spread = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (mean, std))
        for k, frame in enumerate(frames):
            picture = torch.from_numpy(np.ascontiguousarray(frame)).to(self.device).permute(2, 0, 1)[None].float()
            square = functional.interpolate(picture, (self.side, self.side), mode="bilinear", antialias=True)[0]
            out[k] = (square / 255 - center) / spread
        return out

    @torch.inference_mode()
    def _look(self, frames: Sequence[U8]) -> list[View]:
        seen = self.model.get_image_features(self.pixels(frames), return_dict=True)
        return views(seen.fpn_hidden_states, seen.fpn_position_encoding, frames)

    @torch.inference_mode()
    def begin(self, view: View, place: int, count: int, prompt: Prompt) -> tuple[_Memory, F32]:
        """See `Follower.begin`."""
        memory = _Memory(self.model, count)
        index = memory.obj_id_to_idx(SOMEBODY)
        if prompt.mask is not None:
            memory.add_mask_inputs(index, place, self._mask(prompt.mask))
        else:
            memory.add_point_inputs(index, place, self._points(prompt, view.size))
        memory.obj_with_new_inputs = [SOMEBODY]
        return memory, self._run(memory, view, place, back=False)

    @torch.inference_mode()
    def step(self, memory: _Memory, view: View, place: int, *, back: bool) -> F32:
        """See `Follower.step`."""
        return self._run(memory, view, place, back=back)

    def _run(self, memory: _Memory, view: View, place: int, *, back: bool) -> F32:
        memory.shown.view = view
        (seen,) = in_halves(
            lambda _: [self.model(memory, frame_idx=place, reverse=back)], [view], 1, where="SAM 2", cure=CURE
        )
        memory.forget(place, self.model.config)
        return np.asarray(seen.pred_masks[0, 0].float().cpu().numpy(), np.float32)

    def _mask(self, mask: np.ndarray) -> Tensor:
        picture = torch.from_numpy(mask.astype(np.float32))[None, None].to(self.device)
        square = functional.interpolate(picture, (self.side, self.side), mode="bilinear", antialias=True)
        return (square > 0.5).to(self.model.dtype)

    def _points(self, prompt: Prompt, size: tuple[int, int]) -> dict[str, Tensor]:
        """A box is two points with labels of their own: 2 its left top, 3 its right bottom."""
        points = [(x, y, int(on)) for x, y, on in prompt.points]
        if prompt.box is not None:
            left, top, right, bottom = prompt.box
            points = [(left, top, 2), (right, bottom, 3), *points]
        scale = torch.tensor([self.side / size[1], self.side / size[0]])
        at = torch.tensor([[x, y] for x, y, _ in points], dtype=torch.float32) * scale
        labels = torch.tensor([label for *_, label in points], dtype=torch.int32)
        return {"point_coords": at[None, None], "point_labels": labels[None, None]}


def views(features: Sequence[Tensor], positions: Sequence[Tensor], frames: Sequence[U8]) -> list[View]:
    """One `View` a frame of features (h * w, N, C) and their positions."""
    size = (frames[0].shape[0], frames[0].shape[1])
    shared = positions[-1][:, :1].clone()
    return [View([level[:, k : k + 1] for level in features], shared, size) for k in range(len(frames))]


class _Shown(Sam2VideoInferenceCache):  # type: ignore[misc]
    """A session's cache of features that holds the frame that is looked at now."""

    view: View

    def get_vision_features(self, frame_idx: int) -> dict[str, Any]:
        return {"vision_feats": self.view.features, "vision_pos_embeds": [self.view.positions]}


class _Memory(Sam2VideoInferenceSession):  # type: ignore[misc]
    """What the net remembers of one character: his frame of reference and the last few that it looked at."""

    def __init__(self, model: Any, count: int) -> None:
        super().__init__(
            inference_device=model.device,
            inference_state_device=model.device,
            video_storage_device=model.device,
            dtype=model.dtype,
        )
        self.count, self.shown = count, _Shown()
        self.cache = self.shown

    @property
    def num_frames(self) -> int:
        """Frames of the shot; none of them is kept here."""
        return self.count

    def forget(self, place: int, config: Any) -> None:
        """Lets go of what the net doesn't look at again from `place` on, in either direction."""
        for kept in self.output_dict_per_obj.values():
            for outputs in kept.values():
                for output in outputs.values():
                    output.pop("high_res_masks", None)
            passed = kept["non_cond_frame_outputs"]
            for number in list(passed):
                if abs(number - place) >= config.num_maskmem:
                    for part in ("maskmem_features", "maskmem_pos_enc", "pred_masks"):
                        passed[number].pop(part, None)
                if abs(number - place) >= max(config.max_object_pointers_in_encoder, config.num_maskmem):
                    del passed[number]
        for tracked in self.frames_tracked_per_obj.values():
            for number in [n for n in tracked if abs(n - place) > config.max_object_pointers_in_encoder]:
                del tracked[number]
