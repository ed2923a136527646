"""Engines that paint with diffusion models: what the model is given, what words do, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bglora import backends
from bglora.errors import MachineError, UserError
from bglora.nets.brushnet import TENSORS
from bglora.settings.plates import InpaintSettings
from tests.backends import tiny_diffusion as tiny
from tests.backends import tiny_lama
from tests.vision import drawn

FRAME = drawn.texture(41).astype(np.uint8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def figure() -> np.ndarray:
    """A head on a thin body with arms."""
    hole = np.zeros(FRAME.shape[:2], bool)
    ys, xs = np.mgrid[0 : hole.shape[0], 0 : hole.shape[1]]
    hole |= (ys - 50) ** 2 + (xs - 120) ** 2 <= 8**2
    hole[58:84, 118:122] = hole[64:67, 104:136] = True
    return hole


def solidity(mask: np.ndarray) -> float:
    """Share of the convex hull that a mask takes."""
    import cv2

    points = np.argwhere(mask).astype(np.int32)
    hull = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points)[:, 0, ::-1].copy(), 1)
    return float(mask.sum() / hull.sum())


def engine(kind: str = "sd15", **settings: Any) -> Any:
    return backends.load("fill", "brushnet", InpaintSettings(**{"steps": 2} | tiny.brushnet_settings(kind) | settings))


def told(name: str = "brushnet", **settings: Any) -> UserError | MachineError:
    with pytest.raises((UserError, MachineError)) as caught:
        backends.load("fill", name, InpaintSettings(**{"steps": 2} | tiny.brushnet_settings("sd15") | settings))
    assert all(line and "\n" not in line for line in (caught.value.what, caught.value.where, caught.value.cure))
    return caught.value


def test_the_model_is_never_shown_the_silhouette() -> None:
    found, hole = engine(), figure()
    given: list[torch.Tensor] = []
    found.branch.conv_in_condition.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    found.fill(FRAME, hole, seed=1)
    hidden = np.kron(given[0][0, 8].numpy() < 0.5, np.ones((8, 8), bool))
    assert hidden.sum() > 2.5 * hole.sum(), "grown and closed"
    assert solidity(hole) < 0.5 and solidity(hidden) > 0.85, "no head, no neck, no arms"


def test_the_branch_of_stable_diffusion_15_runs_on_half_of_the_rows() -> None:
    found = engine()
    branch, base = [], []  # type: ignore[var-annotated]
    found.branch.mid_block.register_forward_pre_hook(lambda _, arguments: branch.append(len(arguments[0])))
    found.pipeline.unet.conv_in.register_forward_pre_hook(lambda _, arguments: base.append(len(arguments[0])))
    found.fill_many([FRAME, FRAME[::-1].copy()], [figure(), figure()], [1, 2])
    assert (branch, base) == ([2, 2], [4, 4])


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_words_for_and_against_change_the_picture_and_an_empty_prompt_is_that_of_the_settings(kind: str) -> None:
    hole = figure()
    found = engine(kind, prompt="a quay")
    plain = found.fill(FRAME, hole, seed=1)
    assert np.array_equal(found.fill(FRAME, hole, seed=1, prompt="a quay"), plain)
    assert (found.fill(FRAME, hole, seed=1, prompt="a forest at night")[hole] != plain[hole]).any()
    other = engine(kind, prompt="a quay", negative_prompt="zebra").fill(FRAME, hole, seed=1)
    assert (other[hole] != plain[hole]).any()


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_saving_memory_paints_the_same_picture_with_only_what_is_at_work_on_the_card(kind: str) -> None:
    plain, saving = engine(kind, low_memory="no"), engine(kind, low_memory="yes")
    parts = ("unet", "vae", "text_encoder", "text_encoder_2")
    nets = {name: getattr(saving.pipeline, name, None) for name in parts} | {"branch": saving.branch}
    nets = {name: net for name, net in nets.items() if net is not None}
    there: set[str] = set()
    worked: list[tuple[str, set[str]]] = []

    def watch(name: str, net: Any) -> None:
        moves = net.to

        def to(where: Any) -> Any:
            (there.discard if where == "cpu" else there.add)(name)  # put aside in main memory by its name
            return moves(where)

        net.to = to
        net.register_forward_pre_hook(lambda *_: worked.append((name, set(there))))

    for name, net in nets.items():
        watch(name, net)
    for seed in (1, 2):  # the second time the parts come back from where they were put aside
        assert np.array_equal(plain.fill(FRAME, figure(), seed=seed), saving.fill(FRAME, figure(), seed=seed))
    texts = set(nets) - {"unet", "branch", "vae"}
    allowed = [texts, {"vae"}, {"unet", "branch"}]
    assert {name for name, _ in worked} >= {"unet", "branch"} | texts
    assert all(name in found and found in allowed for name, found in worked)
    saving.make_room()
    assert not there


def test_where_memory_is_short_the_batch_is_halved_then_it_is_told() -> None:
    found, most = engine(), [4]

    def full(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        if len(arguments[0]) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    frames, holes = [FRAME, FRAME[::-1].copy()], [figure()] * 2
    found.pipeline.unet.conv_in.register_forward_pre_hook(full)
    expected = found.fill_many(frames, holes, [1, 2])
    most[0] = 2
    filled = found.fill_many(frames, holes, [1, 2])
    assert all(np.abs(a.astype(int) - b).max() <= 2 for a, b in zip(filled, expected, strict=True))
    most[0] = 0
    with pytest.raises(MachineError) as caught:
        found.fill_many(frames, holes, [1, 2])
    assert "low_memory" in caught.value.cure and "pixels" in caught.value.where


@pytest.mark.parametrize("name", ["brushnet", "sdxl", "lama"])
def test_memory_that_is_short_while_an_engine_is_loaded_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = torch.nn.Module.to

    def full(net: torch.nn.Module, *where: Any, **how: Any) -> torch.nn.Module:
        if "device" in how or any(isinstance(one, torch.device) for one in where):
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")
        return moves(net, *where, **how)

    given = {"sdxl": str(tiny.tiny_sdxl()), "lama": str(tiny_lama.checkpoint(tmp_path / "lama.safetensors"))}
    monkeypatch.setattr(torch.nn.Module, "to", full)
    error = told(name, **given)
    assert isinstance(error, MachineError) and "doesn't fit" in error.what and "BGLORA_DEVICE=cpu" in error.cure


# Few steps


def adapter(folder: Path, name: str, features: int = 16) -> Path:
    """An adapter file that changes one projection of the tiny Stable Diffusion 1.5's attention."""
    made = torch.Generator().manual_seed(5)
    module = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {
        f"{module}.lora_A.weight": torch.randn(2, features, generator=made),
        f"{module}.lora_B.weight": torch.randn(8, 2, generator=made),
    }
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / name)
    return folder / name


