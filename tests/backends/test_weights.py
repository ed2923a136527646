"""Weights: named, found, fetched from a hub on loopback, checked, taken away; each trouble in three lines."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bglora.backends import pulling, stock, weights
from bglora.errors import BgloraError, MachineError, UserError
from tests.backends import tiny_lama
from tests.backends.small_hub import COMMIT, NOWHERE, SmallHub, point_at, small_hub

TENSORS = bytes(range(256)) * 49152
"""12.6 MB: the hub's library writes 10 MB at a time."""
MODEL = {"config.json": b'{"a": 1}', "model.safetensors": TENSORS, "README.md": b"# read me", "model.bin": b"pickle"}
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
REPOS = {
    "tiny/model": MODEL,
    "facebook/sam3": MODEL,
    "signature-ai/big-lama": {"big-lama.pt": b"other weights" * 9},
    "owner/other": {"config.json": b"{}"},
    SDXL: {
        "model_index.json": b"{}",
        "unet/config.json": b'{"unet": 1}',
        **{
            f"{part}/{kind}.safetensors": f"{part}".encode() * 1000
            for part, kind in (
                ("unet", "diffusion_pytorch_model"),
                ("vae", "diffusion_pytorch_model"),
                ("text_encoder", "model"),
                ("text_encoder_2", "model"),
            )
        },
    },
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache of this test's own, and no network."""
    for name in ("LAMA_MODEL", "XDG_CACHE_HOME", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    point_at(NOWHERE, tmp_path / "hf" / "hub", monkeypatch)
    return tmp_path / "hf" / "hub"


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    with small_hub({repo: dict(files) for repo, files in REPOS.items()}) as found:
        point_at(found.address, cache, monkeypatch)
        yield found


def told(call: Callable[[], object], kind: type[BgloraError]) -> BgloraError:
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert all(line and "\n" not in line for line in (error.what, error.where, error.cure))
    return error


# Named and found


def test_every_entry_says_what_where_and_on_which_terms() -> None:
    for one in weights.known().values():
        assert one.about.endswith(".") and one.license
        assert bool(one.term) == (one.commercial is False), one.name
        assert one.commercial is not None or "without a license" in one.license, one.name
        assert one.role in ("masks", "detect", "fill", "embed", "caption", "train")
        if one.repo:
            assert one.bytes and one.files and "/" in one.repo
            assert one.pinned or one.revision == "main"
            assert not any(pattern.endswith((".bin", "*")) for pattern in one.files), one.name
    assert weights.known()["qwen2.5-vl-3b"].commercial is False


def test_a_path_stands_for_itself(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"x")
    assert weights.find(str(file), setting="inpaint.lama") == file
    assert weights.find(str(tmp_path), setting="inpaint.lama") == tmp_path
    error = told(lambda: weights.find(str(tmp_path / "no"), setting="inpaint.lama"), UserError)
    assert "inpaint.lama" in error.where


@pytest.mark.parametrize("name", ["./a.safetensors", "a.safetensors", "../weights/a", "models/a.ckpt"])
def test_a_relative_path_is_refused_whether_something_is_there_or_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert "is not whole" in told(lambda: weights.find(name, setting="inpaint.lama"), UserError).what


def test_a_folder_of_the_project_is_not_taken_for_a_repository_on_the_hub(tmp_path: Path) -> None:
    from bglora.settings import Settings
    from bglora.stages import foresight

    settings = Settings.model_validate({"inpaint": {"engine": "lama", "lama": "models/lama"}})
    (one,) = [one for one in foresight.demands(tmp_path, settings, ["inpaint"]) if one.setting == "inpaint.lama"]
    assert one.weights is not None and one.weights.repo == "models/lama"
    (tmp_path / "models" / "lama").mkdir(parents=True)
    error = told(lambda: foresight.demands(tmp_path, settings, ["inpaint"]), UserError)
    assert "models/lama" in error.what and str(tmp_path) in error.where


def test_a_name_that_nobody_knows_gets_the_nearest_one() -> None:
    error = told(lambda: weights.find("big-lame", setting="inpaint.lama"), UserError)
    assert "Did you mean big-lama?" in error.cure


def test_absent_weights_are_told_with_size_license_and_the_command() -> None:
    error = told(lambda: weights.find("sam2.1-hiera-large", setting="segment.sam2"), MachineError)
    assert "0.9 GB" in error.what and "Apache-2.0" in error.what
    assert error.where == "segment.sam2 = sam2.1-hiera-large"
    assert error.cure == "bglora models pull sam2.1-hiera-large"


def test_a_repository_of_the_list_is_known_by_its_hub_name() -> None:
    one = weights.entry("Qwen/Qwen2.5-VL-3B-Instruct")
    assert one is not None and one.name == "qwen2.5-vl-3b"
    other = weights.entry("owner/name@v1.0")
    assert other is not None and (other.repo, other.revision, other.commercial) == ("owner/name", "v1.0", None)


def test_lama_is_found_where_others_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "torch" / "hub" / "checkpoints" / "big-lama.pt"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"tensors")
    assert weights.find("big-lama", setting="inpaint.lama") == copy
    before = weights.identity("big-lama")
    own = tmp_path / "own.pt"
    own.write_bytes(b"others")
    monkeypatch.setenv("LAMA_MODEL", str(own))
    assert weights.find("big-lama", setting="inpaint.lama") == own
    assert weights.identity("big-lama") != before
    monkeypatch.setenv("LAMA_MODEL", str(tmp_path / "gone.pt"))
    error = told(lambda: weights.find("big-lama", setting="inpaint.lama"), UserError)
    assert "LAMA_MODEL" in error.where


def test_a_snapshot_that_another_program_fetched_is_found_when_it_is_whole(cache: Path) -> None:
    repo = cache / "models--owner--sharded"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    (snapshot / "model-1.safetensors").write_bytes(b"1")
    told(lambda: weights.find("owner/sharded", setting="caption.qwen_vl"), MachineError)
    (snapshot / "model-2.safetensors").write_bytes(b"2")
    assert weights.find("owner/sharded", setting="caption.qwen_vl") == snapshot
    assert weights.identity("owner/sharded") == f"owner/sharded@{COMMIT[:12]}"


def test_the_identity_follows_the_files_and_not_their_place(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "base", tmp_path / "b" / "base"
    for folder in (first, second):
        (folder / "unet").mkdir(parents=True)
        (folder / "unet" / "model.safetensors").write_bytes(TENSORS)
        (folder / "notes.log").write_text(str(folder))
    assert weights.identity(str(first)) == weights.identity(str(second))
    (first / "unet" / "model.safetensors").write_bytes(TENSORS[:-1] + b"x")
    assert weights.identity(str(first)) != weights.identity(str(second))


@pytest.mark.parametrize("name", ["config.json", "config.yaml", "../config.yaml", "open_clip_config.json"])
def test_the_identity_of_a_file_follows_the_configs_that_are_read_beside_it(tmp_path: Path, name: str) -> None:
    file = tmp_path / "models" / "best.ckpt"
    file.parent.mkdir()
    file.write_bytes(b"tensors")
    seen = {weights.identity(str(file))}
    for content in ("tanh", "none"):
        (file.parent / name).write_text(content)
        seen.add(weights.identity(str(file)))
    (file.parent / "other.ckpt").write_bytes(b"of nobody's concern")
    seen.add(weights.identity(str(file)))
    assert len(seen) == 3


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.model", "config.yaml", "../config.yaml"])
def test_the_identity_of_a_folder_follows_all_that_is_read_of_it(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"tensors")
    before = weights.identity(str(folder))
    (folder / name).write_text("other")
    assert weights.identity(str(folder)) != before


# Fetched


def test_a_pull_takes_what_is_needed_and_says_how_far_it_is(hub: SmallHub) -> None:
    seen: list[tuple[str, int, int]] = []
    folder = pulling.pull("tiny/model", lambda *step: seen.append(step))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == TENSORS
    assert weights.find("tiny/model", setting="x.y") == folder
    assert weights.identity("tiny/model") == f"tiny/model@{COMMIT[:12]}"
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1][1] == seen[-1][2] == len(TENSORS) + len(MODEL["config.json"])
    asked = len(hub.asked)
    assert pulling.pull("tiny/model") == folder
    assert len(hub.asked) == asked  # nothing is asked for twice
    assert stock.verify("tiny/model").state == "ok"


def test_a_killed_pull_goes_on_inside_the_file(hub: SmallHub, cache: Path, tmp_path: Path) -> None:
    hub.stall_after = len(TENSORS) - 1000
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(cache), "HF_TOKEN": "hf_secret"}
    with subprocess.Popen(
        [sys.executable, "-m", "bglora", "models", "pull", "tiny/model"],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert hub.stalled.wait(60)
        blobs, until = cache / "models--tiny--model" / "blobs", time.monotonic() + 30
        while not any(path.stat().st_size for path in blobs.glob(f"*{stock.PARTIAL}")) and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=30)
    assert "hf_secret" not in out + err
    assert hub.tokens == {"Bearer hf_secret"} and hub.store_tokens == {""}
    begun = next(
        path for path in (cache / "models--tiny--model" / "blobs").iterdir() if path.name.endswith(stock.PARTIAL)
    )
    there = begun.stat().st_size
    assert 0 < there <= hub.stall_after
    told(lambda: weights.find("tiny/model", setting="x.y"), MachineError)
    hub.stall_after = None
    folder = pulling.pull("tiny/model")
    assert hub.got("model.safetensors") == ["", f"bytes={there}-"]
    assert hub.got("config.json") == [""]
    assert (folder / "model.safetensors").read_bytes() == TENSORS


