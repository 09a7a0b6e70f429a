"""A folder that holds all that predicting needs: the encoder as transformers writes it, the heads, what they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

import embedkit
from embedkit.encoders.base import Encoder
from embedkit.encoders.checkpoint import load_model, quiet, read_config, write_model
from embedkit.encoders.concatenation import ConcatenatedEncoder
from embedkit.encoders.emotion2vec_weights import build_network, write_network
from embedkit.encoders.layout import CONFIG_FILE, PREPROCESSOR_FILE, PROCESSOR_FILE
from embedkit.encoders.pretrained import PretrainedEncoder
from embedkit.encoders.sources import CARD_FILE
from embedkit.encoders.vggish import VggishEncoder
from embedkit.export.card import README_FILE, render_card
from embedkit.export.encoder import part_folder, without_places
from embedkit.export.predictor import DESCRIPTION_FILE, FORMAT, FORMAT_VERSION, HEADS_FILE, KEPT, Predictor
from embedkit.received import read_object


def write_folder(
    predictor: Predictor, encoder: Encoder, folder: Path, results: Mapping[str, Any], *, place: str
) -> None:
    """Write heads, description, model card and the encoder's weights into a folder that is there.

    Args:
        predictor: The heads that are kept.
        encoder: Their encoder; one without weights is found by its name again.
        folder: Where to; the encoder lies in it as transformers writes it, the parts of a concatenation in folders of
            their own.
        results: As `summarise_results` returns them; empty where they are not known.
        place: What the folder will be called in commands.
    """
    from safetensors.torch import save_file

    tensors, description = _select(predictor, encoder.identity())
    labels = _labels(predictor)
    save_file({name: values.contiguous() for name, values in tensors.items()}, folder / HEADS_FILE)
    _write_json(folder / DESCRIPTION_FILE, {**description, **labels, "results": results})
    parts = encoder.parts if isinstance(encoder, ConcatenatedEncoder) else (encoder,)
    for number, part in enumerate(parts):
        target = part_folder(folder, predictor.identity, number)
        if isinstance(part, PretrainedEncoder):
            target.mkdir(exist_ok=True)
            _write_checkpoint(part, target)
            _copy(part.checkpoint.folder, target, PREPROCESSOR_FILE, PROCESSOR_FILE)
            _copy_training(part.checkpoint.folder, target)
        elif isinstance(part, VggishEncoder):
            target.mkdir(exist_ok=True)
            part.save(target)
            _copy_training(Path(part.identity()["source"]).parent, target)
    checkpoint = (folder / CONFIG_FILE).is_file()
    if checkpoint:
        _write_json(folder / CONFIG_FILE, {**read_object(folder / CONFIG_FILE), **labels})
    card = render_card(predictor, results, place=place, checkpoint=checkpoint)
    (folder / README_FILE).write_text(card, encoding="utf-8", newline="\n")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _labels(predictor: Predictor) -> dict[str, Any]:
    """Number the outputs as transformers does."""
    named = {str(number): name for number, name in enumerate(predictor.names)}
    return {"id2label": named, "label2id": {name: int(number) for number, name in named.items()}}


def _select(predictor: Predictor, identity: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of the chosen heads, folds numbered anew, and what is to be known of them."""
    config = predictor.config
    folds = list(dict.fromkeys((head.number, head.fold) for head in predictor.heads))
    seeds = list(dict.fromkeys(head.seed for head in predictor.heads))
    tensors = {}
    for place, (number, _) in enumerate(folds):
        for name, values in predictor.tensors.items():
            own, _, rest = name.partition("/")
            seed, _, parameter = rest.partition("/")
            if own == str(number) and (not parameter or seed in map(str, seeds)):
                tensors[f"{place}/{rest}"] = values
    names = [fold for _, fold in folds]
    kept = {name: config[name] for name in KEPT if name in config}
    choices = [choice for choice in kept["choices"] if str(choice["fold"]) in names and choice["seed"] in seeds]
    # Of an encoder that was trained with its head, the run knows how it began.
    news = {name: identity[name] for name in ("weights_digest", "trained_on") if name in identity}
    store = {"encoder": without_places({**predictor.identity, **news}), "options": config["store"].get("options", {})}
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **kept,
        "folds": {"kind": config["folds"].get("kind"), "names": names},
        "seeds": seeds,
        "choices": choices,
        "store": store,
        "run": predictor.folder.name,
        "versions": {"embedkit": embedkit.__version__},
    }
    return tensors, description


def _write_checkpoint(encoder: PretrainedEncoder, folder: Path) -> None:
    """Write config.json and model.safetensors, or emotion2vec's one file."""
    if encoder.checkpoint.weights is not None:
        write_network(build_network(encoder.checkpoint), folder)
        return
    model: Any = load_model(encoder.checkpoint, read_config(encoder.checkpoint))
    if encoder.family == "whisper":
        write_model(model, folder)
    else:
        with quiet():
            model.save_pretrained(folder)


def _copy_training(source: Path, folder: Path) -> None:
    """Write what a trained encoder was trained on, without the place of the encoder that it was before."""
    if (source / CARD_FILE).is_file():
        told = read_object(source / CARD_FILE)
        before = {"base": without_places(told["base"])} if isinstance(told.get("base"), dict) else {}
        _write_json(folder / CARD_FILE, {**told, **before})


def _copy(source: Path, folder: Path, *names: str) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