def test_an_lcm_adapter_lowers_steps_and_guidance_and_acts(tmp_path: Path) -> None:
    from bglora.backends.fill.sampling import Sampling, sampling

    settings = InpaintSettings(few_steps=str(adapter(tmp_path, "lcm-lora.safetensors")), steps=50)
    assert sampling(settings, "unipc") == Sampling("lcm", 8, 1.5)
    hole = figure()
    with_it = engine(few_steps=settings.few_steps, steps=2)
    first = with_it.fill(FRAME, hole, seed=1)
    assert np.array_equal(with_it.fill(FRAME, hole, seed=1), first), "noise that is added on the way follows the seed"
    assert (engine(steps=2).fill(FRAME, hole, seed=1)[hole] != first[hole]).any()
    assert not hasattr(with_it.pipeline.unet, "peft_config"), "merged into the weights"


def test_a_lightning_adapter_paints_in_the_steps_of_its_name_without_guidance(tmp_path: Path) -> None:
    found = engine(few_steps=str(adapter(tmp_path, "sdxl_lightning_4step_lora.safetensors")), steps=50)
    rows = []  # type: ignore[var-annotated]
    found.pipeline.unet.conv_in.register_forward_pre_hook(lambda _, arguments: rows.append(len(arguments[0])))
    found.fill(FRAME, figure(), seed=1)
    assert rows == [1, 1, 1, 1]


def test_an_adapter_of_unknown_kind_of_another_base_or_one_of_several_is_told(tmp_path: Path) -> None:
    assert "what kind of adapter" in told(few_steps=str(adapter(tmp_path / "a", "style.safetensors"))).what
    wrong = told(few_steps=str(adapter(tmp_path / "b", "lcm.safetensors", features=640)))
    assert "does not fit this base model" in wrong.what
    adapter(tmp_path / "lcm", "one.safetensors")
    adapter(tmp_path / "lcm", "two.safetensors")
    assert "one adapter in this folder" in told(few_steps=str(tmp_path / "lcm")).what


# What is refused


def test_models_that_do_not_belong_together_are_told_before_anything_is_painted() -> None:
    error = told(brushnet_base=str(tiny.tiny_sdxl()))
    assert error.what == "This BrushNet is for Stable Diffusion 1.5; the base model is SDXL."
    assert "inpaint.brushnet_base" in error.where and "Stable Diffusion 1.5 model" in error.cure
    nine = {**tiny.brushnet_settings("sdxl"), "brushnet_base": str(tiny.tiny_sdxl_inpainting())}
    assert "takes 9 channels" in told(**nine).what
    assert "one of SDXL's kind" in told("sdxl", sdxl=str(tiny.tiny_sd15())).what


