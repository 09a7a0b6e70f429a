"""Loading checkpoints: every weight or a refusal that names the keys, in every format, without running code."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from embedkit.encoders import load_encoder
from embedkit.errors import EncoderError
from tests.encoders.checkpoints import (
    SHAPE,
    collect,
    edit_config,
    randomise,
    relative_error,
    speechlike,
    write_conv_checkpoint,
    write_whisper_checkpoint,
)

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_conv_checkpoint(tmp_path_factory.mktemp("original"), "hubert")


def rewrite(original: Path, folder: Path, change: Callable[[Weights], Weights]) -> Path:
    shutil.copytree(original, folder, dirs_exist_ok=True)
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def as_pytorch_file(original: Path, folder: Path, contents: Any) -> Path:
    shutil.copytree(original, folder, dirs_exist_ok=True)
    (folder / "model.safetensors").unlink()
    torch.save(contents, folder / "pytorch_model.bin")
    return folder


def digest(folder: Path) -> str:
    value: str = load_encoder(str(folder)).identity()["weights_digest"]
    return value


def test_missing_weights_are_named(original: Path, tmp_path: Path) -> None:
    gone = "encoder.layers.1.feed_forward.output_dense.weight"
    rewrite(original, tmp_path, lambda weights: {key: value for key, value in weights.items() if key != gone})
    with pytest.raises(EncoderError, match=rf"missing: {gone}\)"):
        load_encoder(str(tmp_path))


def test_unexpected_weights_are_named(original: Path, tmp_path: Path) -> None:
    rewrite(original, tmp_path, lambda weights: weights | {"encoder.layers.7.surplus": torch.ones(1)})
    with pytest.raises(EncoderError, match=r"unexpected: encoder\.layers\.7\.surplus\)"):
        load_encoder(str(tmp_path))


def test_weights_of_another_shape_are_named(original: Path, tmp_path: Path) -> None:
    rewrite(original, tmp_path, lambda weights: weights | {"encoder.layer_norm.bias": torch.ones(3)})
    with pytest.raises(EncoderError, match=r"of another shape: encoder\.layer_norm\.bias\)"):
        load_encoder(str(tmp_path))


def test_many_missing_weights_are_counted(original: Path, tmp_path: Path) -> None:
    rewrite(original, tmp_path, lambda weights: dict(list(weights.items())[:10]))
    with pytest.raises(EncoderError, match=r"and \d+ more"):
        load_encoder(str(tmp_path))


def test_heads_and_the_masking_vector_do_not_count(original: Path, tmp_path: Path) -> None:
    def change(weights: Weights) -> Weights:
        heads = ("lm_head.weight", "quantizer.codevectors", "project_hid.bias", "final_proj.weight", "classifier.bias")
        kept = {key: value for key, value in weights.items() if key != "masked_spec_embed"}
        return kept | {head: torch.ones(2) for head in heads}

    assert digest(rewrite(original, tmp_path, change)) == digest(original)


def test_a_model_with_a_head_gives_the_encoder_below_it(tmp_path: Path) -> None:
    model = transformers.HubertForCTC(transformers.HubertConfig(**SHAPE))
    randomise(model)
    for part, folder in ((model, tmp_path / "ctc"), (model.hubert, tmp_path / "bare")):
        part.save_pretrained(folder)
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    assert digest(tmp_path / "ctc") == digest(tmp_path / "bare")


def test_every_format_gives_the_same_encoder(original: Path, tmp_path: Path) -> None:
    weights = load_file(original / "model.safetensors")
    renamed = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in weights.items()
    }
    assert any(key.endswith("weight_g") for key in renamed)
    old = as_pytorch_file(original, tmp_path / "old", renamed)
    sharded = tmp_path / "sharded"
    shutil.copytree(original, sharded)
    (sharded / "model.safetensors").unlink()
    transformers.HubertModel.from_pretrained(original).save_pretrained(sharded, max_shard_size="100KB")
    assert (sharded / "model.safetensors.index.json").is_file()
    assert digest(old) == digest(sharded) == digest(original)


def test_half_precision_weights_are_raised_to_fp32(original: Path, tmp_path: Path) -> None:
    rewrite(original, tmp_path, lambda weights: {key: value.half() for key, value in weights.items()})
    clip = speechlike(5_000, 0)
    [[*_, rounded]], [[*_, exact]] = (collect(load_encoder(str(path)), [clip]) for path in (tmp_path, original))
    assert 1e-7 < relative_error(rounded, exact) < 1e-2


def test_one_changed_weight_changes_the_digest(original: Path, tmp_path: Path) -> None:
    def change(weights: Weights) -> Weights:
        weights["encoder.layers.2.final_layer_norm.bias"][5] += 1e-6
        return weights

    assert digest(rewrite(original, tmp_path, change)) != digest(original)


class Payload:
    """What a hostile pickle looks like."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_a_pickle_that_would_run_code_is_refused(original: Path, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    as_pytorch_file(original, tmp_path / "hostile", {"weight": Payload(trace)})
    with pytest.raises(EncoderError, match="expected safetensors, or a PyTorch file of plain tensors"):
        load_encoder(str(tmp_path / "hostile"))
    assert not trace.exists()
    torch.load(tmp_path / "hostile" / "pytorch_model.bin", weights_only=False)
    assert trace.exists()


