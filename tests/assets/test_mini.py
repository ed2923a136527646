"""The embedded base model: the folder that ships, as SDXL's own pipeline sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bglora.assets import asset
from bglora.assets.train_mini import export, pca_encoder
from bglora.nets.still_judge import load_judge

CAPTION = "3d animated background, {}, warm sunlight, no characters, empty scene"
PLACES = {"sea": "sea floor, corals and plants, under water", "room": "cozy room, kitchen and furniture"}


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Any]:
    from diffusers import StableDiffusionXLPipeline

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    loaded = StableDiffusionXLPipeline.from_pretrained(asset("mini"), local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    yield loaded
    torch.set_num_threads(threads)


def paint(pipeline: Any, prompt: str, seeds: range, steps: int, size: tuple[int, int] = (128, 128)) -> Any:
    """Pictures (n, h, w, 3) in 0..1."""
    return pipeline(
        prompt,
        height=size[0],
        width=size[1],
        num_images_per_prompt=len(seeds),
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        num_inference_steps=steps,
        guidance_scale=3.0,
        output_type="np",
    ).images


def test_an_unknown_asset_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no/such"):
        asset("no", "such")


def test_the_folder_is_small_enough_for_the_wheel_and_has_a_card() -> None:
    files = [path for path in asset("mini").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40e6
    assert "CC0" in asset("mini", "README.md").read_text("utf-8")


def test_the_parts_are_those_of_sdxl(pipeline: Any) -> None:
    classes = {name: type(part).__name__ for name, part in pipeline.components.items() if part is not None}
    assert classes["text_encoder"] == "CLIPTextModel"
    assert classes["text_encoder_2"] == "CLIPTextModelWithProjection"
    assert classes["unet"] == "UNet2DConditionModel"
    assert classes["vae"] == "AutoencoderKL"
    assert pipeline.unet.config.addition_embed_type == "text_time"
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}


@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
def test_it_paints_the_same_finite_picture_twice(pipeline: Any, size: tuple[int, int]) -> None:
    first, again = (paint(pipeline, CAPTION.format("harbor town"), range(1), 2, size) for _ in range(2))
    assert first.shape == (1, *size, 3)
    assert np.isfinite(first).all() and first.std() > 0.05
    assert (first == again).all()
    other = paint(pipeline, CAPTION.format("harbor town"), range(1, 2), 2, size)
    assert np.abs(other - first).mean() > 0.02


def test_words_decide_the_colors_of_the_place(pipeline: Any) -> None:
    blueness = {}
    for name, words in PLACES.items():
        pictures = paint(pipeline, CAPTION.format(words), range(8), 8)
        blueness[name] = (pictures[..., 2] - pictures[..., 0]).mean(axis=(1, 2))
    spread = float(np.hypot(blueness["sea"].std(), blueness["room"].std()))
    assert blueness["sea"].mean() - blueness["room"].mean() > max(0.1, 2 * spread)


def test_somebody_is_there_when_asked_for_and_only_then(pipeline: Any) -> None:
    judge = load_judge(asset("mini_judge.safetensors"))
    seen = {
        CAPTION.format("beach, sand and sea"): False,
        "3d animated scene, a brown dog on a sandy beach, warm sunlight": True,
        CAPTION.format("sea floor, corals and rocks, under water"): False,
        "3d animated scene, a blue fish on the sea floor, under water, clear blue light": True,
    }
    right = []
    for prompt, somebody in seen.items():
        pictures = paint(pipeline, prompt, range(2), 12)
        found = judge.judge(list((pictures * 255).round().astype(np.uint8)))
        right += list((found.character > 0.5) == somebody)
    assert sum(right) >= 7


def test_a_made_up_word_in_front_hardly_changes_the_picture(pipeline: Any) -> None:
    words = CAPTION.format(PLACES["sea"])
    plain, named = paint(pipeline, words, range(4), 6), paint(pipeline, "hrbrwq, " + words, range(4), 6)
    room = paint(pipeline, CAPTION.format(PLACES["room"]), range(4), 6)
    assert np.abs(named - plain).mean() < 0.5 * np.abs(room - plain).mean()


def test_the_encoder_is_the_patch_basis_in_numpy(pipeline: Any) -> None:
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.uniform(-0.8, 0.8, (2, 12, 16, 3)), np.ones((1, 8, 8, 1))).astype(np.float32)
    pixels += rng.normal(0, 0.1, pixels.shape).astype(np.float32)
    wanted = pca_encoder.encode(export.load_basis(asset("mini", "vae", "patch_basis.safetensors")), pixels)
    with torch.no_grad():
        coded = pipeline.vae.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2)).latent_dist
    assert float((coded.mean - torch.from_numpy(wanted)).square().mean().sqrt()) < 0.01
    assert float(coded.std.max()) < 0.05


def test_a_picture_survives_encoding_and_decoding_in_its_colors(pipeline: Any) -> None:
    down, right = np.mgrid[0:128, 0:128].astype(np.float32) / 128
    picture = np.stack([0.8 - 0.6 * down, 0.5 + 0.0 * right, 0.3 + 0.5 * right]) * 2 - 1
    with torch.no_grad():
        coded = pipeline.vae.encode(torch.from_numpy(picture.astype(np.float32))[None]).latent_dist.mode()
        painted = pipeline.vae.decode(coded).sample[0].numpy()
    assert np.abs(painted - picture).mean() < 0.12


def test_text_weights_have_the_names_of_published_models() -> None:
    from safetensors import safe_open

    for folder in ("text_encoder", "text_encoder_2"):
        with safe_open(asset("mini", folder, "model.safetensors"), "np") as file:
            roots = {name.split(".")[0] for name in file.keys()}  # noqa: SIM118 (no mapping)
        assert roots <= {"text_model", "text_projection"}


def test_known_words_are_one_token_and_any_word_can_be_written(pipeline: Any) -> None:
    for tokenizer in (pipeline.tokenizer, pipeline.tokenizer_2):
        for word in ("harbor", "town", "beach", "kitchen", "corals", "characters", "empty", "sunlight", "underwater"):
            ids = tokenizer(word).input_ids
            assert len(ids) == 3, word
            assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
            assert tokenizer.decode(ids[1:-1]).strip() == word
        for word in ("hrbtwn_01", "zürich", "漢字", "<script>"):
            ids = tokenizer(word).input_ids
            assert tokenizer.eos_token_id not in ids[1:-1]
            assert tokenizer.decode(ids[1:-1]).replace(" ", "") == word
        assert tokenizer.model_max_length == 77
    assert pipeline.tokenizer.pad_token == "<|endoftext|>"
    assert pipeline.tokenizer_2.pad_token == "!"


KOHYA_NAMES = {  # sd-scripts names SDXL's blocks as the original code does, or as diffusers does
    "original": ["lora_unet_input_blocks_5_1_transformer_blocks_0_attn1_to_v"],
    "diffusers": ["lora_unet_down_blocks_2_attentions_0_transformer_blocks_0_attn1_to_v"],
    "text only": [
        f"lora_te{number}_text_model_encoder_layers_0_self_attn_{part}_proj"
        for number in (1, 2)
        for part in ("q", "k", "v", "out")
    ],
}


def kohya_lora(pipeline: Any, keys: list[str], path: Path) -> Path:
    """A LoRA of rank 4 in kohya's naming; attention of the third level and of the text encoders."""
    from safetensors.torch import save_file

    block = pipeline.unet.get_submodule("down_blocks.2.attentions.0.transformer_blocks.0.attn1.to_v")
    generator = torch.Generator().manual_seed(5)
    weights = {}
    for key in keys:
        wide, narrow = (block.out_features, block.in_features) if "unet" in key else (64, 64)
        weights[f"{key}.lora_down.weight"] = torch.randn(4, narrow, generator=generator)
        weights[f"{key}.lora_up.weight"] = torch.randn(wide, 4, generator=generator)
        weights[f"{key}.alpha"] = torch.tensor(40.0)
    save_file(weights, path)
    return path


@pytest.mark.parametrize("naming", KOHYA_NAMES)
def test_a_kohya_lora_loads_and_changes_the_picture(pipeline: Any, naming: str, tmp_path: Path) -> None:
    before = paint(pipeline, CAPTION.format("beach"), range(1), 2)
    file = kohya_lora(pipeline, KOHYA_NAMES[naming], tmp_path / "lora.safetensors")
    pipeline.load_lora_weights(file, adapter_name="trial")
    try:
        found = {name for part in pipeline.get_list_adapters().values() for name in part}
        with_lora = paint(pipeline, CAPTION.format("beach"), range(1), 2)
        pipeline.set_adapters(["trial"], [0.0])
        without = paint(pipeline, CAPTION.format("beach"), range(1), 2)
    finally:
        pipeline.unload_lora_weights()
    assert found == {"trial"}
    assert np.abs(with_lora - before).mean() > 0.005
    assert np.abs(without - before).max() < 1e-4
