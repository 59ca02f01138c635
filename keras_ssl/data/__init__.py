# SPDX-License-Identifier: Apache-2.0
"""Data: load a data set by name into memory and feed it in an order fixed by (seed, epoch)."""

from keras_ssl.data._guided import GuidedOrder, guided_order
from keras_ssl.data._load import load
from keras_ssl.data._pipeline import EpochData, epoch_order, pipeline
from keras_ssl.data._source import Source
from keras_ssl.data._tables import TableSchema, from_dataframe

__all__ = [
    "EpochData",
    "GuidedOrder",
    "Source",
    "TableSchema",
    "epoch_order",
    "from_dataframe",
    "guided_order",
    "load",
    "pipeline",
]
