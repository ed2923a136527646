"""Picture quality against a known truth."""

from __future__ import annotations

import cv2
import numpy as np

from bglora.vision.arrays import F32, Bool, gray

CAP_DB = 99.0


def psnr_db(picture: np.ndarray, truth: np.ndarray, where: Bool | None = None) -> float:
    """Peak signal to noise ratio in dB (peak 255, all channels), inside `where` or everywhere; at most 99."""
    difference = picture.astype(np.float32) - truth.astype(np.float32)
    if where is not None:
        difference = difference[where]
    if difference.size == 0:
        return CAP_DB
    error = float(np.mean(difference.astype(np.float64) ** 2))
    return CAP_DB if error < 1e-9 else min(CAP_DB, float(10 * np.log10(65025.0 / error)))


def ssim_map(picture: np.ndarray, truth: np.ndarray) -> F32:
    """Structural similarity of luma per pixel, -1 to 1, float32 (H, W) (Wang 2004; 11 x 11 window, sigma 1.5)."""
    a, b = gray(picture), gray(truth)

    def mean(values: F32) -> F32:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5), np.float32)

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return np.asarray((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)), np.float32)


def ssim(picture: np.ndarray, truth: np.ndarray, where: Bool | None = None) -> float:
    """Mean of `ssim_map`, inside `where` or over the whole picture."""
    values = ssim_map(picture, truth)
    return float(values.mean() if where is None else values[where].mean())
