# SPDX-License-Identifier: Apache-2.0
"""Activation ranges computed from all values at once with numpy, which range_estimator_test.cpp compares with.

    python tests/quant/make_range_golden.py > tests/quant/range_golden.json

The values are functions of a linear congruential generator by exact operations, so that the test makes the same ones.
"""
import json

import numpy as np

COUNT = 20000
BINS = 2048


def normals():
    """COUNT sums of twelve numbers in [0, 1), less 6: nearly normal, and exact in double."""
    state, out = 1, []
    for _ in range(COUNT):
        total = 0.0
        for _ in range(12):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            total += (state >> 40) / 2**24
        out.append(total - 6)
    return np.array(out)


def data():
    n = normals()
    outliers = n.copy()
    outliers[::1000] *= 40
    return {
        "normal": n,
        "heavy tails": n * n * n,
        "outliers": outliers,
        "relu": np.maximum(n, 0),
        "leaky": np.where(n > 0, n, n * 0.125),
    }


def relative_error(x, step, low, high):
    codes = np.clip(np.rint(x / step), low, high)
    return float(np.sqrt(np.sum((x - codes * step) ** 2) / np.sum(x**2)))


def symmetric_mse(x):
    """The least error of limits 0.1 % apart, down to a thousandth of the largest magnitude."""
    largest = np.max(np.abs(x))
    limits = largest * 0.999 ** np.arange(6905)
    errors = [relative_error(x, limit / 127, -127, 127) for limit in limits]
    return min(errors)


def entropy(x, levels):
    """Migacz, "8-bit inference with TensorRT" (GTC 2017), word for word; zeros left out."""
    magnitudes = np.abs(x[x != 0])
    largest = magnitudes.max()
    counts, _ = np.histogram(magnitudes, bins=BINS, range=(0, largest))
    counts = counts.astype(np.float64)
    divergences = {}
    for n in range(levels, BINS + 1):
        p = counts[:n].copy()
        p[-1] += counts[n:].sum()
        q = np.zeros(n)
        level = np.arange(n) * levels // n
        for k in range(levels):
            of_level = (level == k) & (counts[:n] > 0)
            if of_level.any():
                q[of_level] = counts[:n][level == k].sum() / of_level.sum()
        if q.sum() == 0 or (q[p > 0] == 0).any():
            continue
        p, q = p / p.sum(), q / q.sum()
        held = p > 0
        divergences[n] = float(np.sum(p[held] * np.log(p[held] / q[held])))
    best = min(divergences, key=lambda n: (divergences[n], n))
    near = [n for n in divergences if divergences[n] <= 1.05 * divergences[best]]
    return {
        "threshold": float(min((best + 0.5) * largest / BINS, largest)),
        "lowest within 5 %": float((min(near) - 0.5) * largest / BINS),
        "highest within 5 %": float(min((max(near) + 1.5) * largest / BINS, largest)),
    }


def main():
    out = {}
    for name, exact in data().items():
        x = exact.astype(np.float32).astype(np.float64)
        low, high = min(0.0, x.min()), max(0.0, x.max())
        largest = max(-low, high)
        percentiles = {}
        for p in (99, 99.9, 99.99, 99.9999):
            percentiles[str(p)] = {
                "magnitude": float(np.percentile(np.abs(x), p)),
                "low": float(np.percentile(x, 100 - p)),
                "high": float(np.percentile(x, p)),
            }
        out[name] = {
            "low": float(low),
            "high": float(high),
            "error of minmax": relative_error(x, largest / 127, -127, 127),
            "least error": symmetric_mse(x),
            "percentiles": percentiles,
            "entropy": entropy(x, 128),
            "entropy of 256": entropy(x, 256) if low == 0 else None,
        }
    print(json.dumps(out, indent=1))


main()
