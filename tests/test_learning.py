# SPDX-License-Identifier: Apache-2.0
"""Every objective learns on real images, at fixed steps."""

import pytest
import quality

# kNN gain of SimCLR over its random encoder in this setting, by benchmarks/quality.py.
SIMCLR_GAIN = 0.2155
WHOLE = ("SimCLR", "BYOL", "SimSiam", "BarlowTwins", "VICReg")
# A quarter of the steps shows that the others learn; the benchmark runs all of them.
SHORT = tuple(name for name in quality.SETTINGS if name not in WHOLE)
SHORT_STEPS = 150
# Three standard errors of a difference between two shares of 2,000 test images.
NOTICEABLE = 0.036


@pytest.mark.slow
@pytest.mark.parametrize("method", WHOLE)
def test_it_learns_on_cifar(method, data_dir):
    source = quality.load("tfds:cifar10", str(data_dir / "tfds"))
    found = quality.run(method, source, seed=0)
    wanted = SIMCLR_GAIN if method == "SimCLR" else SIMCLR_GAIN / 2
    # A tenth for other hardware, on which the same seeds round differently.
    assert found["gain"] >= 0.9 * wanted, found
    assert found["rank_me"] >= 256 / 10, found


@pytest.mark.slow
@pytest.mark.parametrize("method", SHORT)
def test_it_learns_a_little_in_few_steps(method, data_dir):
    source = quality.load("tfds:cifar10", str(data_dir / "tfds"))
    found = quality.run(method, source, seed=0, steps=SHORT_STEPS)
    assert found["gain"] >= NOTICEABLE, found
    assert found["rank_me"] >= 256 / 10, found
