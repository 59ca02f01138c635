# SPDX-License-Identifier: Apache-2.0
"""Reusable Keras layers and model surgery: heads, batch normalization, encoders."""

from keras_ssl.layers._batch_norm import (
    batch_norm,
    masked_batch_norm,
    synchronize_batch_norm,
    unsynchronized_batch_norms,
)
from keras_ssl.layers._center import Center
from keras_ssl.layers._direct_predictor import DirectPredictor
from keras_ssl.layers._dynamic_alignment import DynamicAlignment
from keras_ssl.layers._encoder import as_encoder
from keras_ssl.layers._hierarchical_decoder import HierarchicalDecoder
from keras_ssl.layers._hyper_linear import HyperLinear
from keras_ssl.layers._kmeans import spherical_kmeans
from keras_ssl.layers._koleo import KoLeo
from keras_ssl.layers._mlp import MLP
from keras_ssl.layers._nested_dropout import NestedDropout
from keras_ssl.layers._pair_gate import PairGate
from keras_ssl.layers._positional_removal import PositionalProjectionRemoval
from keras_ssl.layers._prototype_distance import PrototypeDistance
from keras_ssl.layers._prototype_head import NestedPrototypeHead, PrototypeHead, WeightNorm
from keras_ssl.layers._prototypes import Prototypes
from keras_ssl.layers._prototypical_head import PrototypicalHead
from keras_ssl.layers._queue import Queue
from keras_ssl.layers._reweight import ReweightHead
from keras_ssl.layers._sigreg import SIGReg
from keras_ssl.layers._sinkhorn import SinkhornKnopp
from keras_ssl.layers._sparse_cnn import SparseCNN, masked_call
from keras_ssl.layers._split_batch_norm import SplitBatchNormalization, split_batch_norm
from keras_ssl.layers._split_head import SplitHead
from keras_ssl.layers._tweedie import TweediePosterior

__all__ = [
    "Center",
    "DirectPredictor",
    "DynamicAlignment",
    "HierarchicalDecoder",
    "HyperLinear",
    "KoLeo",
    "MLP",
    "NestedDropout",
    "NestedPrototypeHead",
    "PairGate",
    "PositionalProjectionRemoval",
    "PrototypeDistance",
    "PrototypeHead",
    "Prototypes",
    "PrototypicalHead",
    "Queue",
    "ReweightHead",
    "SIGReg",
    "SinkhornKnopp",
    "SparseCNN",
    "SplitBatchNormalization",
    "SplitHead",
    "TweediePosterior",
    "WeightNorm",
    "as_encoder",
    "batch_norm",
    "masked_batch_norm",
    "masked_call",
    "spherical_kmeans",
    "split_batch_norm",
    "synchronize_batch_norm",
    "unsynchronized_batch_norms",
]