def test_a_file_that_arrives_spoiled_is_not_kept(hub: SmallHub, cache: Path) -> None:
    hub.spoiled = {"model.safetensors"}
    error = told(lambda: pulling.pull("tiny/model"), MachineError)
    assert "Wrong checksum" in error.what and hashlib.sha256(TENSORS).hexdigest() in error.what
    assert "bglora models pull tiny/model" in error.cure
    kept = [path.name for path in (cache / "models--tiny--model" / "blobs").iterdir()]
    assert len(kept) == 1  # config.json alone
    hub.spoiled = set()
    assert pulling.pull("tiny/model").is_dir()


def test_weights_with_a_published_checksum_are_refused_before_they_are_fetched(hub: SmallHub) -> None:
    error = told(lambda: pulling.pull("big-lama"), MachineError)
    assert "Wrong checksum" in error.what and weights.known()["big-lama"].sha256["big-lama.pt"] in error.what
    assert hub.got("big-lama.pt") == []


def test_a_gated_repository_says_where_to_ask_and_shows_no_token(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.gated = {"facebook/sam3"}
    hub.repos["facebook/sam3"] = MODEL
    error = told(lambda: pulling.pull("facebook/sam3@main"), MachineError)
    assert "accepted its terms" in error.what
    assert error.where == f"{hub.address}/facebook/sam3"
    assert "HF_TOKEN" in error.cure and "hf_secret" not in str(error)


def test_a_repository_or_revision_that_is_not_there_is_told(hub: SmallHub) -> None:
    assert "no repository nobody/nothing" in told(lambda: pulling.pull("nobody/nothing"), UserError).what
    assert "no revision v9" in told(lambda: pulling.pull("tiny/model@v9"), UserError).what
    assert "lacks what is needed of it: the tensors" in told(lambda: pulling.pull("owner/other"), MachineError).what


def test_no_network_is_told() -> None:
    error = told(lambda: pulling.pull("tiny/model"), MachineError)
    assert "No connection" in error.what and "pull tiny/model" in error.cure


def test_offline_nothing_is_asked_for(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in told(lambda: pulling.pull("tiny/model"), MachineError).what
    assert hub.asked == []


def test_too_little_room_is_told_before_anything_is_fetched(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "are free" in told(lambda: pulling.pull("tiny/model"), MachineError).what
    assert hub.asked == []


def test_a_path_cannot_be_pulled(tmp_path: Path) -> None:
    assert "is a path" in told(lambda: pulling.pull(str(tmp_path)), UserError).what


# Checked and taken away


def test_what_rots_in_the_cache_is_found(hub: SmallHub) -> None:
    file = (pulling.pull("tiny/model") / "model.safetensors").resolve()
    os.chmod(file, 0o644)
    file.write_bytes(TENSORS[:-1] + b"x")
    found = stock.verify("tiny/model")
    assert found.state == "wrong" and "model.safetensors" in found.found
    assert found.mend == "bglora models remove tiny/model && bglora models pull tiny/model"
    assert stock.verify("big-lama").state == "absent"


def test_a_foreign_copy_is_checked_by_its_published_checksum(tmp_path: Path) -> None:
    copy = tmp_path / "torch" / "hub" / "checkpoints" / "big-lama.pt"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"tensors")
    assert stock.verify("big-lama").state == "wrong"
    assert "another program's" in told(lambda: stock.remove("big-lama"), UserError).what
    assert copy.is_file()


def test_what_was_made_of_a_foreign_copy_goes_and_the_copy_stays(tmp_path: Path) -> None:
    from bglora import backends
    from bglora.settings import Settings

    copy = tmp_path / "torch" / "hub" / "checkpoints" / "big-lama.pt"
    copy.parent.mkdir(parents=True)
    tiny_lama.checkpoint(copy)
    backends.load("fill", "lama", Settings().inpaint)
    (made,) = weights.shelf(weights.known()["big-lama"]).glob("*.safetensors")
    size = made.stat().st_size
    assert stock.remove("big-lama") == size
    assert copy.is_file() and not made.exists()


def test_a_snapshot_of_another_program_is_checked_by_the_cache_and_adopted_by_a_pull(hub: SmallHub) -> None:
    from huggingface_hub import hf_hub_download

    for path in ("config.json", "model.safetensors"):
        hf_hub_download("tiny/model", path)
    one = weights.entry("tiny/model")
    assert one is not None and weights.present(one) is not None and not weights.pulled(one)
    assert stock.verify("tiny/model").state == "ok"
    before = len(hub.got("model.safetensors"))
    pulling.pull("tiny/model")
    assert weights.pulled(one)["commit"] == COMMIT
    assert len(hub.got("model.safetensors")) == before


def test_removing_frees_what_was_pulled_and_leaves_what_others_fetched(hub: SmallHub, cache: Path) -> None:
    from huggingface_hub import hf_hub_download

    folder = pulling.pull("tiny/model")
    hf_hub_download("tiny/model", "README.md", revision=COMMIT)
    whole = len(TENSORS) + len(MODEL["config.json"])
    assert stock.remove("tiny/model", dry=True) >= whole
    assert (folder / "model.safetensors").is_file()
    assert stock.remove("tiny/model") >= whole
    assert [path.name for path in folder.iterdir()] == ["README.md"]
    assert len(list((cache / "models--tiny--model" / "blobs").iterdir())) == 1
    assert "not on this machine" in told(lambda: stock.remove("tiny/model"), UserError).what
    assert "belongs to the package" in told(lambda: stock.remove("mini"), UserError).what


def test_weights_of_one_repository_do_not_take_each_others_files(hub: SmallHub) -> None:
    configs = pulling.pull("sdxl-config")
    assert weights.present(weights.known()["sdxl-base"]) is None
    base = pulling.pull("sdxl-base")
    assert base == configs and (base / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    stock.remove("sdxl-base")
    assert weights.find("sdxl-config", setting="train.base") == configs
    assert not (base / "vae").exists() or not list((base / "vae").iterdir())
    stock.remove("sdxl-config")
    assert not configs.exists()


def test_weights_of_another_stage_are_refused_before_they_are_fetched(tmp_path: Path) -> None:
    from bglora.stages.foresight import Demand, missing

    with pytest.raises(UserError, match="is for segment") as told:
        missing([Demand("inpaint", "fill lama", "inpaint.lama", "sam2.1-hiera-tiny")])
    assert told.value.where == "inpaint.lama = sam2.1-hiera-tiny"
    text = tmp_path / "text.safetensors"
    text.write_text("text")
    with pytest.raises(UserError, match="no checkpoint"):
        missing([Demand("inpaint", "fill lama", "inpaint.lama", str(text))])


def test_what_another_program_fetched_is_not_removed(hub: SmallHub) -> None:
    from huggingface_hub import hf_hub_download

    kept = [Path(hf_hub_download("tiny/model", path)) for path in ("config.json", "model.safetensors")]
    assert "another program's" in told(lambda: stock.remove("tiny/model"), UserError).what
    assert all(path.is_file() for path in kept)


def test_a_pull_that_was_broken_off_takes_away_what_it_brought_and_nothing_else(hub: SmallHub, cache: Path) -> None:
    from huggingface_hub import hf_hub_download

    kept = Path(hf_hub_download("tiny/model", "config.json"))
    foreign = cache / "models--tiny--model" / "blobs" / ("f" * 64 + stock.PARTIAL)
    foreign.write_bytes(b"begun for other weights of this repository")
    begun = foreign.with_name(hashlib.sha256(TENSORS).hexdigest() + stock.PARTIAL)
    begun.write_bytes(TENSORS[:5000])
    hub.spoiled = {"model.safetensors"}
    told(lambda: pulling.pull("tiny/model"), MachineError)
    begun.write_bytes(TENSORS[:5000])
    assert stock.remove("tiny/model") >= 5000
    assert not begun.exists() and foreign.is_file() and kept.is_file()
    assert "not on this machine" in told(lambda: stock.remove("tiny/model"), UserError).what


def test_only_one_at_a_time_works_on_a_repository(hub: SmallHub) -> None:
    pulling.pull("sdxl-config")
    with stock.alone(weights.known()["sdxl-config"]):
        assert "Another process" in told(lambda: pulling.pull("sdxl-base"), MachineError).what
        assert "Another process" in told(lambda: stock.remove("sdxl-config"), MachineError).what
        assert pulling.pull("tiny/model").is_dir()
    assert pulling.pull("sdxl-base").is_dir()
