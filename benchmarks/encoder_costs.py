"""What an hour of speech costs in each family of encoders, at its published size with random weights.

    python benchmarks/encoder_costs.py [--only NAME...] [--seconds S]

On the CPU: processor time of `encode` on one thread, over noise in clips of 1 to 6 s, in the batches that `extract`
makes; passes run side by side on cores, so the clock is that divided by the cores. Work: the multiplications and
additions of the trained network on the same clips, as PyTorch's counter sees them. On an H100: that work at 40 % of the
700 TFLOP/s which large bf16 products reach there; computed, never measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from common import LARGE, describe_machine, show_table
from emotion2vec import SIZES as EMOTION2VEC
from generic_encoders import RATE, utterances
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
from embedkit.encoders import ACOUSTIC, load_encoder
from embedkit.encoders.base import Encoder
from embedkit.extraction.batches import batch_clips
from tests.encoders.emotion2vec import random_weights, write_published

BATCH_SECONDS = 12.0
H100 = 0.4 * 700e12
"""Operations a second: 40 % of what large products in bf16 reach (`gpu/`)."""

WAV2VEC2, WHISPER = "Wav2Vec2FeatureExtractor", "WhisperFeatureExtractor"
BERT = "SeamlessM4TFeatureExtractor"


def _whisper(width: int, layers: int, heads: int, bands: int = 80) -> dict[str, Any]:
    """Return the settings of one of Whisper's sizes; of the decoder, which is not run, one layer."""
    return {
        "d_model": width,
        "encoder_layers": layers,
        "encoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * width,
        "decoder_layers": 1,
        "decoder_attention_heads": heads,
        "num_mel_bins": bands,
        "vocab_size": 100,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "decoder_start_token_id": 1,
    }


CHECKPOINTS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "wav2vec2, hubert: base": ("Hubert", WAV2VEC2, {}),
    "wav2vec2, hubert: large": ("Hubert", WAV2VEC2, LARGE),
    "distilhubert": ("Hubert", WAV2VEC2, {"num_hidden_layers": 2}),
    "wavlm: base": ("WavLM", WAV2VEC2, {}),
    "wavlm: large": ("WavLM", WAV2VEC2, LARGE),
    "unispeech-sat: base": ("UniSpeechSat", WAV2VEC2, {}),
    "data2vec-audio: base": (
        *("Data2VecAudio", WAV2VEC2),
        {"feat_extract_norm": "layer", "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19},
    ),
    "whisper: tiny": ("Whisper", WHISPER, _whisper(384, 4, 6)),
    "whisper: base": ("Whisper", WHISPER, _whisper(512, 6, 8)),
    "whisper: small": ("Whisper", WHISPER, _whisper(768, 12, 12)),
    "whisper: medium": ("Whisper", WHISPER, _whisper(1024, 24, 16)),
    "whisper: large": ("Whisper", WHISPER, _whisper(1280, 32, 20, 128)),
    "w2v-bert-2.0": ("Wav2Vec2Bert", BERT, {}),
    "wav2vec2-conformer: large": (
        *("Wav2Vec2Conformer", WAV2VEC2),
        {**LARGE, "position_embeddings_type": "relative"},
    ),
    "parakeet-ctc: 1.1b": ("ParakeetEncoder", "ParakeetFeatureExtractor", {"num_hidden_layers": 42}),
    "nemotron-asr-streaming": ("NemotronAsrStreamingEncoder", "NemotronAsrStreamingFeatureExtractor", {}),
    "lasr-ctc": ("LasrForCTC", "LasrFeatureExtractor", {}),
    "omniasr-ctc": ("OmniASRForCTC", "OmniASRFeatureExtractor", {}),
    "voxtral": ("VoxtralEncoder", WHISPER, {"num_mel_bins": 128}),
    "moonshine: base": (
        *("Moonshine", WAV2VEC2),
        {
            "hidden_size": 416,
            "intermediate_size": 1664,
            "encoder_num_hidden_layers": 8,
            "decoder_num_hidden_layers": 1,
            "do_normalize": False,
        },
    ),
    "speech_to_text: small": ("Speech2Text", "Speech2TextFeatureExtractor", {"decoder_layers": 1}),
    "sew: tiny": ("SEW", WAV2VEC2, {}),
    "sew-d: tiny": ("SEWD", WAV2VEC2, {}),
    "audio-spectrogram-transformer": ("AST", "ASTFeatureExtractor", {}),
}


