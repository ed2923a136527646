"""The benchmark of the networks itself, on tiny ones: what its figures are made of."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch

from tests.backends import tiny_lama
from tests.bench import counting, gpu, gpu_networks, gpu_training


def test_a_line_tells_rate_ratio_and_share_of_the_peak() -> None:
    row = gpu.Measured("a", each=0.5, memory_gb=1.25, flop=1e9, plain=1.0).row(peak=4e9)
    assert row == ["a", "2.00", "0.5000", "2.00", "50%", "1.25"]
    assert gpu.Measured("left out", 0.0).row(4e9)[1:] == ["–"] * 5


def test_lama_is_measured_beside_the_loop_and_fills_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = tiny_lama.generator(1)
    monkeypatch.setattr(tiny_lama, "generator", lambda *_, **__: tiny)
    scale = replace(gpu.SHORT, lama=(64, 96), batches=(1, 2), pictures=3)
    loop, *ours = gpu_networks.MEASURES["lama"](scale)
    assert [one.plain for one in ours] == [loop.each] * 2 and not loop.plain
    assert all(one.each > 0 and one.memory_gb > 0 and one.flop > 1e9 for one in (loop, *ours))
    assert "differs from it by 0 of 255" in ours[0].what or "differs from it by 1 of 255" in ours[0].what


def test_memory_at_work_is_what_lives_at_once_beside_the_weights() -> None:
    with torch.device("meta"):
        net = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(4)))
    # A layer's input and output: the one before has gone. Views of weights are not counted.
    seen = torch.empty(1024, 256, device="meta")
    assert counting.at_work(lambda: net(seen), net) == 2 * seen.nbytes
    assert counting.at_work(lambda: net[0].weight.t() @ net[1].weight, net) == 256 * 256 * 4
    assert counting.weights(net, net[0]) == 4 * (256 * 256 + 256) * 4


def test_a_line_of_the_training_table_tells_what_was_asked_for() -> None:
    case = gpu_training.Case(1024, 1, 128)
    own, other = gpu_training.Side(0.06, 13.0, (1.0, 2.0), "yes"), gpu_training.Side(0.12, 20.0, (1.0, 2.002))
    head = dict(zip(gpu_training.HEAD, gpu_training.Line(case, own, other, 12.5, 16e12).row(790e12), strict=True))
    assert head["bglora ms"] == "**60.00 ✗ (55)**" and head["plain loop ms"] == "120.0"
    assert (head["plain / bglora"], head["floor ms"], head["of the matrix peak"]) == ("2.00", "20.6", "34%")
    assert (head["bglora GB"], head["counted GB"], head["first losses differ"]) == ("13.00", "12.50", "1e-03")
    small = gpu_training.Case(1024, 1, 32, True, "nf4")
    line = gpu_training.Line(small, gpu_training.Side(1.0, 9.0, (1.0,)), gpu_training.Side(), 7.0, 1e12)
    head = dict(zip(gpu_training.HEAD, line.row(1e12), strict=True))
    assert head["bglora GB"] == "**9.00 ✗ (8)**" and head["plain loop ms"] == head["plain / bglora"] == "–"
    left_out = gpu_training.Line(small, gpu_training.Side(why="does not fit"), gpu_training.Side(), 7.0, 1e12).row(1e12)
    assert left_out[1] == "–" and "does not fit" in left_out


def test_cases_cover_what_the_table_is_for() -> None:
    full = list(gpu_training.cases(False))
    assert {(one.side, one.batch, one.dim, one.checkpointing) for one in full} >= {
        (side, batch, dim, again)
        for side in (512, 1024)
        for batch in (1, 4)
        for dim in (16, 128)
        for again in (False, True)
    }
    assert {one.quantization for one in full if one.most_gb == 8.0} == {"int8", "nf4"}
    line = gpu_training.Line(full[0], gpu_training.Side(1.0, 2.0, (3.0,)), gpu_training.Side(), 4.0, 5.0)
    assert gpu_training.line_of(json.dumps(asdict(line))) == line
