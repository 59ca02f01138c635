# SPDX-License-Identifier: Apache-2.0
"""Masked modelling: what is hidden is predicted from what is seen."""

from keras_ssl.models.masked.audio_mae import AudioMAE
from keras_ssl.models.masked.cae import CAE
from keras_ssl.models.masked.color_mae import ColorMAE
from keras_ssl.models.masked.crop_mae import CropMAE
from keras_ssl.models.masked.engine import MaskedModeling
from keras_ssl.models.masked.g2sd import G2SD
from keras_ssl.models.masked.gmml import GMML
from keras_ssl.models.masked.hybrid_distillation import HybridDistillation
from keras_ssl.models.masked.lv_mae import LVMAE
from keras_ssl.models.masked.mae import MAE
from keras_ssl.models.masked.mask_align import MaskAlign
from keras_ssl.models.masked.mixed_ae import MixedAE
from keras_ssl.models.masked.position_prediction import PositionPrediction
from keras_ssl.models.masked.signal_mae import SignalMAE
from keras_ssl.models.masked.simmim import SimMIM
from keras_ssl.models.masked.sit import SiT
from keras_ssl.models.masked.spark import SparK
from keras_ssl.models.masked.thorax_mae import ThoraxMAE
from keras_ssl.models.masked.uni4eye import Uni4Eye
from keras_ssl.models.masked.video_mae_v2 import VideoMAEV2

__all__ = [
    "AudioMAE",
    "CAE",
    "ColorMAE",
    "CropMAE",
    "G2SD",
    "GMML",
    "HybridDistillation",
    "LVMAE",
    "MAE",
    "MaskAlign",
    "MaskedModeling",
    "MixedAE",
    "PositionPrediction",
    "SignalMAE",
    "SiT",
    "SimMIM",
    "SparK",
    "ThoraxMAE",
    "Uni4Eye",
    "VideoMAEV2",
]