def test_code_beside_the_weights_is_not_run(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path / "custom")
    trace = tmp_path / "executed"
    (tmp_path / "custom" / "configuration_custom.py").write_text(f"open({str(trace)!r}, 'w')\n")
    edit_config(tmp_path / "custom", model_type="custom", auto_map={"AutoConfig": "configuration_custom.CustomConfig"})
    with pytest.raises(EncoderError, match=r"config\.json .* sets auto_map to .* code of the checkpoint's own"):
        load_encoder(str(tmp_path / "custom"))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("file", "contents", "message"),
    [
        ("config.json", "{", r"config\.json.* cannot be read"),
        ("config.json", '{"model_type": "nonsense"}', r"config\.json .* cannot be used"),
        ("config.json", None, r"holds no config\.json"),
        ("preprocessor_config.json", "[]", "holds no JSON object"),
        ("preprocessor_config.json", "{", "cannot be read"),
        (
            "model.safetensors",
            "garbage",
            r"cannot be loaded: model\.safetensors is no whole safetensors file \(7 bytes",
        ),
        ("model.safetensors", "", r"cannot be loaded: model\.safetensors is empty; copy or download it once more"),
        ("model.safetensors.index.json", "{}", "names no files of weights"),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}',
            r"lacks weights that model\.safetensors\.index\.json names \(model-1\.safetensors, model-2",
        ),
        ("processor_config.json", '{"feature_extractor": ', "cannot be read"),
        ("model.safetensors", None, "holds no weights"),
    ],
)
def test_a_damaged_folder_gets_one_sentence(
    file: str, contents: str | None, message: str, original: Path, tmp_path: Path
) -> None:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    if contents is None:
        (tmp_path / file).unlink()
    elif file.endswith(".index.json"):
        (tmp_path / "model.safetensors").unlink()
        (tmp_path / file).write_text(contents)
    else:
        (tmp_path / file).write_text(contents)
    with pytest.raises(EncoderError, match=message) as caught:
        load_encoder(str(tmp_path))
    assert "\n" not in str(caught.value)


FOREIGN = [
    ("adapter_config.json", r"holds an adapter of PEFT .*merge_and_unload\(\)"),
    ("hyperparams.yaml", r"holds a model of SpeechBrain .*save_pretrained\(FOLDER\)"),
    ("tf_model.h5", r"holds weights for TensorFlow alone .*from_tf=True"),
    ("flax_model.msgpack", r"holds weights for Flax alone .*from_flax=True"),
]


@pytest.mark.parametrize("config", [True, False])
@pytest.mark.parametrize(("file", "message"), FOREIGN)
def test_checkpoints_of_other_libraries_are_told_how_to_use(
    file: str, message: str, config: bool, original: Path, tmp_path: Path
) -> None:
    (tmp_path / file).write_bytes(b"{}")
    if config:
        shutil.copyfile(original / "config.json", tmp_path / "config.json")
    with pytest.raises(EncoderError, match=message) as caught:
        load_encoder(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_weights_for_pytorch_beside_others_are_taken(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    for file in ("tf_model.h5", "flax_model.msgpack", "hyperparams.yaml"):
        (tmp_path / file).write_bytes(b"")
    assert digest(tmp_path) == digest(original)


def test_a_file_of_more_than_named_tensors_is_refused(original: Path, tmp_path: Path) -> None:
    as_pytorch_file(original, tmp_path, {"model": {"weight": torch.ones(2)}, "step": 3})
    with pytest.raises(EncoderError, match=r"holds other things than tensors by name"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize("share", [0.0001, 0.5, 0.9999])
@pytest.mark.parametrize("form", ["safetensors", "zip", "old"])
def test_weights_that_are_cut_short_are_said_to_be(form: str, share: float, original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "model.safetensors"
    if form != "safetensors":
        weights = load_file(path)
        path.unlink()
        path = tmp_path / "pytorch_model.bin"
        torch.save(weights, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(EncoderError, match="cannot be loaded") as caught:
        load_encoder(str(tmp_path))
    expected = {
        "safetensors": r"no whole safetensors file|has [\d,]+ of [\d,]+ bytes; copy",
        "zip": "is cut short",
        "old": "end too early|unexpected EOF",
    }
    assert re.search(expected[form], str(caught.value))


def test_a_git_lfs_pointer_is_named(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 377569754\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(EncoderError, match=r"is a git-lfs pointer, not the 377,569,754 bytes.*; run `git lfs pull` in"):
        load_encoder(str(tmp_path))


def test_the_rest_of_a_download_into_a_folder_is_named(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    part = tmp_path / ".cache" / "huggingface" / "download" / "x.incomplete"
    part.parent.mkdir(parents=True)
    (tmp_path / "model.safetensors").rename(part)
    with pytest.raises(EncoderError, match="of a download that broke off: repeat it"):
        load_encoder(str(tmp_path))


def test_a_whisper_checkpoint_lacking_an_encoder_weight_is_refused(tmp_path: Path) -> None:
    folder = write_whisper_checkpoint(tmp_path, "full")
    weights = load_file(folder / "model.safetensors")
    del weights["model.encoder.layers.0.fc1.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"missing: layers\.0\.fc1\.bias\)"):
        load_encoder(str(folder))


def test_loading_prints_nothing(original: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_encoder(str(original))
    assert capfd.readouterr() == ("", "")
