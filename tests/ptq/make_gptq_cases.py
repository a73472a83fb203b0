#!/usr/bin/env python3
"""Makes gptq_cases.safetensors: GPTQ (Frantar et al., 2022) in numpy, fp64, one column after another.

It follows the paper's own steps (H is inverted, the inverse factorized, no blocks), where Octet factorizes H turned around
and works in blocks; only the quantizer is Octet's, as docs/NUMERICS.md has it, in fp32. No value lies within 1e-9 steps of
where its code would change, so that codes must be identical.

    python3 tests/ptq/make_gptq_cases.py tests/ptq/gptq_cases.safetensors
"""

import json
import sys

import numpy as np
from safetensors.numpy import save_file

F32 = np.float32


def scale_for(span, steps):
    return F32(1) if span == 0 else max(F32(span / F32(steps)), F32(2.0**-100))


class Grid:
    """What a group of fp32 values shares: scale, zero point, minimum."""

    def __init__(self, low, high, bits, mapping):
        self.mapping, self.zero, self.minimum = mapping, 0, F32(0)
        if mapping == "symmetric":
            self.scale = scale_for(high, 127 if bits == 8 else 7.5)
            self.lowest, self.highest = (-127, 127) if bits == 8 else (-8, 7)
        else:
            self.scale = scale_for(F32(high - low), 15)
            self.lowest, self.highest = 0, 15
        if mapping == "zero_point":
            self.zero = int(np.clip(np.rint(F32(-low / self.scale)), 0, 15))
        if mapping == "minimum":
            self.minimum = F32(low)

    def steps(self, x):
        """x in steps from the code 0, before rounding."""
        x = np.asarray(x, F32)
        if self.mapping == "minimum":
            return (F32(0.5) * x - F32(0.5) * self.minimum) * (F32(2) * F32(F32(1) / self.scale))
        return x * F32(F32(1) / self.scale)

    def codes(self, x):
        return np.clip(np.rint(self.steps(x)) + self.zero, self.lowest, self.highest).astype(int)

    def value(self, code):
        return float(self.scale) * (code - self.zero) + float(self.minimum)

    def squared_error(self, x):
        """As a search adds it up: differences in fp32, their squares in fp64, in eight partial sums."""
        if self.mapping == "minimum":  # halves, which rank grids as the whole does
            difference = (F32(0.5) * x - F32(0.5) * self.minimum) - self.codes(x).astype(F32) * (F32(0.5) * self.scale)
        else:
            difference = x - (self.codes(x) - self.zero).astype(F32) * self.scale
        sums = np.zeros(8)
        for i, d in enumerate(difference.astype(F32)):
            sums[i % 8] += float(d) * float(d)
        for width in (4, 2, 1):
            sums[:width] += sums[width : 2 * width]
        return sums[0]


def find_grid(x, case):
    x = np.asarray(x, F32)
    bits, mapping = case["bits"], case["mapping"]
    if mapping == "symmetric":
        low, high = F32(0), np.abs(x).max()
    else:
        low, high = x.min(), x.max()
        if mapping == "zero_point":
            low, high = min(low, F32(0)), max(high, F32(0))
    best = Grid(low, high, bits, mapping)
    if case["range"] == "absmax":
        return best
    least = best.squared_error(x)
    for hundredths in range(99, 49, -1):
        if mapping == "minimum":
            cut = (F32(0.5) * high - F32(0.5) * low) * F32(F32(100 - hundredths) / F32(100))
            grid = Grid(F32(low + cut), F32(high - cut), bits, mapping)
        else:
            share = F32(F32(hundredths) / F32(100))
            grid = Grid(F32(low * share), F32(high * share), bits, mapping)
        error = grid.squared_error(x)
        if error < least:
            least, best = error, grid
    return best