def test_damaged_absent_and_foreign_base_models_are_told(tmp_path: Path) -> None:
    cut = shutil.copytree(tiny.tiny_sd15(), tmp_path / "cut")
    file = cut / "unet" / TENSORS
    file.write_bytes(file.read_bytes()[:5000])
    assert "can't be read" in told(brushnet_base=str(cut)).what
    assert "model_index.json" in told(brushnet_base=str(cut / "unet")).what
    assert isinstance(absent := told(brushnet_base="nobody/no-such-base"), MachineError)
    assert absent.cure == "bglora models pull nobody/no-such-base"
    save_file({"some.lora": torch.zeros(2)}, tmp_path / "lora.safetensors")
    assert "no whole model" in told(brushnet_base=str(tmp_path / "lora.safetensors")).what
    (tmp_path / "old.ckpt").write_bytes(b"PK")
    assert "must be .safetensors" in told(brushnet_base=str(tmp_path / "old.ckpt")).what


def test_what_an_engine_is_says_all_weights_that_count(tmp_path: Path) -> None:
    def identity(**settings: Any) -> str:
        return backends.identity("fill", "brushnet", InpaintSettings(**tiny.brushnet_settings("sd15") | settings))

    assert identity().startswith("brushnet/") and "brushnet-sd15@" in identity() and " sd15@" in identity()
    assert "lcm.safetensors@" in identity(few_steps=str(adapter(tmp_path, "lcm.safetensors")))


# diffusers' own inpainting


def calls_of(found: Any) -> list[float]:
    """Fills in, per run of the UNet, the time step that it is told."""
    seen: list[float] = []
    found.pipeline.unet.register_forward_pre_hook(lambda _, arguments: seen.append(float(arguments[1])))
    return seen


def sdxl(base: Path, **settings: Any) -> Any:
    return backends.load("fill", "sdxl", InpaintSettings(**{"steps": 2, "sdxl": str(base)} | settings))


@pytest.mark.parametrize("base", [tiny.tiny_sdxl, tiny.tiny_sdxl_inpainting])
@pytest.mark.parametrize("steps", [2, 4])
def test_sdxl_takes_all_its_steps_from_pure_noise(base: Any, steps: int) -> None:
    found = sdxl(base(), steps=steps)
    seen = calls_of(found)
    found.fill(FRAME, figure(), seed=1)
    assert len(seen) == steps and seen[0] == found.pipeline.scheduler.timesteps[0] > 900


@pytest.mark.parametrize(("steps", "strength", "taken"), [(2, 0.3, 1), (1, 0.5, 1), (4, 0.5, 2)])
def test_sdxl_after_lama_takes_a_step_however_few_there_are(
    tmp_path: Path, steps: int, strength: float, taken: int
) -> None:
    lama = str(tiny_lama.checkpoint(tmp_path / "lama.safetensors"))
    found = sdxl(tiny.tiny_sdxl(), steps=steps, strength=strength, lama_first=True, lama=lama)
    seen = calls_of(found)
    found.fill(FRAME, figure(), seed=1)
    assert len(seen) == taken


def test_any_number_of_steps_and_any_strength_let_the_pipeline_take_a_step() -> None:
    from bglora.backends.fill.sdxl import seen_strength

    for steps in range(1, 101):
        for strength in (0.001, 1 / steps, 0.8, 1.0):
            assert min(int(steps * seen_strength(steps, strength)), steps) >= 1
            assert 0 < seen_strength(steps, strength) <= 1


def test_in_half_precision_the_second_fill_of_a_seed_is_the_first() -> None:
    from bglora.backends.fill.sdxl import SDXLFill
    from bglora.nets import diffusion_base

    settings = InpaintSettings(steps=2)
    base = diffusion_base.load(
        tiny.tiny_sdxl_inpainting(), setting="inpaint.sdxl", dtype=torch.bfloat16, inpainting=True
    )
    base.vae.register_to_config(force_upcast=True)
    base.vae.float()
    with torch.no_grad():  # weights as published files in float32 have them: no half number among them
        for weight in base.vae.parameters():
            weight.mul_(1.0001)
    found = SDXLFill(settings, base, torch.device("cpu"), 64)
    first, second = (found.fill(FRAME, figure(), seed=3) for _ in range(2))
    assert np.array_equal(first, second)
