"""OpenCLIP: published files, one set of numbers through either library, words, and what can be wrong with weights."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bglora import backends
from bglora.backends.embed import openclip_names
from bglora.backends.embed.openclip import OpenClip
from bglora.errors import MachineError, UserError
from bglora.nets import openclip
from bglora.nets.openclip_checkpoint import Prepared, clip_config, clip_tensors, foreign_parts, open_published
from bglora.settings import Settings
from tests.backends import tiny_openclip

CPU = torch.device("cpu")


def settings(name: object, **changes: object) -> Any:
    return Settings().cluster.model_copy(update={"openclip": str(name), **changes})


def load(name: object) -> Any:
    return backends.load("embed", "openclip", settings(name))


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 70), (90, 33), (32, 32), (9, 11))]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_openclip.write(tmp_path_factory.mktemp("openclip"))


@pytest.fixture(scope="module", autouse=True)
def torchvision_can_be_imported() -> None:
    """Where torchvision was built for another torch, its Python side looks up two operators in vain, and open_clip and
    transformers fail with it. Declaring them is enough for what both take of it.
    """
    if util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        LIBRARIES.append(library)  # the operators go when it goes


LIBRARIES: list[torch.library.Library] = []


@pytest.fixture(scope="module")
def package(torchvision_can_be_imported: None) -> Any:
    return pytest.importorskip("open_clip", reason="the package open_clip_torch is not here")


# One set of numbers


@pytest.mark.parametrize("quick", [False, True])
def test_both_libraries_give_the_same_vectors(package: Any, tmp_path: Path, quick: bool) -> None:
    folder = tiny_openclip.write(tmp_path, {**tiny_openclip.CONFIG, "quick_gelu": quick})
    theirs, _, prepare = package.create_model_and_transforms(f"local-dir:{folder}")
    theirs.eval()
    published = open_published(folder)
    pixels = torch.stack([openclip.prepare(picture, published.prepared) for picture in pictures()])
    assert torch.equal(pixels, torch.stack([prepare(Image.fromarray(picture)) for picture in pictures()]))
    words = openclip.tokens(["the beach", "a cave, deep under the sea, and long words"], published)
    with torch.no_grad():
        seen, read = theirs.encode_image(pixels), theirs.encode_text(words)
    for kind in (openclip.Package, openclip.Classes):
        towers = kind(published, CPU)
        assert (towers.images(pixels) - seen).abs().max() < 1e-4
        assert (towers.texts(words) - read).abs().max() < 1e-4
        assert towers.scale == pytest.approx(float(theirs.logit_scale.exp()), rel=1e-4)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize(("size", "interpolation"), [(32, "bilinear"), (37, "bicubic"), ((32, 48), "bicubic")])
def test_pictures_are_made_ready_as_open_clip_does(package: Any, mode: str, size: Any, interpolation: str) -> None:
    from open_clip.transform import image_transform

    theirs = image_transform(size, False, resize_mode=mode, interpolation=interpolation, fill_color=7)
    height, width = (size, size) if isinstance(size, int) else size
    asked = Prepared(size=(height, width), interpolation=interpolation, resize_mode=mode, fill_color=7)
    for picture in pictures():
        assert torch.equal(openclip.prepare(picture, asked), theirs(Image.fromarray(picture)))


def test_the_activation_of_the_weights_is_used(tiny: Path, tmp_path: Path) -> None:
    quick = tiny_openclip.write(tmp_path, {**tiny_openclip.CONFIG, "quick_gelu": True})
    pixels = torch.ones(1, 3, 32, 32)
    plain, other = (openclip.Classes(open_published(folder), CPU).images(pixels) for folder in (tiny, quick))
    assert (plain - other).abs().max() > 1e-3
    named = openclip_names.named("ViT-L-14/openai")
    assert named.usual["quick_gelu"] and openclip_names.named("ViT-L-14-quickgelu/dfn2b").usual["quick_gelu"]
    assert open_published(tiny, named.config, named.usual).config["quick_gelu"]


def test_transformers_form_of_the_same_weights_gives_the_same_vectors(tiny: Path, tmp_path: Path) -> None:
    from transformers import CLIPConfig

    config = CLIPConfig(**clip_config(tiny_openclip.CONFIG))
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    asked = {"crop_size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(asked), encoding="utf-8")
    tensors = {name: t.contiguous() for name, t in clip_tensors(tiny_openclip.tensors(tiny_openclip.CONFIG)).items()}
    save_file(tensors, tmp_path / "model.safetensors")
    one, other = load(tiny), load(tmp_path)
    assert np.allclose(one.embed(pictures()), other.embed(pictures()), atol=1e-5)
    assert "transformers" in other.said


def test_a_single_file_takes_its_architecture_from_the_config_beside_it_or_from_the_name(tiny: Path) -> None:
    beside = load(tiny / "open_clip_model.safetensors")
    assert np.allclose(beside.embed(pictures()), load(tiny).embed(pictures()))
    named = openclip_names.named("ViT-B-32//data/weights.pt")
    assert named.weights == "/data/weights.pt" and named.config["vision_cfg"]["patch_size"] == 32
    assert openclip_names.named("hf-hub:laion/CLIP-ViT-B-32-x").weights == "laion/CLIP-ViT-B-32-x"


# Full size


def test_vit_l_14_has_as_many_parameters_as_open_clip_says() -> None:
    from transformers import CLIPConfig, CLIPModel

    named = openclip_names.named("ViT-L-14/laion2b_s32b_b82k")
    assert named.weights == "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"
    assert not foreign_parts(named.config)
    asked = backends.names_of_weights("embed", "openclip", Settings().cluster)
    assert dict(asked) == {"cluster.openclip": named.weights}
    with torch.device("meta"):
        model = CLIPModel(CLIPConfig(**clip_config(named.config)))
        published = tiny_openclip.tensors(named.config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 427_616_513
    assert {n: t.shape for n, t in clip_tensors(published).items()} == {
        n: t.shape for n, t in model.state_dict().items()
    }


def test_what_transformers_can_not_hold_is_told_by_name(tmp_path: Path) -> None:
    config = {**tiny_openclip.CONFIG, "vision_cfg": {**tiny_openclip.CONFIG["vision_cfg"], "pool_type": "avg"}}
    tiny_openclip.write(tmp_path, config)
    with pytest.raises(MachineError, match="vision_cfg.pool_type"):
        openclip.Classes(open_published(tmp_path), CPU)


# Words


def test_each_vector_gets_its_likeliest_word_and_its_share(tiny: Path) -> None:
    embed = load(tiny)
    vectors = embed.embed(pictures())
    words = ["beach", "cave", "attic"]
    named = embed.titles(vectors, words)
    assert len(named) == len(vectors) and all(word in words and 1 / 3 <= share <= 1 for word, share in named)
    for word, vector in zip(words, embed._meant(words), strict=True):
        assert embed.titles(vector[None], words)[0][0] == word


def test_words_need_a_tokenizer(tiny: Path, tmp_path: Path) -> None:
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    embed = load(tmp_path)
    with pytest.raises(UserError, match="tokenizer.json"):
        embed.titles(embed.embed(pictures()), ["beach"])


# What can be wrong


def test_the_library_is_part_of_the_identity_and_is_said(tiny: Path) -> None:
    version, why = openclip_names.package()
    name = backends.identity("embed", "openclip", settings(tiny))
    assert name.endswith(f"open_clip-{version}" if version else "transformers")
    assert (why or "open_clip_torch") in load(tiny).said
    assert name != backends.identity("embed", "openclip", settings("ViT-L-14/openai"))


def test_the_identity_is_told_without_importing_a_model_library(tiny: Path) -> None:
    code = (
        "import sys; from bglora import backends; from bglora.settings import Settings;"
        f"table = Settings().cluster.model_copy(update={{'openclip': {str(tiny)!r}}});"
        "backends.identity('embed', 'openclip', table); print(*sys.modules)"
    )
    root = Path(__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert not {"torch", "transformers", "open_clip", "torchvision"} & set(told.stdout.split())


def test_a_cut_file_is_told(tiny: Path, tmp_path: Path) -> None:
    tiny_openclip.write(tmp_path)
    path = tmp_path / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="damaged"):
        load(tmp_path)


def test_weights_of_another_model_are_told(tmp_path: Path) -> None:
    wide = {**tiny_openclip.CONFIG, "embed_dim": 20}
    tiny_openclip.write(tmp_path)
    save_file(tiny_openclip.tensors(wide), tmp_path / "open_clip_model.safetensors")
    with pytest.raises(UserError, match="another model.*(20|24)"):
        load(tmp_path)
    save_file({"model.diffusion.weight": torch.zeros(2)}, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(UserError, match="another model"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"embed_dim": 24}, "needs embed_dim, vision_cfg"), ({**tiny_openclip.CONFIG, "embed_dim": -1}, "another|config")],
)
def test_a_config_that_makes_no_sense_is_told(tmp_path: Path, config: dict[str, Any], reason: str) -> None:
    tiny_openclip.write(tmp_path)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
    with pytest.raises(UserError, match=reason):
        load(tmp_path)


def test_a_folder_of_another_kind_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_vl"}', encoding="utf-8")
    with pytest.raises(UserError, match="'qwen2_vl'"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["ViT-L-14", "ViT-L-14/laion2b_s32b", "ViT-B-32-256/openai"])
def test_an_unknown_tag_names_those_there_are(name: str) -> None:
    with pytest.raises(UserError, match="tags: .*b") as caught:
        load(name)
    assert "bglora set cluster.openclip" in caught.value.cure


@pytest.mark.skipif(bool(openclip_names.package()[0]), reason="the package open_clip_torch is here")
@pytest.mark.parametrize("name", ["RN50/openai", "ViT-B-16-SigLIP/webli", "ViT-L-15"])
def test_an_architecture_that_only_the_package_knows_is_told(name: str) -> None:
    with pytest.raises(MachineError, match="open_clip_torch only"):
        backends.identity("embed", "openclip", settings(name))


def test_absent_weights_are_named_with_the_command_that_fetches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MachineError, match="not on this machine") as caught:
        load("ViT-L-14/laion2b_s32b_b82k")
    assert caught.value.cure == "bglora models pull openclip-vit-l-14"


def test_a_batch_that_does_not_fit_is_halved(tiny: Path) -> None:
    class Small(openclip.Classes):
        """Has room for two pictures."""

        def images(self, pixels: torch.Tensor) -> torch.Tensor:
            if len(pixels) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().images(pixels)

    published = open_published(tiny)
    embed = OpenClip(published, Small(published, CPU), "")
    assert np.allclose(embed.embed(pictures()), load(tiny).embed(pictures()), atol=1e-5)
