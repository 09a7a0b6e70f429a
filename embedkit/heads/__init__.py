"""Heads: small networks from embeddings to class scores, one file each."""

from embedkit.registry import Part, Registry

HEADS = Registry(
    "head",
    [
        ("linear", Part("embedkit.heads.linear:LinearHead", "learned layer weights, then one affine layer")),
        ("superb", Part("embedkit.heads.superb:SuperbHead", "SUPERB's emotion head: layer weights, projection, mean")),
        ("mlp", Part("embedkit.heads.mlp:MlpHead", "learned layer weights, then hidden layers with dropout")),
        ("attentive", Part("embedkit.heads.attentive:AttentiveHead", "attentive statistics pooling over frames")),
        ("lstm", Part("embedkit.heads.lstm:LstmHead", "the study's LSTM over frames")),
        ("cnn", Part("embedkit.heads.cnn:CnnHead", "the study's VGG-style network over log-mel frames")),
    ],
)
