"""BrushNet: strict loading, hooks that leave no trace, and what is computed once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bglora.errors import UserError
from bglora.nets import brushnet_painting as painting
from bglora.nets.brushnet import CONFIG, TENSORS, BrushNet, load, read_config
from bglora.nets.brushnet_injection import check_fit, injected, places
from tests.backends import tiny_diffusion as tiny

KINDS = ["sd15", "sdxl"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def unet_of(kind: str) -> Any:
    from diffusers import UNet2DConditionModel

    base = tiny.tiny_sd15() if kind == "sd15" else tiny.tiny_sdxl()
    return UNet2DConditionModel.from_pretrained(base / "unet", local_files_only=True).eval().requires_grad_(False)


@cache
def shared(kind: str) -> tuple[Any, BrushNet]:
    """UNet and branch for tests that hang nothing on them."""
    return unet_of(kind), load(tiny.tiny_brushnet(kind))


def words(kind: str, rows: int) -> painting.Words:
    made = torch.Generator().manual_seed(1)
    text = [torch.randn(rows, 77, 16 if kind == "sd15" else 32, generator=made) for _ in range(2)]
    pooled = [torch.randn(rows, 16, generator=made) for _ in range(2)] if kind == "sdxl" else []
    return painting.Words(*text, *pooled)


def given(rows: int, height: int = 8, width: int = 12) -> tuple[Tensor, Tensor]:
    """Noise and condition."""
    made = torch.Generator().manual_seed(2)
    return torch.randn(rows, 4, height, width, generator=made), torch.randn(rows, 5, height, width, generator=made)


def painted(kind: str, condition_rows: int = 1, course: painting.Course | None = None, **more: Any) -> Tensor:
    noise, condition = given(2)
    unet = more.pop("unet", None) or shared(kind)[0]
    return painting.denoise(
        unet,
        more.pop("brushnet", None) or shared(kind)[1],
        painting.sampler(more.pop("sampler", "ddim"), _scheduler()),
        noise,
        condition.repeat(condition_rows, 1, 1, 1),
        words(kind, 2),
        course or painting.Course(steps=3, guidance_scale=5.0),
        time_ids=painting.sizes(64, 96, 4) if kind == "sdxl" else None,
        **more,
    )


def _scheduler() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)


def rows_seen(module: nn.Module, seen: list[int]) -> Any:
    return module.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))


def copy_of(kind: str, folder: Path, change: Callable[[dict[str, Tensor]], Any] | None = None, **config: Any) -> Path:
    """A tiny published folder, changed."""
    shutil.copytree(tiny.tiny_brushnet(kind), folder)
    if change is not None:
        tensors = load_file(folder / TENSORS)
        change(tensors)
        save_file(tensors, folder / TENSORS)
    (folder / CONFIG).write_text(json.dumps(tiny.published_config(kind) | config), "utf-8")
    return folder


def refused(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        load(path)
    cure = "fetch it again" if "damaged" in caught.value.what else "brushnet-sd15-random"
    assert str(path) in caught.value.where and cure in caught.value.cure
    assert all("\n" not in line for line in (caught.value.what, caught.value.where, caught.value.cure))
    return caught.value


def test_missing_extra_and_misshapen_tensors_are_told(tmp_path: Path) -> None:
    name = "mid_block.resnets.0.conv1.weight"
    error = refused(copy_of("sd15", tmp_path / "a", lambda tensors: tensors.pop(name)))
    assert f"1 missing ({name})" in error.what
    error = refused(copy_of("sd15", tmp_path / "b", lambda tensors: tensors.update(more=torch.zeros(1))))
    assert "1 left over (more)" in error.what
    error = refused(copy_of("sd15", tmp_path / "c", lambda tensors: tensors.update({name: torch.zeros(1, 2)})))
    assert f"{name} is (1, 2), not (16, 16, 3, 3)" in error.what


def test_a_cut_file_a_foreign_one_and_an_empty_folder_are_told(tmp_path: Path) -> None:
    cut = copy_of("sd15", tmp_path / "cut")
    content = (cut / TENSORS).read_bytes()
    (cut / TENSORS).write_bytes(content[: len(content) // 2])
    assert "damaged" in refused(cut).what

    def another(tensors: dict[str, Tensor]) -> None:
        tensors.clear()
        tensors["model.layer.weight"] = torch.zeros(2)

    assert "not a BrushNet's" in refused(copy_of("sd15", tmp_path / "foreign", another)).what
    (tmp_path / "empty").mkdir()
    assert f"no {TENSORS}" in refused(tmp_path / "empty").what


def test_power_paint_with_its_attention_is_told_by_name(tmp_path: Path) -> None:
    types = ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"]
    assert "PowerPaint" in refused(copy_of("sd15", tmp_path / "config", down_block_types=types)).what
    key = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    assert "PowerPaint" in refused(copy_of("sd15", tmp_path / "keys", lambda t: t.update({key: torch.zeros(2)}))).what


def test_a_config_of_another_model_is_told(tmp_path: Path) -> None:
    (folder := copy_of("sd15", tmp_path / "x")).joinpath(CONFIG).write_text('{"_class_name": "ControlNetModel"}')
    assert "not a BrushNet's" in refused(folder).what
    (folder / CONFIG).write_text('{"block_out')
    assert "damaged" in refused(folder).what


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_files_load_as_asked_and_the_network_is_frozen(kind: str, tmp_path: Path) -> None:
    def halve(tensors: dict[str, Tensor]) -> None:
        tensors.update({name: tensor.half() for name, tensor in tensors.items()})

    net = load(copy_of(kind, tmp_path / "half", halve))
    assert {one.dtype for one in net.parameters()} == {torch.float32}
    assert not any(one.requires_grad for one in net.parameters()) and not net.training


def test_a_branch_of_one_family_is_refused_by_a_base_of_the_other_and_by_an_inpainting_base() -> None:
    with pytest.raises(UserError, match="for Stable Diffusion 1.5; the base model is SDXL") as caught:
        check_fit(unet_of("sdxl"), load(tiny.tiny_brushnet("sd15")), "inpaint.brushnet_base = x")
    assert caught.value.where == "inpaint.brushnet_base = x" and "inpaint.brushnet_base" in caught.value.cure
    from diffusers import UNet2DConditionModel

    nine = UNet2DConditionModel.from_pretrained(tiny.tiny_sdxl_inpainting() / "unet", local_files_only=True)
    with pytest.raises(UserError, match="takes 9 channels"):
        check_fit(nine, load(tiny.tiny_brushnet("sdxl")), "x")


@pytest.mark.parametrize("kind", KINDS)
def test_a_unet_without_features_and_one_after_the_hooks_are_gone_compute_as_ever(kind: str) -> None:
    unet, (latents, _), text = unet_of(kind), given(2), words(kind, 2)
    more = {"text_embeds": text.pooled, "time_ids": painting.sizes(64, 96, 2)} if kind == "sdxl" else None

    def predicted() -> Tensor:
        return unet(latents, 7, encoder_hidden_states=text.prompt, added_cond_kwargs=more).sample

    before = predicted()
    with injected(unet):
        assert torch.equal(predicted(), before)
    after = painted(kind, unet=unet)
    assert torch.isfinite(after).all() and torch.equal(predicted(), before)


def test_hooks_are_gone_after_an_error_in_the_midst() -> None:
    unet = unet_of("sd15")

    def stop(step: int, _: Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        painted("sd15", unet=unet, on_step=stop)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module, _ in places(unet))


@pytest.mark.parametrize("kind", KINDS)
def test_one_condition_for_both_halves_gives_what_two_equal_ones_give(kind: str) -> None:
    once, twice = painted(kind), painted(kind, condition_rows=2)
    torch.testing.assert_close(once, twice, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(once, painted(kind, course=painting.Course(steps=3, guidance_scale=5.0, scale=0.0)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_text_touches_runs_on_half_of_the_rows(kind: str) -> None:
    net, unet = load(tiny.tiny_brushnet(kind)), unet_of(kind)
    entry, first_feature, middle, base = [], [], [], []  # type: ignore[var-annotated]
    seen = ((net.conv_in_condition, entry), (net.brushnet_down_blocks[0], first_feature), (net.mid_block, middle))
    for module, rows in (*seen, (unet.conv_in, base)):
        rows_seen(module, rows)
    painted(kind, brushnet=net, unet=unet)
    assert base == [4, 4, 4] and entry == first_feature == [2, 2, 2]
    # SDXL's time embedding holds the pooled text, so what comes after it differs between the halves.
    assert middle == ([2, 2, 2] if kind == "sd15" else [4, 4, 4])


def test_outside_its_window_and_at_scale_0_the_branch_does_not_run() -> None:
    net = load(tiny.tiny_brushnet("sd15"))
    rows_seen(net.conv_in_condition, seen := [])  # type: ignore[var-annotated]
    painted("sd15", brushnet=net, course=painting.Course(steps=4, window=(0.25, 0.75)))
    assert len(seen) == 2
    painted("sd15", brushnet=net, course=painting.Course(steps=4, scale=0.0))
    assert len(seen) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_guess_mode_runs_on_the_rows_with_the_prompt(kind: str) -> None:
    net = load(tiny.tiny_brushnet(kind))
    rows_seen(net.mid_block, seen := [])  # type: ignore[var-annotated]
    painted(kind, brushnet=net, course=painting.Course(steps=2, guidance_scale=4.0, guess=True))
    assert seen == [2, 2]
    scales = net.scales(2.0, guess=True)
    assert len(scales) == len(net.widths)
    assert (scales[0], scales[-1]) == pytest.approx((0.2, 2.0)) and scales == sorted(scales)


@pytest.mark.parametrize("sampler", painting.SAMPLERS)
def test_a_start_picture_shows_the_more_the_less_noise_covers_it(sampler: str) -> None:
    start = torch.full((2, 4, 8, 12), 3.0)

    def away(strength: float) -> float:
        course = painting.Course(steps=4, guidance_scale=1, strength=strength)
        found = painted("sd15", sampler=sampler, start=start, course=course)
        return float((found - start).abs().mean())

    assert away(0.3) < 0.6 * away(1.0)


def test_options_of_published_configs_are_followed() -> None:
    config = tiny.published_config("sd15")
    torch.manual_seed(3)
    plain = BrushNet(read_config(config, "x")).eval().requires_grad_(False)
    tensors = plain.state_dict()
    (latents, condition) = given(1)

    def changed(**more: Any) -> BrushNet:
        net = BrushNet(read_config(config | more, "x")).eval().requires_grad_(False)
        net.load_state_dict(tensors)
        return net

    turned = changed(brushnet_conditioning_channel_order="bgr")(latents, 5, condition)
    assert torch.equal(turned.mid, plain(latents, 5, condition.flip(1)).mid)
    pooled = changed(global_pool_conditions=True)(latents, 5, condition)
    torch.testing.assert_close(pooled.up[-1], plain(latents, 5, condition).up[-1].mean((2, 3), keepdim=True))
    assert len(changed(layers_per_block=2).widths) == 28
    with pytest.raises(UserError, match="another kind"):
        read_config(config | {"class_embed_type": "timestep"}, "x")
