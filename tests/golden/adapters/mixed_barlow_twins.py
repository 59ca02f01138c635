# SPDX-License-Identifier: Apache-2.0
"""Mixed Barlow Twins."""

from __future__ import annotations

from adapters.common import run

from keras_ssl import losses


def _mixed_barlow_twins(arrays: dict, meta: dict) -> dict:
    def terms(x):
        return losses.mixed_barlow_twins(
            x["in_z1"],
            x["in_z2"],
            x["in_zm"],
            arrays["in_perm"],
            meta["alpha"],
            lambd=meta["lambd"],
            mix_scale=meta["mixup_loss_scale"],
            variance=meta["variance"],
            epsilon=meta["eps"],
        )

    outputs = {
        "out_loss_bt": lambda x: terms(x)["barlow_twins"],
        "out_loss_mix": lambda x: terms(x)["mixed"],
        "out_loss": lambda x: sum(terms(x).values()),
    }
    return run(arrays, meta, outputs)


CASES = {"mixed_barlow_twins": _mixed_barlow_twins}
