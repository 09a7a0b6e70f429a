"""A checkpoint's settings lead to no code, kernel, quantiser, adapter or other checkpoint."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from embedkit.encoders import load_encoder
from embedkit.encoders.layout import explain_unreadable
from embedkit.errors import EncoderError
from tests.encoders.checkpoints import edit_config, write_conv_checkpoint, write_whisper_checkpoint
from tests.encoders.emotion2vec import random_weights


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return {
        "hubert": write_conv_checkpoint(folder / "hubert", "hubert", num_hidden_layers=1),
        "whisper": write_whisper_checkpoint(folder / "whisper"),
    }


REFUSED: dict[str, Any] = {
    "_attn_implementation": "evil/kernel",
    "attn_implementation": "kernels-community/flash-attn2@main",
    "_attn_implementation_internal": "flash_attention_2",
    "_experts_implementation": "evil/kernel",
    "attn_implementation ": {"": "sdpa", "text_config": "evil/kernel"},
    "text_config": {"_attn_implementation": "evil/kernel"},
    "parts": [{"deep": {"attn_implementation": "evil/kernel:forward"}}],
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "encoder": {"quantization_config": {"quant_method": "torchao"}},
    "auto_map": {"AutoModel": "evil--modeling.Evil"},
    "configuration_files": ["config.4.0.0.json"],
    "custom_pipelines": {"x": {"impl": "evil.Evil"}},
    "trust_remote_code": True,
    "use_kernels": True,
    "kernel_config": {"RMSNorm": "evil/kernel:RMSNorm"},
    "transformers_weights": "../elsewhere.bin",
    "backbone": "evil/model",
    "use_pretrained_backbone": True,
    "base_model_name_or_path": "evil/model",
}


@pytest.mark.parametrize("family", ["hubert", "whisper"])
@pytest.mark.parametrize("key", REFUSED)
def test_what_leads_elsewhere_is_refused(
    key: str, family: str, originals: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(originals[family], tmp_path, dirs_exist_ok=True)
    (tmp_path / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    edit_config(tmp_path, **{key.strip(): REFUSED[key]})
    monkeypatch.setattr("embedkit.encoders.checkpoint.load_transformers", None)
    with pytest.raises(EncoderError, match=rf"config\.json of .* sets {key.strip()}.*and is refused; ") as caught:
        load_encoder(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_so_is_a_feature_extractor_of_its_own(file: str, originals: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(originals["hubert"], tmp_path, dirs_exist_ok=True)
    (tmp_path / file).write_text(json.dumps({"feature_extractor": {"auto_map": {"AutoFeatureExtractor": "evil.Evil"}}}))
    with pytest.raises(EncoderError, match=rf"{file} of .* sets feature_extractor\.auto_map"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_hidden_layers", 10**6, r"sets num_hidden_layers to 1000000, expected at most 4,096"),
        ("intermediate_size", 10**8, r"describes 1\d,\d{3},\d{3},\d{3} weights, and there are \d+,\d{3}; check that"),
    ],
)
def test_more_than_its_weights_takes_neither_time_nor_memory(
    key: str, value: int, words: str, originals: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(originals["hubert"], tmp_path, dirs_exist_ok=True)
    edit_config(tmp_path, **{key: value})
    with pytest.raises(EncoderError, match=words):
        load_encoder(str(tmp_path))


def test_an_adapter_is_refused(originals: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(originals["hubert"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "evil/model"}))
    with pytest.raises(EncoderError, match=r"holds an adapter of PEFT .*merge it into that model"):
        load_encoder(str(tmp_path))


def test_harmless_values_change_nothing(originals: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(originals["hubert"], tmp_path, dirs_exist_ok=True)
    harmless = {"_attn_implementation": "eager", "quantization_config": None, "auto_map": {}, "custom_pipelines": None}
    edit_config(tmp_path, **harmless, use_kernels=False, transformers_weights="model.safetensors")
    expected = load_encoder(str(originals["hubert"])).identity()["weights_digest"]
    assert load_encoder(str(tmp_path)).identity()["weights_digest"] == expected


def test_advice_to_let_a_file_run_code_is_not_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": Path("x")}, path)
    with pytest.raises(Exception, match="weights_only") as caught:
        torch.load(path, weights_only=True)
    wrapped = OSError("Unable to load. " + str(caught.value))
    for error in (caught.value, wrapped):
        assert explain_unreadable(error) == "they hold more than tensors, which could run code"
    with pytest.raises(EncoderError, match="they hold more than tensors") as told:
        load_encoder("vggish", sources={"vggish": str(path)})
    assert "weights_only" not in str(told.value)


def pack(plain: Path, packed: Path) -> Path:
    """Write an archive of PyTorch as other programs do, which compress it."""
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    return packed


def test_an_archive_of_packed_weights_is_refused(originals: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(originals["hubert"], tmp_path, dirs_exist_ok=True)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "plain.bin")
    (tmp_path / "model.safetensors").unlink()
    pack(tmp_path / "plain.bin", tmp_path / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"pytorch_model\.bin was packed again by another program"):
        load_encoder(str(tmp_path))


def test_so_is_one_of_emotion2vec(tmp_path: Path) -> None:
    torch.save(random_weights(), tmp_path / "plain.pt")
    with pytest.raises(EncoderError, match=r"packed\.pt was packed again by another program"):
        load_encoder(str(pack(tmp_path / "plain.pt", tmp_path / "packed.pt")))
