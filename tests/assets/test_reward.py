"""The training of `mini` by a critic: what it asks for, how it samples, and that it stops and goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bglora.assets import asset
from bglora.assets.train_mini import clock, export, judge, restart, reward, stills, text, unet
from bglora.assets.train_mini.__main__ import main
from bglora.errors import UserError
from tests.assets.drawn_stills import draw_stills


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward, "STEPS", 3)
    monkeypatch.setattr(reward, "LAST", 2)
    monkeypatch.setattr(reward, "CAMERAS", 1)


@pytest.fixture(scope="module")
def rewarded(tmp_path_factory: pytest.TempPathFactory) -> reward.Trainer:
    """A training from the package's `mini`, with the package's judge for a critic."""
    tmp_path = tmp_path_factory.mktemp("rewarded")
    work = tmp_path / "work"
    restart.prepare([asset("mini")], work)
    shutil.copyfile(asset("mini_judge.safetensors"), work / "critic.safetensors")
    pictures = stills.read_stills(draw_stills(tmp_path / "stills"))
    trainer = reward.Trainer(pictures, export.load_basis(work / "basis.safetensors"), work, 7)
    trainer.start([asset("mini")])
    trainer.critic = reward.train_critic(pictures, (), trainer.vae, work)
    return trainer


def test_each_camera_is_asked_for_with_and_without_its_character_from_one_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward, "CAMERAS", 3)
    prompts = reward.PromptSampler(stills.read_stills(draw_stills(tmp_path / "stills")))
    for seed in range(20):
        batch = prompts.draw(np.random.default_rng(seed))
        assert all("beach" in caption for caption in batch.captions)
        assert len(batch.captions) == 2 * reward.CAMERAS
        for empty, seen in zip(range(0, len(batch.captions), 2), range(1, len(batch.captions), 2), strict=True):
            assert batch.character[empty] == 0 and batch.character[seen] == 1
            assert "grey dog" not in batch.captions[empty] and "no characters" not in batch.captions[seen]
            assert np.array_equal(batch.noise[empty], batch.noise[seen])
        assert not np.array_equal(batch.noise[0], batch.noise[2])
    with pytest.raises(UserError, match="with and without a character"):
        reward.PromptSampler([still for still in stills.read_stills(tmp_path / "stills") if still.character])


def test_pictures_are_sampled_as_ddim_does_and_the_gradient_passes_through_the_last_steps(
    rewarded: reward.Trainer,
) -> None:
    from diffusers import DDIMScheduler

    trainer = rewarded
    batch = reward.PromptSampler(trainer.painter.train).draw(np.random.default_rng(0))
    calls: list[bool] = []
    hook = trainer.painter.unet.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    ours = trainer.sample(batch, 3.0, last=2)
    hook.remove()
    assert calls == [False, True, True]
    ddim = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )
    ddim.set_timesteps(3)
    painter, codes = trainer.painter, torch.from_numpy(batch.noise)
    ids = torch.tensor([[128, 128, 0, 0, 128, 128]] * len(codes))
    with torch.no_grad():
        for time in ddim.timesteps:
            found = []
            for captions in ([""] * len(codes), batch.captions):
                states, pooled = text.encode_text(painter.tokenizers, painter.encoders, captions)
                extra = {"text_embeds": pooled, "time_ids": ids}
                found.append(painter.unet(codes, time, states, added_cond_kwargs=extra).sample)
            codes = ddim.step(found[0] + 3.0 * (found[1] - found[0]), time, codes).prev_sample
    assert float((ours.detach() - codes).abs().mean()) < 0.03 * float(codes.std())  # bf16 beside float32


def test_what_the_critic_finds_lowers_its_loss_and_leaves_critic_and_decoder_alone(
    rewarded: reward.Trainer,
) -> None:
    trainer = rewarded
    batch = reward.PromptSampler(trainer.painter.train).draw(np.random.default_rng(1))
    losses = []
    for _ in range(6):
        codes = trainer.sample(batch, 3.0, last=2)
        judged = trainer.critic_loss(batch, trainer.decode(codes), np.random.default_rng(2))
        losses.append(float(judged.detach()))
        trainer.painter.state.descend(judged, 0.3)
    assert losses[-1] < 0.9 * losses[0]
    assert all(value.grad is None for value in (*trainer.vae.parameters(), *trainer.critic.parameters()))


def test_a_rewarded_training_stops_and_goes_on_and_is_exported(rewarded: reward.Trainer, tmp_path: Path) -> None:
    lines: list[str] = []
    trainer = rewarded
    trainer.run(0.001, lines.append)
    first = trainer.painter.state.step
    assert first >= 1 and "as asked" in lines[-1]
    again = reward.Trainer(trainer.pictures, trainer.basis, trainer.work, 7)
    again.start([asset("mini")])
    again.run(1.0 / 60 + clock.State.load(again.painter.state) / 60, lines.append)
    assert again.painter.state.step > first
    options = ["--stills", str(trainer.work.parent / "stills"), "--out", str(tmp_path / "out")]
    options += ["--work", str(trainer.work)]
    assert main([*options, "--start", str(asset("mini")), "--part", "export"]) == 0
    file = Path("unet", "diffusion_pytorch_model.safetensors")
    before, after = load_file(asset("mini") / file), load_file(tmp_path / "out" / file)
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert max(float((before[key].float() - after[key].float()).abs().max()) for key in before) < 0.01


def test_a_critic_is_taught_by_the_stills_that_are_trained_on(tmp_path: Path) -> None:
    examples = judge.examples_of(stills.read_stills(draw_stills(tmp_path / "stills")))
    seen = [example for example in examples if example.character]
    assert len(seen) == len(examples) / 2
    for example in seen:
        assert example.mask is not None and example.mask[165:215, 65:105].all() and not example.mask[:150].any()
    assert all(e.mask is not None and not e.mask.any() for e in examples if not e.character)


def test_further_stills_are_asked_for_where_they_are_used_and_there_are_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = draw_stills(tmp_path / "stills")
    options = ["--stills", str(folder), "--out", str(tmp_path / "out"), "--more", str(folder)]
    assert main([*options, "--part", "unet"]) != 0
    assert "--more is for the critic alone" in capsys.readouterr().err
    for wrong in (folder, tmp_path):
        with pytest.raises(UserError, match="no further stills here"):
            reward.read_more([wrong])
    (folder / "captions.jsonl").rename(folder / "captions-9.jsonl")
    assert len(reward.read_more([folder])) == 16


def test_two_painters_in_one_work_folder_are_not_confused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, work = draw_stills(tmp_path / "stills"), tmp_path / "work"
    options = ["--stills", str(folder), "--out", str(tmp_path / "out"), "--work", str(work)]
    work.mkdir()
    (work / unet.CHECKPOINT).write_bytes(b"")
    assert main([*options, "--start", str(asset("mini")), "--part", "reward"]) != 0
    assert "another painter was trained in this work folder" in capsys.readouterr().err
