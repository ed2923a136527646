"""The benchmark of the networks itself, on tiny ones: what its figures are made of."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.backends import tiny_lama
from tests.bench import counting, gpu, gpu_networks


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
