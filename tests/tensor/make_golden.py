# SPDX-License-Identifier: Apache-2.0
"""Writes golden/: arrays as NumPy writes them, which the tests in this folder read.

    python make_golden.py        (numpy 2.4.6)

A second run writes the same bytes.
"""

import pathlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parent / "golden"


def npy():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(GOLDEN / "f4.npy", array)
    np.save(GOLDEN / "fortran.npy", np.asfortranarray(array))
    np.save(GOLDEN / "big_endian.npy", array.astype(">f4"))
    np.save(GOLDEN / "scalar_i8.npy", np.int64(-5))
    for name, dtype in [("f2", "<f2"), ("f8", "<f8"), ("i4", "<i4"), ("i1", "|i1"), ("u1", "|u1"), ("b1", "|b1")]:
        np.save(GOLDEN / f"{name}.npy", np.array([0, 1, 3]).astype(dtype))
    with open(GOLDEN / "version2.npy", "wb") as file:
        np.lib.format.write_array(file, array, version=(2, 0))
    with open(GOLDEN / "version3.npy", "wb") as file:
        np.lib.format.write_array(file, array, version=(3, 0))


def npz():
    arrays = {"a.{q,k}": np.array(0.5), "a.{q,k}.zero_point": np.int64(3), "b": np.array([0.25], dtype=np.float32)}
    np.savez(GOLDEN / "scales.npz", **arrays)
    np.savez_compressed(GOLDEN / "compressed.npz", **arrays)


if __name__ == "__main__":
    npy()
    npz()
