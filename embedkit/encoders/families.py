"""Which family a transformers checkpoint belongs to, and its encoder."""

from __future__ import annotations

import logging
from typing import Any

from embedkit.devices import resolve_device
from embedkit.encoders.checkpoint import read_config
from embedkit.encoders.conv_transformer import FAMILIES, ConvTransformerEncoder
from embedkit.encoders.emotion2vec import Emotion2vecEncoder
from embedkit.encoders.emotion2vec_weights import build_network
from embedkit.encoders.generic import GenericEncoder
from embedkit.encoders.layout import PREPROCESSOR_FILE, PROCESSOR_FILE, Checkpoint, read_settings
from embedkit.encoders.precision import resolve_precision
from embedkit.encoders.pretrained import EncoderRequest, PretrainedEncoder
from embedkit.encoders.sources import find_checkpoint
from embedkit.encoders.whisper import WhisperEncoder
from embedkit.errors import EncoderError

UNFIT = {
    "clap": (
        "its audio tower sees 10 s as a picture, whose patches it merges from layer to layer, so that its states are "
        "no frames over time"
    ),
}
"""Families with an audio encoder that has no layers of frames, and why."""

_logger = logging.getLogger("embedkit")


def load_pretrained(
    name: str,
    source: str,
    *,
    layers: str = "all",
    device: str = "cpu",
    precision: str = "fp32",
    window: str | float = "clip",
    trainable: bool = False,
) -> PretrainedEncoder:
    """Load an encoder from a local folder or file or a Hugging Face id; the family decides how it runs.

    To be trained, it keeps its weights in fp32 whatever the precision of its passes.

    Raises:
        EncoderError: a source, a checkpoint, a device or an option that cannot be used.
    """
    request, emotion2vec, assumed = prepare(
        name, source, layers=layers, device=device, precision=precision, window=window, trainable=trainable
    )
    config = request.config
    encoder: PretrainedEncoder
    if config.model_type == "whisper":
        encoder, taken = WhisperEncoder(request), "Whisper's usual spectrogram"
    elif window != "clip":
        raise EncoderError(
            f"The encoder {name!r} reads every clip as it is; expected the window 'clip', got {window!r} (only Whisper "
            "encoders have a window)."
        )
    elif emotion2vec is not None:
        encoder, taken = Emotion2vecEncoder(request, emotion2vec), ""
    else:
        family = ConvTransformerEncoder if config.model_type in FAMILIES else GenericEncoder
        encoder, taken = family(request), "16 kHz, every clip at zero mean and unit variance (do_normalize)"
    if assumed:
        tell_assumed(request.checkpoint, taken)
    return encoder


def prepare(
    name: str,
    source: str,
    *,
    layers: str,
    device: str,
    precision: str,
    window: str | float = "clip",
    trainable: bool = False,
    with_classifier: bool = False,
) -> tuple[EncoderRequest, Any, bool]:
    """Find a checkpoint and read its settings.

    Returns:
        The request, the network where it is emotion2vec's, and whether it has no settings of a feature extractor.

    Raises:
        EncoderError: as `load_pretrained`.
    """
    place = resolve_device(device)
    resolved = resolve_precision(precision, place)
    checkpoint = find_checkpoint(source, name=name)
    emotion2vec = None if checkpoint.weights is None else build_network(checkpoint, with_classifier=with_classifier)
    config = read_config(checkpoint) if emotion2vec is None else emotion2vec.config
    settings = read_settings(checkpoint.folder) if emotion2vec is None else {}
    if reason := UNFIT.get(config.model_type):
        raise EncoderError(f"The encoder {name!r} is a {config.model_type} model: {reason}; expected another encoder.")
    request = EncoderRequest(
        name=name,
        checkpoint=checkpoint,
        config=config,
        preprocessor=settings or {},
        layers=layers,
        device=place,
        precision=resolved,
        window=window,
        trainable=trainable,
    )
    return request, emotion2vec, settings is None


def tell_assumed(checkpoint: Checkpoint, taken: str) -> None:
    """Say what a checkpoint without settings of a feature extractor is taken to want."""
    _logger.warning(
        "The checkpoint %r has neither %s nor %s, so it is taken to want %s; if it was trained on other input, put "
        "one of the files beside its weights.",
        checkpoint.source,
        PREPROCESSOR_FILE,
        PROCESSOR_FILE,
        taken,
    )
