# SPDX-License-Identifier: Apache-2.0
"""Adapter of what deep linear networks learn."""

from __future__ import annotations

from keras_ssl.evaluation import deep_linear_learning


def _deep_linear(inputs, meta):
    covariance, regression = inputs["in_pairs"].T
    return {
        name: deep_linear_learning(
            option["model"], option["depth"], covariance, regression, inputs["in_t"], meta["u0"]
        )
        for name, option in meta["options"].items()
    }


CASES = {"jepa_deep_linear": _deep_linear}
