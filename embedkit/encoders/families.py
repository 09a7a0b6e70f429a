"""Which family a transformers checkpoint belongs to, and its encoder."""

from __future__ import annotations

from embedkit.devices import resolve_device
from embedkit.encoders.checkpoint import read_config, read_preprocessor
from embedkit.encoders.conv_transformer import FAMILIES, ConvTransformerEncoder
from embedkit.encoders.generic import GenericEncoder
from embedkit.encoders.precision import resolve_precision
from embedkit.encoders.pretrained import EncoderRequest, PretrainedEncoder
from embedkit.encoders.sources import find_checkpoint
from embedkit.encoders.whisper import WhisperEncoder
from embedkit.errors import EncoderError


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
    """Load an encoder from a local folder or a Hugging Face id; the family decides how it runs.

    To be trained, it keeps its weights in fp32 whatever the precision of its passes.

    Raises:
        EncoderError: a source, a checkpoint, a device or an option that cannot be used.
    """
    place = resolve_device(device)
    resolved = resolve_precision(precision, place)
    checkpoint = find_checkpoint(source, name=name)
    config = read_config(checkpoint)
    request = EncoderRequest(
        name=name,
        checkpoint=checkpoint,
        config=config,
        preprocessor=read_preprocessor(checkpoint),
        layers=layers,
        device=place,
        precision=resolved,
        window=window,
        trainable=trainable,
    )
    if config.model_type == "whisper":
        return WhisperEncoder(request)
    if window != "clip":
        raise EncoderError(
            f"The encoder {name!r} reads every clip as it is; expected the window 'clip', got {window!r} (only Whisper "
            "encoders have a window)."
        )
    return ConvTransformerEncoder(request) if config.model_type in FAMILIES else GenericEncoder(request)
