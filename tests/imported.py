"""What commands import, all at once."""

import librosa.feature
import sklearn.linear_model  # noqa: F401

import embedkit.cli
import embedkit.extraction.run
import embedkit.training.train
import embedkit.workflows.extract
import embedkit.workflows.fit  # noqa: F401
from embedkit.libraries import load_transformers

# Found on the first use alone.
assert librosa.feature.mfcc
for name in ("AutoModel", "AutoFeatureExtractor", "PreTrainedModel", "Wav2Vec2Model"):
    load_transformers(name)
