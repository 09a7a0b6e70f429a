"""The options of `extract`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embedkit.options.option import COUNT, DECIBELS, POSITIVE, declared, option
from embedkit.received import MOST_HOURS


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """How a corpus is encoded, and what of it is kept."""

    layers: str = option("all", panel="Encoder", metavar="LAYERS", help="all, last, a number, or a range such as 4-9.")
    level: Literal["utterance", "frame", "both"] | None = option(
        panel="Data",
        metavar="LEVEL",
        help="utterance: mean and standard deviation over each utterance's frames; frame or both: the frames as "
        "well, for heads that read them.",
        usual="what the encoder's usual head needs",
    )
    frame_dtype: Literal["float16", "float32"] | None = option(
        panel="Data", metavar="TYPE", help="float16 or float32, for frames.", usual="the encoder's"
    )
    out: Path | None = option(
        panel="Data", metavar="PATH", help="The embedding file (store) to write.", usual="embeddings/CORPUS/ENCODER.h5"
    )
    corpus_name: str | None = option(
        panel="Data",
        metavar="NAME",
        help="What the corpus is called in stores, runs and tables.",
        usual="its own name; of a manifest the file's, or the folder's where that is metadata.csv or the like",
    )
    where: tuple[str, ...] = option(
        (),
        panel="Data",
        metavar="COLUMN=VALUE",
        help="Take only utterances with this value; repeatable: all must hold.",
        split=False,
    )
    device: str = option("auto", panel="Machine", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")
    precision: str = option(
        "fp32",
        panel="Encoder",
        metavar="NAME",
        help="fp32, the reference, bf16, fp16 or auto: what the device does where that is fast and safe. What it "
        "changes against fp32 is measured on a few seconds of the first batch and kept in the store.",
    )
    window: str | float = option(
        "clip",
        panel="Encoder",
        metavar="SECONDS",
        help="Whisper only: seconds that every clip is padded to, or clip: as long as it is.",
        numeral=True,
    )
    batch_seconds: float | None = option(
        panel="Machine",
        metavar="SECONDS",
        help="Audio in a batch; on a CPU each thread may have its own.",
        usual="12 on a CPU, 320 on a GPU",
        bound=POSITIVE,
    )
    shard_seconds: float | None = option(
        panel="Machine",
        metavar="SECONDS",
        help="Audio in a shard: what a kill may cost, beside the batches under way, and a Ray worker's task.",
        usual="300 on a CPU, 3000 on a GPU",
        bound=POSITIVE,
    )
    max_seconds: float | None = option(
        panel="Encoder",
        metavar="SECONDS",
        help="Encode longer clips in overlapping windows of this length.",
        usual="what the encoder takes",
        bound=POSITIVE,
    )
    workers: int | None = option(panel="Machine", metavar="N", help="Threads that read audio.", usual="up to 4")
    threads: int | None = option(panel="Machine", metavar="N", help="CPU threads.", usual="all cores", bound=COUNT)
    engine: Literal["local", "ray"] = option(
        "local",
        panel="Machine",
        metavar="ENGINE",
        help="local: encode in this process; ray: on the Ray cluster of RAY_ADDRESS.",
    )
    max_file_gb: float | None = option(
        panel="Data",
        metavar="GB",
        help="Keep a larger store in files of at most this many gigabytes.",
        usual="one file",
        bound=POSITIVE,
    )
    on_error: Literal["fail", "skip"] = option(
        "fail",
        panel="Data",
        metavar="WORD",
        help="fail: stop at the first audio that cannot be used; skip: list it and go on.",
    )
    max_hours: float = option(
        MOST_HOURS,
        panel="Data",
        metavar="HOURS",
        help="Refuse an utterance that lasts longer: a damaged header, or a few megabytes, can claim days.",
        bound=POSITIVE,
    )
    rescale: bool = option(
        False,
        panel="Data",
        help="Divide audio files of floats that are in the scale of 16 bits by 32768; otherwise they are refused.",
    )
    limit: int | None = option(
        panel="Data", metavar="N", help="Take only so many utterances, evenly spread.", bound=COUNT, usual="all"
    )
    noise: str | None = option(
        panel="Data",
        metavar="FOLDER",
        help="Recordings of noise for --noise-snr.",
        usual="white noise",
    )
    overwrite: bool = option(
        False, panel="Data", help="Replace a store that is damaged, or made with other options.", in_toml=False
    )

    def __post_init__(self) -> None:
        for name, one in declared(type(self)).items():
            one.check(getattr(self, name), one.flag)


@dataclass(frozen=True, kw_only=True)
class ExtractCall(ExtractOptions):
    """The same for one store."""

    noise_snr: float | None = option(
        panel="Data",
        metavar="DB",
        help="Signal-to-noise ratio in dB of noise that is added; the store lies beside the clean one, which stays.",
        usual="none",
        bound=DECIBELS,
    )


@dataclass(frozen=True, kw_only=True)
class ExtractCommand(ExtractOptions):
    """The same for several encoders and noises, each with a store of its own."""

    noise_snr: tuple[float, ...] = option(
        (),
        panel="Data",
        metavar="DB",
        help="Signal-to-noise ratios in dB of noise that is added (20,10,0): a store each beside the clean one, which "
        "stays.",
        bound=DECIBELS,
        example=" such as 20,10,0",
    )

    encoder: tuple[str, ...] = option(
        (),
        panel="Encoder",
        metavar="NAME",
        help="A name of `embedkit list encoders`, a Hugging Face id, a local folder, module:Class of your own, or "
        "several joined by +; repeatable: a store each.",
        usual="none",
        catalogue="embedkit.encoders:ENCODERS",
    )
