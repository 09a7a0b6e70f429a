"""wav2vec 2.0, HuBERT, WavLM and their relatives: a convolutional front end and transformer layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from embedkit.devices import takes_clips_alone
from embedkit.encoders.base import LAST_STATE, UNNORMED_STATE, LayerSink, select_layers
from embedkit.encoders.checkpoint import load_model
from embedkit.encoders.device_copies import clips_on
from embedkit.encoders.exact import ConvStack, PositionalConv, attention_bias, centre, padding_mask, silence
from embedkit.encoders.kernels import pack_linears
from embedkit.encoders.pretrained import EncoderRequest, PretrainedEncoder
from embedkit.encoders.wavlm import position_bias, run_layer

FAMILIES = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio")

VARIANCE_FLOOR = 1e-7
NEVER = -1


class ConvTransformerEncoder(PretrainedEncoder):
    """A model over waveforms whose batches are exact: group norms, positional convolution and attention never see
    padding.

    Layer 0 is the input of the first transformer layer. In models with `do_stable_layer_norm` only the last layer
    has passed the final norm (transformers' `last_hidden_state`).

    Papers: Baevski et al., "wav2vec 2.0", NeurIPS 2020; Hsu et al., "HuBERT", TASLP 2021; Chen et al., "WavLM",
    JSTSP 2022.
    """

    reentrant = True
    last_state = LAST_STATE
    # Longer than utterances are; an hour at once would take some 50 GB.
    default_max_seconds = 60.0
    variance_floor = VARIANCE_FLOOR
    ahead = 0
    """Positions before the first frame, which no layer hands over."""

    def __init__(self, request: EncoderRequest, model: Any = None) -> None:
        config = request.config
        if model is None:
            model = load_model(request.checkpoint, config)
        super().__init__(request, model)
        self.layers = select_layers(request.layers, config.num_hidden_layers)
        self.dimensions = config.hidden_size
        self.normalised = bool(request.preprocessor.get("do_normalize", True))
        if config.model_type == "data2vec-audio" and getattr(config, "do_stable_layer_norm", False):
            # Before, such models ran with the norms of a variant that transformers does not have.
            self.algorithm = 2
        self.final_norm_at = config.num_hidden_layers if norms_first(config) else None

        model.to(self.device)
        trainable = request.trainable
        self._convolutions = ConvStack(model.feature_extractor.conv_layers, self.dtype, trainable=trainable)
        self._positions = PositionalConv(model.encoder.pos_conv_embed, self.dtype, trainable=trainable)
        self._projection = model.feature_projection.to(self.dtype)
        self._norm = model.encoder.layer_norm.to(self.dtype)
        self._dropout = model.encoder.dropout
        self._filling = getattr(model, "masked_spec_embed", None)
        self._transformer = nn.ModuleList(model.encoder.layers[: self.layers[-1]]).to(self.dtype)
        self.linear_kernel = "torch"
        if self.device.type == "cpu" and not trainable:
            pack_linears(self._projection)
            self.linear_kernel = pack_linears(self._transformer)
        self.smallest_input = self._convolutions.smallest_input()
        self.frame_rate = self.sampling_rate / self._convolutions.hop()

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        normalisation = "zero mean and unit variance per clip" if self.normalised else "none"
        own = {"normalisation": normalisation, "linear_kernel": self.linear_kernel, "last_layer": self.last_state}
        return super().identity() | own

    def frame_count(self, samples: int) -> int:
        """Return how many frames a clip of so many samples has, after padding to `smallest_input`."""
        return self._convolutions.frames(max(samples, self.smallest_input))

    def leave_last_unnormed(self) -> None:
        """Hand over the last layer as transformers' `hidden_states[-1]`, before the final norm of some models."""
        self.last_state = UNNORMED_STATE
        if self.final_norm_at is not None:
            self.final_norm_at = NEVER

    def _run(self, clips: list[Tensor], sink: LayerSink) -> None:
        samples = [len(clip) for clip in clips]
        alone = takes_clips_alone(self.device)
        if self.normalised and alone:
            clips = [normalise(clip, self.variance_floor) for clip in clips]
        batch = clips_on(clips, self.device)
        if self.normalised and not alone:
            batch = normalise_batch(batch, samples, self.variance_floor)
        features, lengths = self._convolutions(batch, samples)
        padding = padding_mask(lengths, features.shape[1], self.device)
        own = torch.tensor(lengths)
        hidden = self._embed(features, lengths, padding)
        kept = {layer: position for position, layer in enumerate(self.layers)}
        if 0 in kept:
            sink(0, hidden[:, self.ahead :].float(), own)
        keys = self._attention_bias(padding, features.shape[1])
        positions = position_bias(self._transformer, hidden.shape[1]) if self.family == "wavlm" else None
        for number, layer in enumerate(self._transformer, start=1):
            if positions is None:
                hidden = self._through(layer, hidden, keys, trained=layer.training)
            else:
                run = partial(run_layer, layer, norm_first=self.final_norm_at is not None)
                hidden = self._through(run, hidden, positions, keys, trained=layer.training)
            if number in kept:
                normed = self._norm(hidden) if number == self.final_norm_at else hidden
                sink(kept[number], normed[:, self.ahead :].float(), own)

    def _attention_bias(self, padding: Tensor | None, frames: int) -> Tensor | None:
        """Return what is added to attention scores in every layer; None for nothing."""
        return attention_bias(padding, self.dtype)

    def _embed(self, features: Tensor, lengths: Sequence[int], padding: Tensor | None) -> Tensor:
        projected = self._projection(features)
        hidden = projected[0] if isinstance(projected, tuple) else projected
        if self.masking is not None and self._learning:
            hidden = self.masking(hidden, lengths, self._filling)
        hidden = silence(hidden, padding)
        hidden = hidden + self._positions(hidden, padding)
        embedded: Tensor = self._dropout(hidden if self.final_norm_at is not None else self._norm(hidden))
        return embedded


def norms_first(config: Any) -> bool:
    """Tell whether layers norm their input and the encoder its output; transformers' data2vec has no such variant."""
    return bool(getattr(config, "do_stable_layer_norm", False)) and config.model_type != "data2vec-audio"


def normalise(clip: Tensor, floor: float = VARIANCE_FLOOR) -> Tensor:
    """Bring a clip `[samples]` to zero mean and unit variance, as transformers' feature extractors do."""
    variance, mean = torch.var_mean(clip.double(), correction=0)
    return ((clip - mean) / torch.sqrt(variance + floor)).float()


def normalise_batch(batch: Tensor, samples: Sequence[int], floor: float = VARIANCE_FLOOR) -> Tensor:
    """Do what `normalise` does for each clip of a padded batch `[clips, samples]`, all at once."""
    _, centred, count = centre(batch, samples)
    variance = centred.square().sum(1, keepdim=True) / count
    return (centred / torch.sqrt(variance + floor)).float().to(batch.device)
