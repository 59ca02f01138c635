# SPDX-License-Identifier: Apache-2.0
"""Watching a run: online kNN, collapse monitor, pictures, TensorBoard; and branches to anneal."""

from keras_ssl.callbacks._collapse import CollapseThresholds
from keras_ssl.callbacks.anneal_branch import AnnealBranch
from keras_ssl.callbacks.best_encoder import BestEncoder
from keras_ssl.callbacks.embedding_projector import EmbeddingProjector
from keras_ssl.callbacks.map_pictures import MapPictures
from keras_ssl.callbacks.neighbour_pictures import NeighbourPictures
from keras_ssl.callbacks.online_knn import OnlineKNN
from keras_ssl.callbacks.online_probe import OnlineProbe
from keras_ssl.callbacks.prototype_pictures import PrototypePictures
from keras_ssl.callbacks.reconstruction_pictures import ReconstructionPictures
from keras_ssl.callbacks.representation_monitor import CollapseWarning, RepresentationMonitor
from keras_ssl.callbacks.stop_on_collapse import StopOnCollapse
from keras_ssl.callbacks.token_pictures import TokenPictures
from keras_ssl.callbacks.training_board import TrainingBoard
from keras_ssl.callbacks.view_pictures import ViewPictures

__all__ = [
    "AnnealBranch",
    "BestEncoder",
    "CollapseThresholds",
    "CollapseWarning",
    "EmbeddingProjector",
    "MapPictures",
    "NeighbourPictures",
    "OnlineKNN",
    "OnlineProbe",
    "PrototypePictures",
    "ReconstructionPictures",
    "RepresentationMonitor",
    "StopOnCollapse",
    "TokenPictures",
    "TrainingBoard",
    "ViewPictures",
]
