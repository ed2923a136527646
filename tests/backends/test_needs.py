"""Memory that backends say they take: by the settings, without anything loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bglora import backends
from bglora.backends.sizes import is_sdxl, tensor_bytes
from bglora.settings import Settings
from bglora.settings.lora import TrainSettings
from bglora.settings.plates import InpaintSettings
from bglora.settings.scenes import CaptionSettings


def fill(name: str, card_gb: float = 0.0, **settings: Any) -> backends.Needs:
    return backends.needs("fill", name, InpaintSettings(**settings), card_gb)


def test_sdxl_takes_more_than_stable_diffusion_and_less_where_memory_is_saved() -> None:
    small, large = fill("brushnet"), fill("brushnet", brushnet_base="sdxl-base", low_memory="no")
    saving = fill("brushnet", brushnet_base="sdxl-base", low_memory="yes")
    assert small.gpu_gb < saving.gpu_gb < large.gpu_gb < 25 and small.memory_gb < large.memory_gb
    auto = [fill("brushnet", card, brushnet_base="sdxl-base") for card in (12.0, 24.0)]
    assert auto == [saving, large]


@pytest.mark.parametrize("name", ["brushnet", "sdxl"])
def test_lama_beside_an_engine_is_counted(name: str) -> None:
    both, alone = fill(name, lama_first=True, low_memory="no"), fill(name, low_memory="no")
    assert both.gpu_gb == pytest.approx(alone.gpu_gb + fill("lama").gpu_gb)


def test_hybrid_takes_what_its_larger_engine_does() -> None:
    for base in ("sd15", "sdxl-base"):
        assert fill("hybrid", brushnet_base=base).gpu_gb == fill("brushnet", brushnet_base=base).gpu_gb


def test_a_captioner_takes_by_its_size_its_bits_and_its_batch(tmp_path: Path) -> None:
    def card(**settings: Any) -> float:
        return backends.needs("caption", "qwen_vl", CaptionSettings(**settings)).gpu_gb

    four, seven = card(qwen_vl="Qwen3-VL-4B-Instruct"), card(qwen_vl="Qwen2-VL-7B-Instruct")
    assert 10 <= four < 12 < 16 < seven
    assert card(qwen_vl="Qwen2-VL-7B-Instruct", quantize="4bit") < 12
    assert card(qwen_vl="Qwen3-VL-4B-Instruct", batch=2) < four
    assert card(qwen_vl="somebody/Qwen-of-3B") < four
    (tmp_path / "a.safetensors").write_bytes(b"0" * 1000)
    assert card(qwen_vl=str(tmp_path), batch=1) < 1 and tensor_bytes(str(tmp_path)) == 1000


@pytest.mark.parametrize(("role", "name"), [("train", "native"), ("paint", "diffusers")])
def test_sdxl_wants_a_card_to_train_and_paint_and_the_base_of_the_package_does_not(role: str, name: str) -> None:
    small, large = (backends.needs(role, name, TrainSettings(base=base)) for base in ("mini", "sdxl-base"))
    assert small.gpu_gb == 0 < 8 < large.gpu_gb < 25 and small.memory_gb < large.memory_gb


def test_a_models_kind_is_told_by_what_lies_there(tmp_path: Path) -> None:
    assert is_sdxl("sdxl-base") and not is_sdxl("realistic-vision")
    (tmp_path / "sdxl" / "unet").mkdir(parents=True)
    config = tmp_path / "sdxl" / "unet" / "config.json"
    for kind in (None, "text_time"):
        config.write_text(json.dumps({"addition_embed_type": kind}))
        assert is_sdxl(str(tmp_path / "sdxl")) == (kind is not None)
    header = json.dumps({"conditioner.embedders.1.x": {}}).encode()
    one = tmp_path / "mine.safetensors"
    one.write_bytes(len(header).to_bytes(8, "little") + header)
    assert is_sdxl(str(one))
    one.write_bytes(b"cut")
    assert not is_sdxl(str(one))


def test_a_stage_takes_what_its_settings_say() -> None:
    from bglora.project.memory import needs
    from bglora.stages import load

    def inpaint(**settings: Any) -> float:
        return needs(load(), Settings(inpaint=settings), 1)["inpaint"].gpu_gb

    engine = {"engine": "brushnet", "fallback": []}
    assert inpaint(**engine) < inpaint(**engine, brushnet_base="sdxl-base")
