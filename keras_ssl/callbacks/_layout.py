# SPDX-License-Identifier: Apache-2.0
"""What stands beside what on TensorBoard's page "Custom Scalars"."""

import re
from collections.abc import Iterable

# Categories, their charts, and the tags in a chart; numbers of one chart have one scale.
CHARTS = {
    "Learning": {
        "Losses": r"loss/(?!validation_)",
        "Accuracy": r"quality/(knn|probe|(val_)?.*accuracy)$",
        "RankMe": r"quality/.*rank_me$",
        "Feature std": r"quality/.*feature_std$",
        "Prototypes": r"quality/.*entropy$",
        "Validation": r"loss/validation_",
    },
    "Optimisation": {
        "Learning rate": r"schedule/learning_rate$",
        "Weight decay": r"schedule/weight_decay$",
        "Momentum of teachers": r"schedule/.*momentum$",
        "Temperatures": r"schedule/.*temperature$",
        "Norms of updates": r"update_norm/",
        "Norms of gradients": r"gradient_norm/",
    },
}


def layout(tags: Iterable[str]) -> dict[str, dict[str, str]]:
    """The charts that have something to show.

    Args:
        tags: of scalars.

    Returns:
        `{category: {chart: regular expression}}`, a part of `CHARTS`.
    """
    tags = list(tags)
    found = {
        category: {
            title: pattern
            for title, pattern in charts.items()
            if any(re.match(pattern, tag) for tag in tags)
        }
        for category, charts in CHARTS.items()
    }
    return {category: charts for category, charts in found.items() if charts}


def encoded(charts: dict[str, dict[str, str]]) -> bytes:
    """The summary that tells TensorBoard of a layout, serialised.

    Args:
        charts: of `layout`.
    """
    from tensorboard.plugins.custom_scalar import layout_pb2, summary

    categories = [
        layout_pb2.Category(
            title=category,
            chart=[
                layout_pb2.Chart(
                    title=title, multiline=layout_pb2.MultilineChartContent(tag=[pattern])
                )
                for title, pattern in own.items()
            ],
        )
        for category, own in charts.items()
    ]
    return summary.pb(layout_pb2.Layout(category=categories)).SerializeToString()
