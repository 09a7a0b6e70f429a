"""emotion2vec against FunASR's own model with the same random weights: frames, and seconds for a stretch of speech.

    pip install --no-deps funasr omegaconf antlr4-python3-runtime==4.9.3 torch-complex kaldiio
    python benchmarks/emotion2vec.py CORPUS

FunASR (Emotion2vec.extract_features, as its inference calls it) takes one clip after another in fp32 and gives the
last layer, on all threads and on one: threads that wait for each other lose most beside other work. embedkit extracts
the mean and standard deviation of all 13 layers into a store, one pass on each core. Both read the same files; all ways
alternate, and medians are shown. CPU seconds count waiting threads as well.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import soundfile
import torch
from common import Extraction, describe_machine, show_table, spread_corpus
from torch.nn.functional import layer_norm

from embedkit.corpora import Corpus
from embedkit.encoders import load_encoder
from embedkit.kernels import using_threads

SIZES = {"base": (768, 12), "large": (1024, 16)}


def main() -> None:
    """Compare frames, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--seconds", type=float, default=100.0, help="of speech, spread over the corpus")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    corpus = shorten(options.corpus, options.seconds)
    paths = [corpus.audio_path(utterance) for utterance in corpus.utterances]
    clips = [soundfile.read(path, dtype="float32")[0] for path in paths]
    duration = sum(map(len, clips)) / 16_000
    with tempfile.TemporaryDirectory() as folder:
        peer = build_peer(*SIZES[options.size])
        weights = Path(folder) / "emotion2vec" / "model.pt"
        weights.parent.mkdir()
        torch.save({"model": peer.state_dict()}, weights)
        title = f"{options.size}, {len(clips)} utterances of {corpus.name}, {duration:.0f} s; {describe_machine()}"
        precisions = ("fp32", "bf16")
        compare(peer, str(weights.parent), [torch.from_numpy(clip) for clip in clips], precisions, title)
        threads = torch.get_num_threads()
        ways: dict[str, Callable[[], Any]] = {
            f"FunASR, fp32, clip by clip, threads: {number}": partial(run_peer, peer, paths, number)
            for number in sorted({threads, 1}, reverse=True)
        }
        for precision in precisions:
            work = Path(folder) / precision
            work.mkdir()
            extraction = Extraction(corpus, str(weights.parent), work, precision)
            ways[f"embedkit, {precision}, extract"] = extraction.run
            ways[f"embedkit, {precision}, its passes alone"] = partial(extraction.repeat_passes, threads)
        seconds = alternate(ways, options.repeats)
    first, *_ = seconds.values()
    rows = []
    for name, times in seconds.items():
        wall, processor = (statistics.median(part) for part in zip(*times, strict=True))
        ratio = statistics.median(theirs[0] / own[0] for theirs, own in zip(first, times, strict=True))
        spread = f"{min(times)[0]:.1f} to {max(times)[0]:.1f}"
        rows.append([name, f"{wall:.1f}", spread, f"{processor:.1f}", f"{duration / wall:.1f}", f"{ratio:.2f}"])
    columns = ["", "s, median", "s", "CPU s", "x real time", "to FunASR"]
    show_table(f"{title}; {options.repeats} rounds", columns, rows)


def shorten(path: str, seconds: float) -> Corpus:
    """Take as many utterances, evenly spread, as make so many seconds."""
    whole = spread_corpus(path, None)
    durations = [soundfile.info(whole.audio_path(utterance)).duration for utterance in whole.utterances]
    return spread_corpus(whole, round(seconds / (sum(durations) / len(durations))))


