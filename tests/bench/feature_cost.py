"""What a whole film costs, ingest to caption: from what was measured, and an estimate for graphics cards.

Two cores: CPU seconds of a part of the film times the parts, by two where a stage has many items. Cards are estimated,
nothing was measured on one: work of the networks as it was counted (the table "Networks of the studio" says at what
share of which rate how long each took; BrushNet's is counted on shapes), at an assumed share of a published rate, and
the processor's part of the studio as it was measured on tiny networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tests.bench.table import table

if TYPE_CHECKING:
    from tests.bench.feature import Spent

SAM2, LAMA, BRUSHNET, OPENCLIP, CAPTION = 1.70, 0.254, 70.0, 0.16, 7.6
"""TFLOP: a character followed over a frame; a fill of 512 x 288; one by BrushNet in 50 steps of (UNet twice, 0.85, and
its branch twice, 0.50) and the VAE; a picture embedded; a caption by a model of 8.3 billion numbers over 460 words."""
CHARACTERS, LOOKED_AT, TRIES = 1.5, 32, 3
"""Characters of a shot, forward and back counted once; frames of a shot that are looked at (`segment.samples`); fills
of a plate with a hole, those in withheld holes included."""
SHARE_BY_BRUSHNET = 0.07
"""Of all plates, those with something that no frame shows; here all of them go to BrushNet."""
SHOT_CPU = {"segment": 54.0 / 12, "inpaint": 24.5 / 12}
"""CPU seconds a shot of the studio on tiny networks: the table "The studio on tiny random checkpoints"."""
CARDS = {"one card, 16 GB": (100.0, 0.3, 1), "eight cards, 80 GB": (990.0, 0.3, 8)}
"""TFLOP/s in 16 bit that makers publish of such a card, the share of it that is assumed, and how many there are."""
STAGES = ("ingest", "segment", "inpaint", "cluster", "caption")
ALONE = ("ingest", "cluster")
"""Stages with one item: more cards don't make them faster."""


def cost(measured: Mapping[str, Spent], times: float) -> tuple[str, str]:
    """The table of hours, and the arithmetic below it.

    Args:
        measured: figures of a part of the film. times: how much longer the whole film is.
    """
    shots, kept = (times * measured["segment"].ended[key] for key in ("items", "kept"))
    work = {
        "segment": shots * LOOKED_AT * CHARACTERS * SAM2,
        "inpaint": kept * (SHARE_BY_BRUSHNET * TRIES * BRUSHNET + LAMA),
        "cluster": kept * OPENCLIP,
        "caption": kept * CAPTION,
    }
    cores = {stage: times * measured[stage].cpu_s / 3600 / (1 if stage in ALONE else 2) for stage in STAGES}
    columns = [cores]
    for rate, share, count in CARDS.values():
        hours = {}
        for stage in STAGES:
            processor = SHOT_CPU[stage] * shots if stage in SHOT_CPU else times * measured[stage].cpu_s
            seconds = work.get(stage, 0.0) / (rate * share) + processor
            hours[stage] = seconds / 3600 / (1 if stage in ALONE else count)
        columns.append(hours)
    rows = [[stage, *(f"{column[stage]:.2f}" for column in columns)] for stage in STAGES]
    rows.append(["**together**", *(f"**{sum(column.values()):.1f}**" for column in columns)])
    head = ["hours for 90 minutes", "two cores, preset cpu (measured part)"]
    head += [f"{name}, preset studio (estimate)" for name in CARDS]
    return table(head, rows), _arithmetic(shots, kept, work)


def _arithmetic(shots: float, kept: float, work: Mapping[str, float]) -> str:
    rates = "; ".join(f"{name}: {count} x {rate:.0f} TFLOP/s x {share}" for name, (rate, share, count) in CARDS.items())
    return f"""\
**The cards' columns are estimates; nothing here ran on one.** {shots:,.0f} shots, {kept:,.0f} kept frames.

- rates: {rates} (published for such cards in 16 bit, and the share of it that is assumed)
- segment: {shots:,.0f} shots x {LOOKED_AT} frames x {CHARACTERS} characters x {SAM2} TFLOP (SAM 2.1 large, counted) =
  {work["segment"]:,.0f} TFLOP; and {SHOT_CPU["segment"]:.1f} s of the processor a shot (measured, tiny networks)
- inpaint: {kept:,.0f} plates x {SHARE_BY_BRUSHNET} with something never revealed x {TRIES} fills x {BRUSHNET:.0f} TFLOP
  (BrushNet, 50 steps, counted), and {LAMA} TFLOP for each plate (LaMa, counted) = {work["inpaint"]:,.0f} TFLOP; and
  {SHOT_CPU["inpaint"]:.1f} s of the processor a shot (measured, tiny networks)
- cluster: {OPENCLIP} TFLOP a plate (OpenCLIP ViT-L-14, counted); caption: {CAPTION} TFLOP a plate (Qwen2-VL-7B:
  2 x 8.3e9 x 460 words); ingest, and the processor's part of these two, as measured with the preset cpu
- {" and ".join(ALONE)} are one item each and take as long on eight cards as on one; the others are shared evenly, a
  process a card. The detector's looks and the training are left out."""
