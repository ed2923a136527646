"""`test` as a stage, and the words that it finds for figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bglora.engine.stage import Row
from bglora.engine.tools import ItemTools
from bglora.errors import UserError
from bglora.settings import Settings
from bglora.stages.appearances import asking_prompts, identity
from bglora.stages.appearances import rates as rates_of
from bglora.stages.grids import FINAL, Grid, allowing
from bglora.stages.judging import Judged, best, embedded
from bglora.stages.remedies import remedies
from bglora.stages.test import Test, default_prompts, elsewhere_prompts
from bglora.training import figures
from bglora.training.figures import Estimate
from bglora.training.verdict import FIRST_DATA, ScaleFigures, judge, recommend
from tests.backends.random_lora import write_lora
from tests.stages.trained_project import CAPTION, ProjectView, make, trained, with_lora


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> ProjectView:
    return trained(tmp_path_factory.mktemp("film"), tmp_path_factory.mktemp("scratch"))


def test_a_grid_has_every_prompt_scale_and_seed_and_a_sheet_of_all(view: ProjectView, tmp_path: Path) -> None:
    (item,) = Test().items(view)
    (outcome,) = make(Test(), item, view, tmp_path)
    assert outcome.status == "made"
    assert len([path for path in outcome.outputs if "prompt" in path]) == 5 * 2 * 2
    with Image.open(tmp_path / outcome.record["grid"]) as sheet:
        assert sheet.width > 2 * 2 * 64 and sheet.height > 5 * 64
    scores = json.loads((tmp_path / "grids/scene-00/scores.json").read_text("utf-8"))
    control = scores["by_scale"][0]
    assert control["scale"] == 0 and control["gain"]["mean"] == 0.0 and control["following"]["mean"] == 1.0
    assert scores["characters"]["judged"] is False
    assert outcome.record["verdict"] and all(fault["cure"] for fault in outcome.record["verdict"])


def test_checkpoints_are_tested_beside_the_finished_lora_and_one_of_them_is_named(tmp_path: Path) -> None:
    view = trained(tmp_path / "film", tmp_path / "scratch", train={"keep_checkpoints": 2, "epochs_small": 2})
    (item,) = Test().items(view)
    (outcome,) = make(Test(), item, view, tmp_path / "out")
    scores = json.loads((tmp_path / "out/grids/scene-00/scores.json").read_text("utf-8"))
    loras = [one["lora"] for one in scores["checkpoints"]]
    assert loras[0] == "loras/scene-00.safetensors" and all("/checkpoints/step-" in path for path in loras[1:])
    assert len(loras) == 3 and outcome.record["recommended_lora"] in loras
    sheets = [path for path in outcome.outputs if path.endswith("grid.webp")]
    assert len(sheets) == 3 and sheets[0] == outcome.record["grid"] == "grids/scene-00/grid.webp"


def test_of_checkpoints_the_faultless_one_is_used_and_the_finished_one_on_a_tie() -> None:
    def judged(step: int, likeness: float, *words: str) -> Judged:
        grid = Grid(step, f"{step}", ["a town"], [0.0, 1.0], np.zeros((2, 1, 1, 2, 2, 3), np.uint8))
        return Judged(grid, [at(0, 0), at(1, likeness)], [{"word": word} for word in words], 1, 0.9)

    assert best([judged(FINAL, 0.4, "too weak"), judged(10, 0.2, "good"), judged(20, 0.3, "good")]).grid.step == 20
    assert best([judged(FINAL, 0.295, "good"), judged(10, 0.3, "good")]).grid.step == FINAL


def test_the_same_lora_gives_the_same_bytes(view: ProjectView, tmp_path: Path) -> None:
    (item,) = Test().items(view)
    outcomes = [make(Test(), item, view, tmp_path / name)[0] for name in "ab"]
    assert outcomes[0] == outcomes[1]
    for path in outcomes[0].outputs:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_a_scene_of_two_plates_is_not_enough_data(tmp_path: Path) -> None:
    view = trained(tmp_path / "film", tmp_path / "scratch", plates=2, held_out=0)
    (item,) = Test().items(view)
    (outcome,) = make(Test(), item, view, tmp_path / "out")
    words = [fault["word"] for fault in outcome.record["verdict"]]
    assert "not enough data" in words
    assert outcome.record["scores"]["likeness_to"].startswith("training plates")


def test_without_loras_the_command_that_makes_them_is_named(view: ProjectView) -> None:
    bare = ProjectView(view.root, view.settings, {**view.stages, "train": []}, view.remarks)
    with pytest.raises(UserError) as caught:
        list(Test().items(bare))
    assert caught.value.cure == "bglora train"


def test_prompts_ask_for_a_character_for_other_light_and_for_other_places() -> None:
    plain, character, evening = default_prompts([CAPTION], ["warm light"], "no characters, empty scene")
    assert plain == CAPTION
    assert character == "filmtown, background, a town, wooden houses, warm light, calm, with a character"
    assert evening == "filmtown, background, a town, wooden houses, calm, golden evening, no characters, empty scene"
    _, named, *_ = default_prompts([CAPTION], [], "no characters, empty scene", "flm_kid, a kid")
    assert named == "filmtown, flm_kid, a kid, background, a town, wooden houses, warm light, calm"
    for prompt in elsewhere_prompts("no characters, empty scene"):
        assert "filmtown" not in prompt and prompt.endswith(", no characters, empty scene")


def estimate(mean: float, half: float = 0.02) -> Estimate:
    return Estimate(mean, mean - half, mean + half)


def at(scale: float, gain: float, following: float = 1.0, copies: float = 0.0) -> ScaleFigures:
    return ScaleFigures(
        scale, estimate(0.5 + gain), estimate(gain), estimate(following), estimate(1.0), estimate(copies)
    )


@pytest.mark.parametrize(
    ("scales", "word"),
    [
        ([at(0, 0), at(0.5, 0.1), at(1, 0.2)], "good"),
        ([at(0, 0), at(0.5, 0.0), at(1, 0.01)], "too weak"),
        ([at(0, 0), at(0.5, 0.2, following=0.3), at(1, 0.3, following=0.2)], "overpowers the prompt"),
        ([at(0, 0), at(0.5, 0.1), at(1, 0.3, copies=0.5)], "copies its training pictures"),
    ],
)
def test_figures_get_their_word_and_no_other(scales: list[ScaleFigures], word: str) -> None:
    assert [fault["word"] for fault in judge(scales, pictures=40, held_out=5)] == [word]


def rates(hits: int, of: int, base: int, of_base: int, name: str = "characters") -> list[ScaleFigures]:
    """Scales 0 and 1 of a LoRA without other faults, with so many pictures on which somebody is."""
    base_rate, rate = figures.wilson(base, of_base), figures.wilson(hits, of)
    return [replace(at(0, 0), **{name: base_rate}), replace(at(1, 0.2), **{name: rate})]


@pytest.mark.parametrize(
    ("scales", "pictures", "held_out", "word"),
    [
        ([at(0, 0), replace(at(1, 0.2), gain=Estimate(0.2, 1e-9, 0.4))], 40, 5, "good"),
        ([at(0, 0), replace(at(1, 0.2), gain=Estimate(0.2, 0.0, 0.4))], 40, 5, "too weak"),
        ([at(0, 0), replace(at(1, 0.2), following=Estimate(0.5, 0.4, 0.6))], 40, 5, "good"),
        ([at(0, 0), replace(at(1, 0.2), following=Estimate(0.5, 0.4, 0.599))], 40, 5, "overpowers the prompt"),
        (
            [at(0, 0), replace(at(0.5, 0.2), following=Estimate(0.56, 0.4, 0.7)), at(1, 0.3, following=0.1)],
            40,
            5,
            "overpowers the prompt",
        ),
        (
            [at(0, 0), replace(at(0.5, 0.2), following=Estimate(0.6, 0.4, 0.8)), at(1, 0.3, following=0.1)],
            40,
            5,
            "good",
        ),
        ([at(0, 0), replace(at(1, 0.2), copies=Estimate(0.2, 0.1, 0.3))], 40, 5, "good"),
        ([at(0, 0), replace(at(1, 0.2), copies=Estimate(0.2, 0.101, 0.3))], 40, 5, "copies its training pictures"),
        (rates(3, 12, 0, 12), 40, 5, "good"),
        (rates(4, 12, 0, 12), 40, 5, "hallucinates characters"),
        (rates(9, 12, 5, 12), 40, 5, "good"),
        (rates(10, 12, 5, 12), 40, 5, "hallucinates characters"),
        (rates(2, 4, 4, 4, "answered"), 40, 5, "good"),
        (rates(1, 4, 4, 4, "answered"), 40, 5, "conflicts with the character"),
        ([at(0, 0), at(1, 0.2)], 6, 1, "good"),
        ([at(0, 0), at(1, 0.2)], 5, 1, "not enough data"),
        ([at(0, 0), at(1, 0.2)], 40, 0, "not enough data"),
        ([at(0, 0)], 40, 5, "not enough data"),
    ],
)
def test_each_word_begins_where_its_interval_leaves_no_doubt(
    scales: list[ScaleFigures], pictures: int, held_out: int, word: str
) -> None:
    assert [fault["word"] for fault in judge(scales, pictures, held_out)] == [word]


def test_the_difference_of_two_shares_is_newcombes() -> None:
    """Newcombe 1998, table II (a): 56 of 70 and 48 of 80."""
    found = figures.difference(figures.wilson(56, 70), figures.wilson(48, 80))
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_plates_that_leak_are_named_with_the_verdict() -> None:
    base, many = Estimate(0.1, 0.0, 0.2), Estimate(0.6, 0.4, 0.8)
    scales = [replace(at(0, 0), characters=base), replace(at(1, 0.2), characters=many)]
    (fault,) = judge(scales, 40, 5, leaks=lambda: [f"film-s000/00000{k}" for k in range(7)])
    assert "film-s000/000004 and 2 more" in fault["cure"] and "film-s000/000005" not in fault["cure"]


@pytest.mark.parametrize(
    ("statues", "leaks", "word"),
    [(0, [], "hallucinates characters"), (20, [], "good"), (20, ["film-s000/000001"], "hallucinates characters")],
)
def test_who_is_seen_on_empty_plates_too_is_no_hallucination(statues: int, leaks: list[str], word: str) -> None:
    scales = rates(10, 12, 2, 12)
    (verdict,) = judge(scales, 40, 5, leaks=lambda: leaks, on_plates=lambda: figures.wilson(statues, 24))
    assert verdict["word"] == word


def test_a_lora_that_paints_over_the_character_asked_for_at_every_scale_conflicts_with_it() -> None:
    base, some, none = Estimate(0.8, 0.7, 0.9), Estimate(0.75, 0.6, 0.85), Estimate(0.2, 0.1, 0.3)
    control, over = replace(at(0, 0), answered=base), replace(at(1, 0.2), answered=none)
    scales = [control, replace(at(0.5, 0.1), answered=none), over]
    (fault,) = judge(scales, 40, 5)
    assert fault["word"] == "conflicts with the character" and recommend(scales) == 0.5
    assert fault["cure"].startswith("Use it below scale 0.5, or beside the character alone (`bglora set compose.mode")
    beside = replace(at(0.5, 0.1), answered=some)
    assert recommend([control, beside, over]) == 0.5
    (fine,) = judge([control, beside, over], 40, 5)
    assert fine["word"] == "good" and "0.5" in fine["cure"]


def test_a_scale_that_is_weak_but_obeys_does_not_hide_what_is_wrong_with_the_strong_ones() -> None:
    base, some, none = Estimate(0.8, 0.7, 0.9), Estimate(0.75, 0.6, 0.85), Estimate(0.2, 0.1, 0.3)
    weak = replace(at(0.5, 0), gain=Estimate(0.02, -0.01, 0.05), answered=some)
    control, over = replace(at(0, 0), answered=base), replace(at(1, 0.2), answered=none)
    (fault,) = judge([control, weak, over], 40, 5)
    assert fault["word"] == "conflicts with the character" and "at scale 0.5," in fault["cure"]
    (fault,) = judge([control, weak, replace(at(1, 0.3, following=0.2), answered=some)], 40, 5)
    assert fault["word"] == "overpowers the prompt" and fault["figures"]["scale"] == 1
    unsure = replace(at(1, 0.3), following=Estimate(0.55, 0.4, 0.7), answered=some)
    for scales in ([control, weak], [control, weak, unsure]):
        (fault,) = judge(scales, 40, 5)
        assert fault["word"] == "too weak"


def test_what_a_lora_does_at_the_usual_scale_is_said_and_cured_by_a_smaller_one() -> None:
    base, some, none = Estimate(0.8, 0.7, 0.9), Estimate(0.75, 0.6, 0.85), Estimate(0.2, 0.1, 0.3)
    control, small = replace(at(0, 0), answered=base), replace(at(0.5, 0.1), answered=some)
    strong = replace(at(0.7, 0.2, following=0.2), answered=some)
    scales = [control, small, strong, replace(at(1, 0.3, following=0.1), answered=some)]
    (fault,) = judge(scales, 40, 5)
    assert fault["word"] == "overpowers the prompt" and fault["figures"]["scale"] == 0.7
    assert recommend(scales) == 0.5 and fault["cure"].startswith("Use it at scale 0.5, or train shorter")
    (fault,) = judge([control, small, replace(at(0.7, 0.2), answered=none)], 40, 5)
    assert fault["word"] == "conflicts with the character" and fault["cure"].startswith("Use it at scale 0.5, or")
    (fine,) = judge([control, small, replace(at(0.7, 0.2), answered=some), replace(scales[3])], 40, 5)
    assert fine["word"] == "good"  # what it does beyond the usual scale is its scale's fault


def test_characters_are_looked_for_at_the_largest_scale_that_follows_the_prompt() -> None:
    clean, peopled = figures.wilson(2, 40), figures.wilson(30, 40)
    control, small = (replace(at(scale, gain), characters=clean) for scale, gain in ((0, 0), (0.7, 0.3)))
    large = replace(at(1, 0.2), characters=peopled)
    (fault,) = judge([control, small, large], 40, 5, leaks=lambda: ["street/01"])
    assert fault["word"] == "hallucinates characters" and fault["figures"]["scale"] == 1
    (fine,) = judge([control, small, replace(large, following=estimate(0.1))], 40, 5, leaks=lambda: ["street/01"])
    assert fine["word"] == "good"


def test_grid_and_plates_are_compared_in_one_space_whatever_a_backend_measures_of_a_call() -> None:
    class Moody:
        """Measures as many things as it is shown pictures; its first measurement is their brightness."""

        def embed(self, pictures: list[np.ndarray]) -> np.ndarray:
            return np.array([[one.mean(), *[0.0] * (len(pictures) - 1)] for one in pictures], np.float32)

    grid = np.arange(4, dtype=np.uint8).reshape(2, 1, 2, 1, 1, 1) * np.ones((1, 1, 1, 3, 3, 3), np.uint8)
    vectors, places = embedded(Moody(), grid, np.full((3, 3, 3, 3), 9, np.uint8))
    assert vectors.shape == (2, 1, 2, 7) and places.shape == (3, 7)
    assert vectors[..., 0].tolist() == [[[0, 1]], [[2, 3]]] and places[:, 0].tolist() == [9, 9, 9]


def test_prompts_that_ask_for_somebody_are_known_by_words_names_and_trigger() -> None:
    prompts = ["a town, no characters", "a town, with a character", "a town with Bill", "town, flm_kid", "blue dusk"]
    assert asking_prompts(prompts, ["Bill"], "flm_kid") == [1, 2, 3]


def test_on_mini_its_small_judge_counts_beside_the_base_and_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    settings = Settings()
    assert settings.train.base == "mini" and "mini_judge.safetensors@" in identity(settings)
    tools = ItemTools(tmp_path, tmp_path, settings, 1, "scene-00", lambda *_: None, lambda: False, {})
    grey = np.full((2, 3, 2, 128, 128, 3), 128, np.uint8)
    found = rates_of(tools, grey, [1])
    assert found is not None and (len(found.unasked), len(found.asked)) == (2, 2)
    assert found.unasked[0] in (figures.wilson(0, 4), figures.wilson(4, 4))  # 2 prompts that ask for nobody, 2 seeds
    assert found.asked[0] in (figures.wilson(0, 2), figures.wilson(2, 2))
    other = settings.model_copy(update={"train": settings.train.model_copy(update={"base": "sdxl-base"})})
    assert identity(other) == ""


def test_the_projects_character_stands_by_where_a_prompt_asks_for_somebody(tmp_path: Path) -> None:
    view = with_lora(tmp_path, test={"scales": [0.0], "seeds": 1, "prompts": ["a town, empty scene", "a town, hero"]})
    (item,) = Test().items(view)
    (alone,) = make(Test(), item, view, tmp_path / "alone")
    hero = write_lora(tmp_path / "loras/character-hero.safetensors", 11, trigger="hero")
    view.stages["train"].append(Row("x", "character-hero", "made", "", (f"loras/{hero.name}",), {}))
    (item,) = Test().items(view)
    assert f"loras/{hero.name}" in item.files
    (peopled,) = make(Test(), item, view, tmp_path / "peopled")

    def picture(folder: str, prompt: int) -> bytes:
        return (tmp_path / folder / f"grids/scene-00/prompt{prompt}-scale000-seed0.webp").read_bytes()

    assert alone.outputs == peopled.outputs
    assert picture("alone", 0) == picture("peopled", 0) and picture("alone", 1) != picture("peopled", 1)


def test_who_is_asked_for_is_not_denied_by_the_negative_prompt() -> None:
    assert allowing("person, people, blurry, a dog, text") == "blurry, text"


def test_few_plates_get_the_cure_that_fits_why_they_are_few() -> None:
    def cure(*data: Any) -> str:
        return str(judge([at(0, 0), at(0.5, 0.2)], *data)[0]["cure"])

    assert "41 of 44 plates were near copies" in cure(3, 0, 41) and "ingest" not in cure(3, 0, 41)
    assert "More plates: `bglora set ingest.fps 0`." in cure(3, 0, 0, ["`bglora set ingest.fps 0`"])
    assert "Every usable frame is in" in cure(1, 0)
    assert (
        cure(9, 0) == "No plate was held out, so likeness is to plates it has seen: `bglora set caption.held_out 0.1`."
    )


def test_where_the_data_lack_no_other_cure_is_advised() -> None:
    scales = [at(0, 0), at(0.5, 0.0), at(1, 0.01)]
    assert [one["cure"] for one in judge(scales, 40, 5)] == ["Use it above scale 1, or train longer."]
    lack, weak = judge(scales, 2, 0)
    assert (lack["word"], weak["word"], weak["cure"]) == ("not enough data", "too weak", FIRST_DATA)


def test_a_cure_is_a_command_that_changes_what_bounds_the_training() -> None:
    settings = Settings.model_validate({"train": {"max_steps": 240, "epochs_small": 20, "epochs": 12}})
    typed = remedies(settings, {"steps": 240, "dim": 8}, 9)
    assert typed["longer"] == "`bglora set train.max_steps 360`"
    assert typed["lower rank"] == "`bglora set train.dim 4`, `bglora set train.alpha 3`"
    assert remedies(settings, {"steps": 100}, 9)["shorter"] == "`bglora set train.epochs_small 10`"
    assert "train.epochs 6" in remedies(settings, {"steps": 100}, 100)["shorter"]
    (fault,) = judge([at(0, 0), at(0.5, 0.0)], 40, 5, remedies=typed)
    assert fault["cure"].endswith("or train longer: `bglora set train.max_steps 360`.")


def test_a_scale_whose_gain_may_be_none_is_not_called_good() -> None:
    unsure = ScaleFigures(0.5, estimate(0.6), estimate(0.01), *[estimate(1.0)] * 2, estimate(0.0))
    sure = ScaleFigures(1.0, estimate(0.595), estimate(0.1), *[estimate(1.0)] * 2, estimate(0.0))
    assert recommend([at(0, 0), unsure, sure]) == 1.0
    assert recommend([at(0, 0), unsure, replace(unsure, scale=0.9), at(1, 0.9, following=0.2)]) == 0.9
    assert [fault["word"] for fault in judge([at(0, 0), unsure], 40, 5)] == ["too weak"]


def test_what_kept_plates_out_is_told_to_the_verdict(tmp_path: Path) -> None:
    view = trained(tmp_path / "film", tmp_path / "scratch", plates=2, held_out=0, ingest={"fps": 1, "max_per_shot": 0})
    copies = [Row("scene-00", f"film-s000/9{n}", "dropped", "near copy of film-s000/000000", (), {}) for n in range(9)]
    view.stages["caption"] += copies
    (item,) = Test().items(view)
    assert item.payload["copies"] == 9 and item.payload["limits"] == ["`bglora set ingest.fps 0`"]


def test_the_recommended_scale_is_the_most_like_one_that_still_follows_the_prompt() -> None:
    assert recommend([at(0, 0), at(0.5, 0.1), at(0.7, 0.2), at(1, 0.3, following=0.2)]) == 0.7
    assert recommend([at(0, 0), at(0.5, 0.2), at(1, 0.205)]) == 0.5
    assert recommend([at(0, 0), at(0.5, 0.2, following=0.1), at(1, 0.3, following=0.1)]) == 0.5