def write_checkpoint(folder: Path, kind: str, extractor: str, settings: Mapping[str, Any]) -> str:
    """Write a model of transformers with random weights, and its feature extractor."""
    name = kind if kind.endswith(("Encoder", "ForCTC")) else f"{kind}Model"
    config = getattr(transformers, f"{kind.replace('ForCTC', 'CTC')}Config")(**settings)
    bands = {"feature_size": settings["num_mel_bins"]} if "num_mel_bins" in settings else {}
    own = {"feature_size": 80, "num_mel_bins": 80, "stride": 2} if extractor == BERT else bands
    torch.manual_seed(0)
    getattr(transformers, name)(config).save_pretrained(folder)
    getattr(transformers, extractor)(**own).save_pretrained(folder)
    return str(folder)


def time_passes(encoder: Encoder, batches: list[list[torch.Tensor]]) -> float:
    """Return the seconds of the processor that the passes take, after one that warms up."""

    def sink(position: int, values: torch.Tensor, lengths: torch.Tensor) -> None:
        for row, length in zip(values, lengths.tolist(), strict=True):
            row[:length].mean(0)

    encoder.encode(batches[-1], sink)
    started = time.process_time()
    for batch in batches:
        encoder.encode(batch, sink)
    return time.process_time() - started


def count_operations(encoder: Encoder, batches: list[list[torch.Tensor]]) -> float:
    """Return the multiplications and additions of the passes of an encoder whose products PyTorch does itself."""
    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            encoder.encode(batch, lambda position, values, lengths: None)
    return float(counter.get_total_flops())


def measure(name: str, seconds: float) -> list[str]:
    """Measure one encoder: size, work, processor time in fp32 and bf16, and what a card would take."""
    clips = utterances(seconds)
    audio = sum(map(len, clips)) / RATE
    with tempfile.TemporaryDirectory() as place:
        if name in ACOUSTIC:
            source = name
        elif name.startswith("emotion2vec"):
            weights = random_weights(*EMOTION2VEC[name.partition(": ")[2]], channels=512)
            source = str(write_published(Path(place) / "model.pt", weights).parent)
        else:
            source = write_checkpoint(Path(place), *CHECKPOINTS[name])

        def load(**options: Any) -> tuple[Encoder, list[list[torch.Tensor]]]:
            encoder = load_encoder(source, **options)
            length: Callable[[torch.Tensor], int] = len
            return encoder, [list(batch) for batch in batch_clips(clips, length, _longest(encoder))]

        hour = 60 / audio
        plain = _minutes(time_passes(*load()) * hour)
        if name in ACOUSTIC:
            return [name, "-", "-", plain, "-", "-"]
        half = _minutes(time_passes(*load(precision="bf16")) * hour)
        encoder, batches = load(trainable=True)
        operations = count_operations(encoder, batches) * 3600 / audio
        millions = sum(weight.numel() for weight in encoder.network.parameters()) / 1e6
        return [name, f"{millions:.0f}", f"{operations / 1e12:.0f}", plain, half, f"{operations / H100:.2f}"]


def _minutes(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _longest(encoder: Encoder) -> float:
    """Return how many samples a batch holds: those of one clip where batches are of one length."""
    return 1 if encoder.equal_lengths else BATCH_SECONDS * RATE


def main() -> None:
    """Print a line for each encoder as it comes, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["mfcc", "logmel", *CHECKPOINTS, *(f"emotion2vec: {size}" for size in EMOTION2VEC)]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--seconds", type=float, default=10.0, help="of noise")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    rows = []
    for name in options.only:
        rows.append(measure(name, options.seconds))
        print(*rows[-1], sep=" | ", flush=True)
    columns = ["encoder", "M weights", "TFLOP", "fp32, min of one core", "bf16, min of one core", "H100, s (computed)"]
    show_table(f"An hour of speech; {describe_machine()}", columns, rows)


if __name__ == "__main__":
    main()