def gptq(weight, inputs, case):
    rows, cols = weight.shape
    width = case["group_size"] or cols
    groups = cols // width
    x = inputs.astype(np.float64)
    hessian = x.T @ x
    diagonal = np.diag(hessian).copy()
    dead = diagonal == 0
    mean = diagonal[~dead].mean()
    hessian[np.diag_indices(cols)] = np.where(dead, mean, diagonal) + case["percdamp"] * mean
    order = np.argsort(-diagonal, kind="stable") if case["act_order"] else np.arange(cols)
    static = case["static_groups"] or case["group_size"] == 0
    inverse = np.linalg.inv(hessian[np.ix_(order, order)])
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T

    w = weight.astype(np.float64)[:, order]
    codes = np.zeros((rows, cols), np.int8)
    grids = [[None] * groups for _ in range(rows)]
    closest = 1.0
    for r in range(rows):
        if static:
            grids[r] = [find_grid(weight[r, g * width : (g + 1) * width], case) for g in range(groups)]
        for i in range(cols):
            group = (order[i] if static else i) // width
            if not static and i % width == 0:
                grids[r][group] = find_grid(w[r, i : i + width].astype(F32), case)
            grid = grids[r][group]
            code = int(grid.codes(w[r, i].astype(F32)))
            # How far the fp64 value is from where its code would change, in steps.
            exact = (w[r, i] - float(grid.minimum)) / float(grid.scale)
            if grid.lowest - grid.zero - 0.5 < exact < grid.highest - grid.zero + 0.5:
                closest = min(closest, abs(exact - np.floor(exact) - 0.5))
            codes[r, order[i]] = code
            error = (w[r, i] - grid.value(code)) / upper[i, i]
            w[r, i + 1 :] -= error * upper[i, i + 1 :]
    # The quantizer's own fp32 can move a tie by some 1e-7 steps, but alike in both implementations; what differs between
    # them is the rounding of fp64.
    assert closest > 1e-9, closest
    out = {
        "codes": codes,
        "scales": np.array([[g.scale for g in row] for row in grids], F32),
        "zero_points": np.array([[g.zero for g in row] for row in grids], np.int8),
        "minima": np.array([[g.minimum for g in row] for row in grids], F32),
        "order": order.astype(np.int32),
    }
    error = weight - np.array(
        [[grids[r][(i if static else int(np.flatnonzero(order == i)[0])) // width].value(codes[r, i]) for i in range(cols)]
         for r in range(rows)]
    )
    w = weight.astype(np.float64)
    hessian = x.T @ x
    out["output_error"] = np.array([np.trace(error @ hessian @ error.T) / np.trace(w @ hessian @ w.T)])
    return out


def main():
    random = np.random.default_rng(20240613)

    def correlated(rows, cols, rank):
        """Inputs as layers see them: strongly correlated, some columns much larger than others."""
        mix = random.standard_normal((rank, cols)) * np.exp(0.7 * random.standard_normal(cols))
        x = random.standard_normal((rows, rank)) @ mix / np.sqrt(rank) + 0.1 * random.standard_normal((rows, cols))
        return x.astype(F32)

    data = {
        "inputs.whole": correlated(200, 64, 20),
        "weight.whole": (0.05 * random.standard_normal((10, 64))).astype(F32),
        "inputs.poor": correlated(9, 64, 9),
        "weight.poor": (0.05 * random.standard_t(3, (6, 64))).astype(F32),
    }
    data["inputs.poor"][:, [0, 5, 33, 63]] = 0
    base = {"bits": 4, "group_size": 32, "mapping": "symmetric", "range": "absmax", "percdamp": 0.01,
            "act_order": False, "static_groups": False, "data": "whole"}  # fmt: skip
    cases = [
        {},
        {"act_order": True},
        {"act_order": True, "static_groups": True},
        {"static_groups": True},
        {"group_size": 0},
        {"group_size": 0, "act_order": True, "range": "mse"},
        {"bits": 8, "group_size": 0},
        {"range": "mse"},
        {"range": "mse", "mapping": "zero_point", "act_order": True},
        {"mapping": "zero_point"},
        {"mapping": "minimum"},
        {"mapping": "minimum", "range": "mse", "act_order": True},
        {"percdamp": 0.5},
        {"data": "poor"},
        {"data": "poor", "act_order": True, "percdamp": 0.1},
        {"data": "poor", "act_order": True, "static_groups": True, "mapping": "zero_point"},
    ]
    cases = [base | case for case in cases]
    for index, case in enumerate(cases):
        for name, value in gptq(data["weight." + case["data"]], data["inputs." + case["data"]], case).items():
            data[f"{index}.{name}"] = value
    save_file(data, sys.argv[1], metadata={"cases": json.dumps(cases)})


main()