def build_peer(dimensions: int, heads: int) -> Any:
    """Build FunASR's model in the settings of emotion2vec's configuration, with random weights in every part."""
    from funasr.models.emotion2vec.model import Emotion2vec

    audio = {
        "type": "AUDIO",
        "prenet_depth": 4,
        "prenet_layerdrop": 0.05,
        "prenet_dropout": 0.1,
        "start_drop_path_rate": 0.0,
        "end_drop_path_rate": 0.0,
        "num_extra_tokens": 10,
        "init_extra_token_zero": True,
        "use_alibi_encoder": True,
        "alibi_scale": 1.0,
        "learned_alibi": False,
        "learned_alibi_scale": True,
        "learned_alibi_scale_per_head": True,
        "learned_alibi_scale_per_layer": False,
        "num_alibi_heads": heads,
        "model_depth": 8,
        "extractor_mode": "layer_norm",
        "feature_encoder_spec": "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2",
        "conv_pos_width": 95,
        "conv_pos_groups": 16,
        "conv_pos_depth": 5,
        "conv_pos_pre_ln": False,
        "local_grad_mult": 1.0,
        "ema_local_encoder": False,
        "decoder": None,
    }
    settings = {
        "depth": 8,
        "embed_dim": dimensions,
        "num_heads": heads,
        "mlp_ratio": 4.0,
        "norm_eps": 1e-5,
        "norm_affine": True,
        "encoder_dropout": 0.1,
        "post_mlp_drop": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.0,
        "dropout_input": 0.0,
        "layerdrop": 0.05,
        "start_drop_path_rate": 0.0,
        "end_drop_path_rate": 0.0,
        "layer_norm_first": False,
        "end_of_block_targets": False,
        "average_top_k_layers": 8,
        "loss_beta": 0.0,
        "loss_scale": None,
        "clone_batch": 8,
        "normalize": True,
        "modalities": {"audio": audio},
    }
    torch.manual_seed(0)
    model = Emotion2vec(model_conf=settings).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim == 1:
                value.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.1)
        model.modality_encoders["AUDIO"].alibi_scale.normal_(1.0, 0.5)
    return model


@torch.inference_mode()
def run_peer(peer: Any, paths: list[Path], threads: int) -> None:
    """Read and encode one file after another, and average the last layer."""
    with using_threads(threads):
        for path in paths:
            feed(peer, torch.from_numpy(soundfile.read(path, dtype="float32")[0])).mean(1)


def feed(peer: Any, clip: torch.Tensor) -> torch.Tensor:
    """Return the last layer `[1, frames, dimensions]` of a clip, as FunASR's inference computes it."""
    last: torch.Tensor = peer.extract_features(layer_norm(clip, clip.shape)[None], padding_mask=None)["x"]
    return last


def compare(peer: Any, folder: str, clips: list[torch.Tensor], precisions: tuple[str, ...], title: str) -> None:
    """Show the largest relative difference of a clip's frames in any layer: ours in batches, theirs alone."""
    encoder = peer.modality_encoders["AUDIO"].context_encoder
    states: list[torch.Tensor] = []
    parts = [encoder.norm, *encoder.blocks, *peer.blocks]
    hooks = [part.register_forward_hook(lambda *given: states.append(_first(given[-1])[0, 10:])) for part in parts]
    theirs = []
    with torch.inference_mode():
        for clip in clips:
            states.clear()
            feed(peer, clip)
            theirs.append(list(states))
    for hook in hooks:
        hook.remove()
    rows = []
    for precision in precisions:
        ours = load_encoder(folder, precision=precision)
        worst = [0.0] * len(parts)
        for start in range(0, len(clips), 8):
            ours.encode(clips[start : start + 8], partial(_compare_layer, worst, theirs[start : start + 8]))
        rows.append([precision, f"{worst[0]:.1e}", f"{max(worst):.1e}", f"{worst[-1]:.1e}"])
    show_table(f"Frames against FunASR's, relative; {title}", ["", "layer 0", "worst layer", "last layer"], rows)


def _compare_layer(
    worst: list[float], theirs: list[list[torch.Tensor]], layer: int, values: torch.Tensor, lengths: torch.Tensor
) -> None:
    for states, row, length in zip(theirs, values, lengths.tolist(), strict=True):
        difference = float((row[:length] - states[layer]).norm() / states[layer].norm())
        worst[layer] = max(worst[layer], difference)


def _first(output: Any) -> torch.Tensor:
    state: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return state


def alternate(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Time each way in turn, on the clock and the processor, so many rounds after one that does not count."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(repeats + 1):
        for name, way in ways.items():
            started = time.perf_counter(), time.process_time()
            way()
            taken = time.perf_counter() - started[0], time.process_time() - started[1]
            print(f"round {number}: {name}: {taken[0]:.1f} s, {taken[1]:.1f} s of the processor", flush=True)
            if number:
                seconds[name].append(taken)
    return seconds


if __name__ == "__main__":
    main()
