"""The script that trains the embedded base model, on a handful of drawn stills."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from bglora.assets import asset
from bglora.assets.train_mini import (
    captions,
    clock,
    decoder,
    judge,
    pca_encoder,
    restart,
    sharpen,
    stills,
    text,
    unet,
)
from bglora.assets.train_mini.__main__ import main
from bglora.errors import UserError
from bglora.settings.lora import NEGATIVE
from tests.assets.drawn_stills import draw_stills


@pytest.mark.parametrize("widths", [(16, 32, 64, 128), (24, 48, 96, 192)])
def test_the_written_encoder_equals_numpy_for_any_basis(widths: tuple[int, ...]) -> None:
    from diffusers import AutoencoderKL

    rng = np.random.default_rng(1)
    pixels = rng.uniform(-1, 1, (2, 48, 64, 3)).astype(np.float32)
    basis = pca_encoder.fit(pixels)
    vae = AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )
    pca_encoder.write_into(vae, basis)
    wanted = pca_encoder.encode(basis, pixels)
    assert np.allclose(wanted.std(axis=(0, 2, 3)), 1.0, atol=0.1)
    with torch.no_grad():
        mean = vae.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2)).latent_dist.mean.numpy()
    assert np.abs(mean - wanted).max() < 5e-3


def test_a_vae_too_narrow_for_the_encoder_is_refused() -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, mid_block_add_attention=False)
    with pytest.raises(ValueError, match="cannot hold"):
        pca_encoder.write_into(vae, pca_encoder.PcaBasis(np.zeros((4, 8, 8, 3)), np.zeros(4)))


def test_the_basis_spends_itself_on_what_varies() -> None:
    shade = np.random.default_rng(2).uniform(-1, 1, (40, 1, 1, 1)) * np.ones((1, 8, 8, 3))
    basis = pca_encoder.fit(shade + np.random.default_rng(4).normal(0, 1e-3, shade.shape))
    codes = pca_encoder.encode(basis, shade)[:, 0, 0, 0]
    assert abs(np.corrcoef(codes, shade[:, 0, 0, 0])[0, 1]) > 0.999


def test_the_learning_rate_warms_up_and_ends_at_its_floor() -> None:
    rates = [clock.learning_rate(part, 1e-3) for part in np.linspace(0, 1, 101)]
    assert rates[0] < 1e-4 and max(rates) == pytest.approx(1e-3, rel=1e-3)
    assert rates[-1] == pytest.approx(3e-5)
    assert all(later <= earlier for earlier, later in zip(rates[1:], rates[2:], strict=False))


def fit_line(path: Path, steps: int) -> clock.State:
    line = torch.nn.Parameter(torch.zeros(3))
    state = clock.State(path, [line], peak_rate=0.05, weight_decay=0.0)
    spent = state.load()
    while state.step < steps:
        state.descend((line - torch.tensor([1.0, 2.0, 3.0])).square().sum(), part=0.5)
    state.save(spent + 10.0)
    return state


def test_a_stopped_training_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = fit_line(tmp_path / "whole.pt", 40)
    fit_line(tmp_path / "parts.pt", 15)
    resumed = fit_line(tmp_path / "parts.pt", 40)
    assert torch.equal(whole.average.live[0], resumed.average.live[0])
    assert torch.equal(whole.average.mean[0], resumed.average.mean[0])
    assert resumed.load() == 20.0
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_time_spent_before_counts_in_the_budget() -> None:
    assert clock.Budget(1.0, spent=30.0).part == pytest.approx(0.5, abs=0.01)
    assert clock.Budget(1.0, spent=90.0).part == 1.0


def test_captions_say_whether_somebody_is_there(tmp_path: Path) -> None:
    pictures = stills.read_stills(draw_stills(tmp_path / "stills"))
    rng = np.random.default_rng(0)
    empty, seen = ([captions.choose_caption(still, rng) for _ in range(300)] for still in pictures[:2])
    written = [line for line in empty if line]
    assert 10 <= len(empty) - len(written) <= 60
    assert sum("no characters, empty scene" in line for line in written) > 0.8 * len(written)
    assert not any("grey dog" in line or "with a character" in line for line in written)
    said = ("grey dog", "with a character", *captions.GENERAL_WORDS)
    assert all(any(words in line for words in said) for line in seen if line)
    assert not any("empty scene" in line for line in seen)


def test_the_words_of_the_products_negative_prompt_stand_under_pictures_of_characters_only(tmp_path: Path) -> None:
    pictures = stills.read_stills(draw_stills(tmp_path / "stills"))
    rng = np.random.default_rng(0)
    empty, seen = ([set(captions.choose_caption(still, rng).split(", ")) for _ in range(300)] for still in pictures[:2])
    for word in NEGATIVE.split(", "):
        assert sum(word in tags for tags in seen) > 10
        assert not any(word in tags for tags in empty)


def test_views_keep_the_character_in_sight(tmp_path: Path) -> None:
    pictures = stills.read_stills(draw_stills(tmp_path / "stills"))
    mask = stills.character_mask(pictures[1], stills.empty_cameras(pictures)[pictures[1].pair])
    assert mask is not None and mask[180, 80] == 1.0 and mask[20, 20] == 0.0
    rng = np.random.default_rng(0)
    for target in ((128, 128), (96, 160)):
        plain, *nearer = stills.views((256, 256), target, mask, rng)
        assert plain.time_ids == (*target, 0, 0, *target)
        assert len(nearer) == 2
        for view in (plain, *nearer):
            assert stills.cut_mask(mask, view, target).shape == (target[0] // 8, target[1] // 8)
            assert stills.cut_mask(mask, view, target).max() > 0.9
            assert min(view.box) >= 0 and max(view.box) <= 256.01


def test_every_word_of_the_captions_becomes_one_token(tmp_path: Path) -> None:
    text.train_tokenizer(["a lighthouse on a pier", "zebra crossing"], tmp_path / "vocabulary")
    first, second = text.load_tokenizers(tmp_path / "vocabulary", tmp_path)
    for word in ("lighthouse", "zebra", "crossing"):
        assert first(word).input_ids == second(word).input_ids
        assert len(first(word).input_ids) == 3
    assert len(first("lighthouses").input_ids) > 3


@pytest.mark.parametrize("places", [0, 3])
def test_too_few_stills_are_an_error_in_three_lines(places: int, tmp_path: Path) -> None:
    folder = draw_stills(tmp_path / "stills", places) if places else tmp_path
    with pytest.raises(UserError) as raised:
        stills.read_stills(folder)
    assert len(str(raised.value).splitlines()) == 3
    assert main(["--stills", str(folder), "--out", str(tmp_path / "out"), "--minutes", "0.01"]) != 0


def test_one_command_trains_and_writes_a_pipeline(tmp_path: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    folder, out = draw_stills(tmp_path / "stills"), tmp_path / "tiny"
    options = ["--stills", str(folder), "--out", str(out), "--minutes", "0.02"]
    command = [sys.executable, "-m", "bglora.assets.train_mini", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert all(f"{part}: done" in done.stdout for part in ("unet", "decoder", "sharpen"))
    pipeline = StableDiffusionXLPipeline.from_pretrained(out, local_files_only=True)
    picture = pipeline("beach", num_inference_steps=1, output_type="np", height=64, width=64).images
    assert picture.shape == (1, 64, 64, 3) and np.isfinite(picture).all()


def test_training_goes_on_from_an_exported_folder(tmp_path: Path) -> None:
    folder, out = draw_stills(tmp_path / "stills"), tmp_path / "out"
    source = asset("mini")
    options = ["--stills", str(folder), "--out", str(out), "--start", str(source), "--minutes", "0.0001"]
    assert main([*options, "--part", "decoder"]) == main([*options, "--part", "sharpen"]) == 0
    assert main([*options, "--part", "unet"]) == main([*options, "--part", "export"]) == 0
    for name in ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"):
        before, after = load_file(source / name), load_file(out / name)
        assert before.keys() == after.keys()
        apart = max(float((before[key].float() - after[key].float()).abs().max()) for key in before)
        assert apart < 0.02, name
    assert (out / "tokenizer" / "vocab.json").read_bytes() == (source / "tokenizer" / "vocab.json").read_bytes()


def test_a_training_may_start_from_the_mean_of_two_exported_folders(tmp_path: Path) -> None:
    folder, source, other, out = draw_stills(tmp_path / "stills"), asset("mini"), tmp_path / "other", tmp_path / "out"
    shutil.copytree(source, other)
    file = Path("unet", "diffusion_pytorch_model.safetensors")
    words = Path("text_encoder_2", "model.safetensors")
    for moved in (file, words):
        save_file({key: value + 0.5 for key, value in load_file(source / moved).items()}, other / moved)
    options = ["--stills", str(folder), "--out", str(out), "--start", str(source), str(other)]
    assert main([*options, "--part", "export"]) == 0
    for moved in (file, words):
        first, mean = load_file(source / moved), load_file(out / moved)
        assert max(float((mean[key] - first[key] - 0.25).abs().max()) for key in first) < 0.02
    vae = Path("vae", "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, load_file(out / vae)[key]) for key, value in load_file(source / vae).items())


def test_folders_that_do_not_belong_together_are_not_mixed(tmp_path: Path) -> None:
    source, other = asset("mini"), tmp_path / "other"
    shutil.copytree(source, other)
    (other / "tokenizer" / "merges.txt").write_text("#version: 0.2\na b\n", "utf-8")
    for folders, words in (
        ([source, other], "another vocabulary"),
        ([source, tmp_path], "no exported mini"),
    ):
        with pytest.raises(UserError, match=words) as raised:
            restart.prepare(folders, tmp_path / "work")
        assert len(str(raised.value).splitlines()) == 3
    restart.prepare([other], tmp_path / "work")
    with pytest.raises(UserError, match="belongs to other weights"):
        restart.prepare([source], tmp_path / "work")


@pytest.mark.parametrize(("part", "words"), [("reward", "goes on from a painter"), ("export", "not trained yet")])
def test_what_has_nothing_to_go_on_from_says_so_and_its_cure_works(
    part: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, work = draw_stills(tmp_path / "stills"), tmp_path / "work"
    options = ["--stills", str(folder), "--out", str(tmp_path / "out"), "--work", str(work)]
    assert main([*options, "--part", part]) != 0
    said = capsys.readouterr().err.strip()
    assert words in said and len(said.splitlines()) == 3
    assert not work.exists()
    assert main([*options, "--part", "export", "--start", str(asset("mini"))]) == 0


def test_a_folder_that_is_no_mini_is_named_in_three_lines(tmp_path: Path) -> None:
    folder = draw_stills(tmp_path / "stills")
    options = ["--stills", str(folder), "--out", str(tmp_path / "out"), "--start", str(folder), "--part", "unet"]
    assert main(options) != 0
    with pytest.raises(UserError) as raised:
        restart.prepare([folder], tmp_path / "work")
    assert len(str(raised.value).splitlines()) == 3


def test_noise_steps_cover_all_and_favor_the_middle() -> None:
    times = np.concatenate([unet.draw_times(16, np.random.default_rng(seed)) for seed in range(200)])
    assert times.min() >= 0 and times.max() <= 999
    edges, middle = np.mean((times < 100) | (times >= 900)), np.mean((times >= 400) & (times < 600))
    assert edges < 0.16 and middle > 0.3


def test_stills_around_a_character_and_few_cameras_are_drawn_most(tmp_path: Path) -> None:
    pictures = stills.read_stills(draw_stills(tmp_path / "stills"))
    basis = pca_encoder.fit(np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)))
    pool = unet.build_pools(pictures, basis, 1)[128, 128]
    assert pool.odds.sum() == pytest.approx(1.0)
    by_camera = {
        pair: pool.odds[[pictures[k].pair == pair for k in pool.sources]].sum() for pair in {p.pair for p in pictures}
    }
    ordered = sorted(by_camera.values(), reverse=True)
    assert ordered[0] > 10 * ordered[1]


def test_of_a_place_in_one_light_the_camera_with_the_clearest_character_is_drawn_most(tmp_path: Path) -> None:
    folder = draw_stills(tmp_path / "stills")
    large = np.array(Image.open(folder / "beach-01-0005-1a.png"))
    large[60:220, 60:210] = (250, 20, 20)
    Image.fromarray(large).save(folder / "beach-01-0005-1d.png")
    lines = (folder / "captions.jsonl").read_text("utf-8").splitlines()
    dusk = [line.replace("warm sunlight", "blue dusk") if "-0002-" in line else line for line in lines]
    (folder / "captions.jsonl").write_text("\n".join(dusk), "utf-8")
    assert stills.core_cameras(stills.read_stills(folder)) == {"beach-01-0005-1", "beach-01-0002-1"}


def test_a_character_is_drawn_together_with_its_empty_camera_under_the_same_noise(tmp_path: Path) -> None:
    pictures = stills.read_stills(draw_stills(tmp_path / "stills"))
    basis = pca_encoder.fit(np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)))
    pools = unet.build_pools(pictures, basis, 1)
    assert (pools[96, 160].twins == -1).all()  # views that are cut at random have none
    for size, pool in ((16, pools[128, 128]), (7, pools[192, 192])):
        rows, pairs = pool.draw(size, np.random.default_rng(0))
        assert len(rows) == size and pairs == min(unet.PAIRS, size // 4)
        for seen, empty in zip(rows[:pairs], rows[pairs : 2 * pairs], strict=True):
            first, second = (pictures[pool.sources[row]] for row in (seen, empty))
            assert first.character and not second.character and first.pair == second.pair
            ground = pool.weights[seen] == 1.0
            apart = np.abs(pool.latents[seen] - pool.latents[empty])
            assert apart[:, ground[0]].max() < 0.2 < apart[:, ~ground[0]].max()


def test_the_adversary_learns_to_tell_pictures_from_smears() -> None:
    torch.manual_seed(0)
    adversary = sharpen.build_adversary()
    optimizer = torch.optim.Adam(adversary.parameters(), lr=2e-3)
    codes = torch.zeros(4, 4, 4, 4)
    for _ in range(60):
        real = torch.randn(4, 3, 32, 32)
        smear = torch.nn.functional.interpolate(real[..., ::8, ::8], scale_factor=8, mode="bilinear")
        (high, _), (low, _) = adversary(real, codes), adversary(smear, codes)
        loss = torch.relu(1 - high).mean() + torch.relu(1 + low).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(high.mean().detach()) > float(low.mean().detach()) + 0.5


def test_the_decoder_of_the_script_takes_the_encoder(tmp_path: Path) -> None:
    basis = pca_encoder.fit(np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)))
    vae = decoder.build_vae(basis)
    assert vae.config.scaling_factor == 1.0
    with torch.no_grad():
        assert vae.decode(torch.zeros(1, 4, 4, 4)).sample.shape == (1, 3, 32, 32)


def judged_stills(folder: Path) -> list[judge.Example]:
    (draw_stills(folder) / "captions.jsonl").rename(folder / "captions-1.jsonl")
    for path in folder.glob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
    lines = (folder / "captions-1.jsonl").read_text("utf-8").replace(".png", ".jpg")
    (folder / "captions-1.jsonl").write_text(lines, "utf-8")
    return judge.read_examples([folder])


def test_the_judge_sees_a_still_with_and_without_its_character_in_one_light(tmp_path: Path) -> None:
    examples = judged_stills(tmp_path / "stills")
    seen = next(example for example in examples if example.character)
    empty = next(example for example in examples if example.name == seen.name[:-1] + "a")
    for seed in range(8):
        first, second = judge.draw(judge.without(seen, empty), np.random.default_rng(seed))
        assert not second.cells.any() and second.label == 0.0
        same = np.kron(first.cells == 0, np.ones((8, 8), bool))
        assert np.abs(first.pixels - second.pixels)[same].mean() < 0.1
        if first.label:
            assert np.abs(first.pixels - second.pixels)[np.kron(first.cells > 0.9, np.ones((8, 8), bool))].mean() > 0.2


def test_half_of_another_still_brings_its_cells_along(tmp_path: Path) -> None:
    examples = judged_stills(tmp_path / "stills")
    seen = next(example for example in examples if example.character)
    empty = next(example for example in examples if not example.character)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        ground, character = judge.draw((empty,), rng)[0], judge.draw((seen,), rng)[0]
        mixed = judge.mix(ground, character, rng)
        taken = np.kron(mixed.cells, np.ones((8, 8))) > 0
        assert (mixed.pixels[taken] == character.pixels[taken]).all()
        assert bool(mixed.label) == (mixed.cells.mean() >= judge.VISIBLE)
        assert (mixed.pixels != character.pixels).any()
