# SPDX-License-Identifier: Apache-2.0
"""One pre-training run: its settings, its folder, its checkpoints and its report.

The command line is a thin layer over `pretrain` and `compare`; a program may call them as well.
"""

from keras_ssl.run.comparison import compare
from keras_ssl.run.folder import RunFolder
from keras_ssl.run.report import evaluate_run, format_table
from keras_ssl.run.settings import Settings, resolve
from keras_ssl.run.training import pretrain

__all__ = [
    "RunFolder",
    "Settings",
    "compare",
    "evaluate_run",
    "format_table",
    "pretrain",
    "resolve",
]
