"""LaMa: the published shape, its files, and what of a picture it changes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bglora.errors import MachineError, UserError
from bglora.nets import ffc, folded, lama
from bglora.nets.lama_pictures import padded, reduced, regions, tiles
from tests.backends import tiny_lama

CPU = torch.device("cpu")


def textured(height: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def with_hole(height: int, width: int, *box: int) -> np.ndarray:
    hole = np.zeros((height, width), bool)
    hole[box[0] : box[2], box[1] : box[3]] = True
    return hole


def test_big_lama_has_the_published_names_and_sizes() -> None:
    with torch.device("meta"):
        net = ffc.Generator(ffc.published())
    state = net.state_dict()
    assert sum(part.numel() for part in net.parameters()) == 50_975_875
    assert sum(part.numel() for part in net.buffers()) == 81_304 and len(state) == 989
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert shapes["model.1.ffc.convl2l.weight"] == (64, 4, 7, 7)
    assert shapes["model.4.ffc.convl2g.weight"] == (384, 256, 3, 3) and "model.4.ffc.convg2l.weight" not in shapes
    assert shapes["model.22.conv2.ffc.convg2g.fu.conv_layer.weight"] == (384, 384, 1, 1)
    assert shapes["model.24.weight"] == (512, 256, 3, 3) and shapes["model.30.bias"] == (64,)
    assert shapes["model.34.weight"] == (3, 64, 7, 7) and shapes["model.34.bias"] == (3,)
    assert ffc.architecture_of(state) == ffc.published()


@pytest.mark.parametrize(
    "options", [{}, {"width": 8, "blocks": 1}, {"ratio": 0.5}, {"ratio": 0.0}, {"down": 2}, {"down": 4, "width": 2}]
)
@pytest.mark.parametrize("winograd_from", [1, 10**6])
def test_the_quick_form_computes_the_same(
    options: dict[str, object], winograd_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folded, "WINOGRAD_FROM", winograd_from)
    plain = tiny_lama.generator(3, **options)  # type: ignore[arg-type]
    assert ffc.architecture_of(plain.state_dict()) == plain.architecture
    quick = folded.FoldedGenerator(plain, CPU, torch.float32)
    x = torch.rand(2, 4, 80, 112, generator=torch.Generator().manual_seed(1))
    expected = plain(x)
    assert expected.std() > 0.05
    assert torch.allclose(quick(x), expected, atol=2e-5)


@pytest.mark.parametrize(("width", "size"), [(1, (2, 2)), (1, (9, 7)), (3, (4, 4)), (3, (8, 12))])
def test_the_reflection_for_cards_is_torchs_own_in_channels_last(width: int, size: tuple[int, int]) -> None:
    x = torch.rand(2, 5, *size).contiguous(memory_format=torch.channels_last)
    made = folded.reflected(x, width)
    assert torch.equal(made, torch.nn.functional.pad(x, (width,) * 4, mode="reflect"))
    assert made.is_contiguous(memory_format=torch.channels_last)


def test_the_network_asks_nothing_of_its_device_before_it_is_done() -> None:
    # Values of the meta device can't be asked for, nor mixed with those of another.
    quick = folded.FoldedGenerator(tiny_lama.generator(3), CPU, torch.bfloat16).to("meta")
    quick.device = torch.device("meta")
    assert quick(torch.rand(2, 4, 80, 112)).shape == (2, 3, 80, 112)


def test_in_bfloat16_the_spectrum_stays_float32_and_the_picture_nearly_the_same() -> None:
    plain = tiny_lama.generator(3, blocks=1)
    x = torch.rand(1, 4, 64, 88, generator=torch.Generator().manual_seed(1))
    off = (folded.FoldedGenerator(plain, CPU, torch.bfloat16)(x) - plain(x)).abs()
    assert off.mean() < 0.02


@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
@pytest.mark.parametrize("prefix", ["", "generator.", "model.generator.", "model."])
def test_any_prefix_in_any_kind_of_file(tmp_path: Path, ending: str, prefix: str) -> None:
    path = tiny_lama.checkpoint(tmp_path / f"a.{ending}", prefix=prefix)
    expected = tiny_lama.generator().state_dict()
    found = lama.load(path).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected if not name.endswith(ffc.COUNTERS))


def test_a_folder_as_it_is_published(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    tiny_lama.checkpoint(tmp_path / "models" / "best.ckpt")
    config = "generator:\n  kind: ffc_resnet\n  add_out_act: {}\ndiscriminator:\n  ndf: 64\n"
    (tmp_path / "config.yaml").write_text(config.format("sigmoid"))
    assert lama.load(tmp_path).architecture.activation == "sigmoid"
    (tmp_path / "config.yaml").write_text(config.format("true"))
    assert lama.load(tmp_path).architecture.activation == "tanh"


def test_a_pickled_file_is_converted_once_and_again_when_it_changes(tmp_path: Path) -> None:
    path, kept = tiny_lama.checkpoint(tmp_path / "a.ckpt"), tmp_path / "kept"
    lama.load(path, converted=kept)
    (copy,) = kept.iterdir()
    path.write_bytes(b"\0" * path.stat().st_size)
    os.utime(path, ns=(0, int(copy.stem.rsplit("-", 1)[1], 16)))
    assert lama.load(path, converted=kept).architecture == ffc.published(4, 2)
    tiny_lama.checkpoint(path, seed=2)
    again = lama.load(path, converted=kept).state_dict()
    expected = tiny_lama.generator(2).state_dict()
    assert torch.equal(again["model.1.ffc.convl2l.weight"], expected["model.1.ffc.convl2l.weight"])
    assert len(list(kept.iterdir())) == 1 and not copy.exists()


def test_where_nothing_can_be_kept_the_file_is_read_anew_and_that_is_told(tmp_path: Path) -> None:
    path, taken = tiny_lama.checkpoint(tmp_path / "a.ckpt"), tmp_path / "taken"
    taken.write_bytes(b"no folder")
    with pytest.warns(UserWarning, match="a.ckpt is read anew every time: nothing can be kept in .*taken"):
        assert lama.load(path, converted=taken).architecture == ffc.published(4, 2)


def test_other_models_are_refused_in_words(tmp_path: Path) -> None:
    tensors = load_file(tiny_lama.checkpoint(tmp_path / "good.safetensors"))

    def refused(words: str, **changed: torch.Tensor) -> None:
        save_file(changed, tmp_path / "other.safetensors")
        with pytest.raises(UserError, match=words) as told:
            lama.load(tmp_path / "other.safetensors")
        assert len(str(told.value).splitlines()) == 3

    refused("no LaMa generator", **{"conv_in.weight": torch.zeros(1)})
    refused("lama-regular", **{"generator.model.1.weight": torch.zeros(64, 4, 7, 7)})
    refused("more than one", **tensors, **{f"ema.{name}": tensor.clone() for name, tensor in tensors.items()})
    gate = {"generator.model.5.conv1.ffc.gate.weight": torch.zeros(2, 4, 1, 1)}
    refused("another kind of generator", **tensors, **gate)
    less = dict(tensors)
    del less["generator.model.5.conv1.bn_l.running_mean"]
    refused("lacks tensors", **less)
    refused("other sizes", **{**tensors, "generator.model.5.conv2.bn_l.bias": torch.zeros(9)})
    refused("lacks parts", **{"generator.model.1.ffc.convl2l.weight": torch.zeros(4, 4, 7, 7)})


def network() -> lama.Lama:
    return lama.Lama(tiny_lama.generator(), CPU, torch.float32)


def test_pictures_of_different_sizes_together_are_those_one_by_one() -> None:
    sizes = [(61, 83), (64, 88), (17, 9), (40, 64)]
    pictures = [textured(*size, seed) for seed, size in enumerate(sizes)]
    holes = [with_hole(*size, 3, 2, size[0] - 6, size[1] - 4) for size in sizes]
    net = network()
    together = net.fill(pictures, holes)
    for picture, hole, made in zip(pictures, holes, together, strict=True):
        assert np.array_equal(made, net.fill([picture], [hole])[0])
        assert np.array_equal(made[~hole], picture[~hole]) and not np.array_equal(made, picture)


def test_batches_are_halved_when_the_device_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    net, asked = network(), list[int]()
    picture, hole = textured(32, 32), with_hole(32, 32, 8, 8, 20, 20)
    expected = net.fill([picture], [hole])[0]
    forward = net.network.forward

    def device_call(x: torch.Tensor) -> torch.Tensor:
        asked.append(len(x))
        if len(x) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(x)

    monkeypatch.setattr(net.network, "forward", device_call)
    room = 2
    made = net.fill([picture] * 5, [hole] * 5, batch=5)
    assert asked == [5, 2, 2, 1] and all(np.array_equal(one, expected) for one in made)
    room = 0
    with pytest.raises(MachineError, match="too little memory"):
        net.fill([picture], [hole], batch=5)


def test_large_pictures_are_looked_at_around_their_holes() -> None:
    hole = with_hole(1200, 2000, 100, 100, 200, 160) | with_hole(1200, 2000, 900, 1700, 950, 1760)
    found = regions(hole, 1024)
    assert len(found) == 2 and max(max(region.window.size) for region in found) <= 400
    covered = np.zeros_like(hole)
    for region in found:
        covered[region.window.rows_columns] |= region.own
    assert np.array_equal(covered, hole)
    assert [region.window.size for region in regions(hole, 0)] == [(1200, 2000)]
    assert regions(np.zeros_like(hole), 0) == []


def test_no_pixel_that_a_hole_touches_counts_as_known_when_made_smaller() -> None:
    picture, hole = np.zeros((300, 500, 3), np.uint8), with_hole(300, 500, 101, 203, 144, 251)
    picture[hole] = 255
    small, mask = reduced(picture, hole, 200)
    assert small.shape == (120, 200, 3) and not small[~mask].any() and mask.mean() < 1.2 * hole.mean()


def test_holes_are_covered_by_overlapping_tiles_and_known_pixels_stay() -> None:
    hole = with_hole(150, 230, 20, 10, 140, 220)
    windows = list(tiles(hole, 96))
    seen = np.zeros(hole.shape, int)
    for window in windows:
        assert window.size == (96, 96)
        seen[window.rows_columns] += 1
    assert seen[hole].min() == 1 and seen[hole].max() > 1
    picture = textured(150, 230)
    made = network().fill([picture], [hole], tile=96)[0]
    assert np.array_equal(made[~hole], picture[~hole]) and (made[hole] > 0).any()


def test_a_hole_larger_than_the_side_is_filled_at_a_smaller_size() -> None:
    picture, hole = textured(400, 600), with_hole(400, 600, 30, 30, 370, 560)
    made = network().fill([picture], [hole], side=128)[0]
    assert made.shape == picture.shape and np.array_equal(made[~hole], picture[~hole])
    assert not np.array_equal(made[hole], picture[hole])


def test_pictures_smaller_than_what_is_reflected_are_grown() -> None:
    assert padded(np.arange(3)[None].repeat(2, 0), 8, 16).shape == (16, 16)
    assert padded(np.arange(5)[None].repeat(8, 0), 8, 8)[0].tolist() == [0, 1, 2, 3, 4, 4, 3, 2]
