# SPDX-License-Identifier: Apache-2.0
"""Joint-embedding prediction: latents of what is hidden, from what is seen."""

from keras_ssl.models.predictive.act_jepa import ACTJEPA
from keras_ssl.models.predictive.dseq_jepa import DSeqJEPA
from keras_ssl.models.predictive.ecg_jepa import ECGJEPA
from keras_ssl.models.predictive.eeg_vjepa import EEGVJEPA
from keras_ssl.models.predictive.engine import JointEmbeddingPredictive
from keras_ssl.models.predictive.ijepa import IJEPA
from keras_ssl.models.predictive.salt import SALT
from keras_ssl.models.predictive.sar_jepa import SARJEPA
from keras_ssl.models.predictive.seq_jepa import SeqJEPA
from keras_ssl.models.predictive.sparse_jepa import SparseJEPA
from keras_ssl.models.predictive.tjepa import TJEPA
from keras_ssl.models.predictive.vjepa import VJEPA

__all__ = [
    "ACTJEPA",
    "DSeqJEPA",
    "ECGJEPA",
    "EEGVJEPA",
    "IJEPA",
    "JointEmbeddingPredictive",
    "SALT",
    "SARJEPA",
    "SeqJEPA",
    "SparseJEPA",
    "TJEPA",
    "VJEPA",
]
