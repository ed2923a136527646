"""Settings: where a value comes from, and how wrong ones are told."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import get_args

import pytest

from bglora.cli.lora import FAULTS
from bglora.errors import UserError
from bglora.settings import Settings
from bglora.settings.edit import set_value
from bglora.settings.lora import Verdict
from bglora.settings.manifest import SettingsError, field_of, fields, lines_of, load, read, value_of
from bglora.settings.presets import PRESETS, preset_text, preset_values

MANIFEST = """\
[project]
name = "harbor"   # mine

# how many
[ingest]
fps = 3
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("BGLORA_INGEST__FPS", raising=False)
    (tmp_path / "project.toml").write_text(MANIFEST, encoding="utf-8")
    return tmp_path


def test_set_is_stronger_than_the_environment_than_the_manifest_than_the_preset(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = read(root)
    assert (reading.settings.ingest.fps, reading.origin("ingest.fps")) == (3.0, "project.toml:6")
    assert reading.settings.train.dim == preset_values("cpu")["train"]["dim"]
    assert reading.origin("train.dim") == "preset cpu"
    monkeypatch.setenv("BGLORA_INGEST__FPS", "4")
    reading = read(root)
    assert (reading.settings.ingest.fps, reading.origin("ingest.fps")) == (4.0, "BGLORA_INGEST__FPS")
    reading = read(root, ["ingest.fps=5", "ingest.fps=6"])
    assert (reading.settings.ingest.fps, reading.origin("ingest.fps")) == (6.0, "--set ingest.fps=6")


def test_the_preset_named_in_the_manifest_counts(root: Path) -> None:
    assert load(root).train.resolution == preset_values("cpu")["train"]["resolution"]
    assert load(root, ["project.preset=studio"]).train.resolution == preset_values("studio")["train"]["resolution"]


def test_five_mistakes_are_told_at_once_with_lines_and_the_nearest_right_key(tmp_path: Path) -> None:
    (tmp_path / "project.toml").write_text(
        "[project]\nname = 'x'\n"  # 1, 2
        "[ingest]\nfps = -1\nblur_treshold = 3\n"  # 3, 4, 5
        "[inpiant]\nx = 1\n"  # 6, 7
        "[train]\ndim = [\n  3 ]\n"  # 8, 9, 10
        "backend = 'natvie'\n",  # 11
        encoding="utf-8",
    )
    with pytest.raises(SettingsError) as caught:
        load(tmp_path)
    told = {one.where: (one.what, one.cure) for one in caught.value.mistakes}
    assert list(told) == [f"project.toml:{line}" for line in (4, 5, 6, 9, 11)]
    assert "ingest.fps = -1 should be greater than or equal to 0" in told["project.toml:4"][0]
    assert told["project.toml:5"] == ("There is no key ingest.blur_treshold.", "The nearest is ingest.blur_threshold.")
    assert told["project.toml:6"] == ("There is no table [inpiant].", "The nearest is [inpaint].")
    assert "train.dim = [3] should be a whole number" in told["project.toml:9"][0]
    assert told["project.toml:11"][1] == "The nearest is 'native'."
    assert str(caught.value).startswith("5 settings are wrong.\nproject.toml:4: ")
    assert pickle.loads(pickle.dumps(caught.value)).mistakes == caught.value.mistakes


def test_a_wrong_option_or_variable_is_told_where_it_stands(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as caught:
        load(root, ["ingest.fsp=2"])
    assert caught.value.where == "--set ingest.fsp=2"
    assert caught.value.cure == "The nearest is ingest.fps."
    monkeypatch.setenv("BGLORA_TRIAN__DIM", "8")
    with pytest.raises(SettingsError) as caught:
        load(root)
    assert caught.value.where == "BGLORA_TRIAN__DIM"


def test_truth_is_no_number(root: Path) -> None:
    with pytest.raises(SettingsError, match="train.dim = True should be a number"):
        load(root, ["train.dim=true"])


@pytest.mark.parametrize(
    ("text", "line"), [("[ingest]\nfps = \n", 2), ("[ingest\n", 1), ("a = 1\na = 2\n", 2), ('x = """abc\n', 1)]
)
def test_broken_toml_is_told_in_three_lines(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "project.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert caught.value.what.startswith("project.toml is not valid TOML:")
    assert "\n" not in caught.value.what
    assert int(caught.value.where.rpartition(":")[2]) >= line


def test_a_manifest_that_is_no_text_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "project.toml").write_bytes(b"[project]\nname = '\xff'\n")
    with pytest.raises(UserError, match="not UTF-8") as caught:
        load(tmp_path)
    assert caught.value.where.endswith("project.toml:2")


def test_lines_are_found_in_every_way_of_writing() -> None:
    text = 'a.b = 1\n[t] # x\n"k" = """\n[no]\nz = 1\n"""\nl = [\n 1,\n]\nlast = {x = 1}\n'
    assert lines_of(text) == {"a": 1, "a.b": 1, "t": 2, "t.k": 3, "t.l": 7, "t.last": 10}


def test_values_are_typed_in_a_shell_without_quotes() -> None:
    assert value_of("caption.prefix", "5") == "5"
    assert value_of("train.dim", "5") == 5
    assert value_of("test.scales", "0,0.5") == [0, 0.5]
    assert value_of("sources.films", '["a, b.mp4"]') == ["a, b.mp4"]
    assert value_of("ingest.crop_bars", "false") is False


def test_set_keeps_comments_and_order_and_writes_nothing_wrong(root: Path) -> None:
    assert set_value(root, "ingest.fps", "0.5") == ["ingest.fps"]
    assert set_value(root, "train.dim", "4") == ["train.dim"]
    text = (root / "project.toml").read_text(encoding="utf-8")
    assert text.startswith(MANIFEST.replace("fps = 3", "fps = 0.5"))
    assert load(root).train.dim == 4
    with pytest.raises(UserError, match=r"ingest.fps = -2"):
        set_value(root, "ingest.fps", "-2")
    with pytest.raises(UserError, match="There is no key ingest.fsp"):
        set_value(root, "ingest.fsp", "2")
    assert (root / "project.toml").read_text(encoding="utf-8") == text
    assert [path.name for path in root.iterdir()] == ["project.toml"]


def test_set_can_mend_one_mistake_after_the_other(root: Path) -> None:
    (root / "project.toml").write_text("[ingest]\nfps = -1\n[train]\ndim = 0\n", encoding="utf-8")
    set_value(root, "ingest.fps", "1")
    set_value(root, "train.dim", "8")
    assert (load(root).ingest.fps, load(root).train.dim) == (1.0, 8)


def test_a_new_preset_moves_what_nobody_changed(root: Path) -> None:
    (root / "project.toml").write_text(preset_text("cpu"), encoding="utf-8")
    set_value(root, "ingest.fps", "7")
    changed = set_value(root, "project.preset", "studio")
    assert changed[0] == "project.preset"
    assert len(changed) > 1
    settings = load(root)
    assert settings.ingest.fps == 7.0
    assert settings.train.resolution == preset_values("studio")["train"]["resolution"]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_template_has_every_key_with_a_comment(preset: str) -> None:
    values = preset_values(preset)
    assert {table: set(keys) for table, keys in fields().items()} == {t: set(v) for t, v in values.items()}
    since_comment = 0
    for line in preset_text(preset).splitlines():
        is_key = bool(line) and line[0].isalpha()
        since_comment = 0 if line.startswith("#") else since_comment + is_key
        assert since_comment <= 2, line  # one comment may speak of two keys that belong together


@pytest.mark.parametrize("preset", PRESETS)
def test_a_template_is_a_valid_manifest(preset: str, tmp_path: Path) -> None:
    (tmp_path / "project.toml").write_text(preset_text(preset), encoding="utf-8")
    assert load(tmp_path).project.preset == preset


def test_every_setting_says_what_it_is() -> None:
    for table, keys in fields().items():
        for key in keys:
            field = field_of(f"{table}.{key}")
            assert field is not None
            assert field.description and field.description.endswith("."), f"{table}.{key}"


def test_settings_travel_to_worker_processes() -> None:
    settings = Settings()
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_an_engine_of_another_package_can_be_chosen(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other-1.0.dist-info").mkdir()
    (tmp_path / "other-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (tmp_path / "other-1.0.dist-info" / "entry_points.txt").write_text("[bglora.fill]\nlama = other.lama\n")
    with pytest.raises(SettingsError, match="inpaint.engine = 'pacht' should be 'patch'"):
        load(root, ["inpaint.engine=pacht"])
    monkeypatch.syspath_prepend(tmp_path)
    assert load(root, ["inpaint.engine=lama"]).inpaint.engine == "lama"


def test_the_settings_know_every_backend_of_this_package() -> None:
    from bglora.backends import REGISTRY
    from bglora.settings.table import BUILT_IN

    assert {role: set(names) for role, names in REGISTRY.items() if role != "paint"} == {
        role: set(names) for role, names in BUILT_IN.items()
    }


@pytest.mark.parametrize("name", ["LossType", "HuberSchedule", "Prediction", "Optimizer", "Scheduler", "Quantization"])
def test_choices_of_training_are_those_that_the_trainer_knows(name: str) -> None:
    from bglora.settings import lora
    from bglora.training import options

    assert get_args(getattr(lora, name)) == get_args(getattr(options, name))


def test_every_verdict_has_a_word_for_fail_on() -> None:
    assert set(FAULTS.values()) == set(get_args(Verdict))
