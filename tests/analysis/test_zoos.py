"""Networks of timm by name, and of transformers from a config of one's own: no code is executed."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from running import ends_in_one_line

from analysis.lab.models import create
from capacity import InputError, measure

BERT = {
    "model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "vocab_size": 7, "max_position_embeddings": 16,
}  # fmt: skip
VIT = {
    "model_type": "vit",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 4,
}


def config(folder: Path, **facts) -> str:
    (folder / "config.json").write_text(json.dumps(facts), encoding="utf-8")
    return f"hf:{folder / 'config.json'}"


def test_timm_s_networks_by_name() -> None:
    timm = pytest.importorskip("timm")
    model = create("timm:resnet18", input_size=(1, 32, 32), classes=7)
    theirs = timm.create_model("resnet18", num_classes=7, in_chans=1)
    assert {name: p.shape for name, p in model.state_dict().items()} == {
        name: p.shape for name, p in theirs.state_dict().items()
    }
    small = create("timm:vit_tiny_patch16_224", input_size=(3, 32, 32), classes=7)  # made for one size
    assert small(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    for name, size, message in (
        ("timm:resnet1", (3, 32, 32), "did you mean 'resnet18'"),
        ("timm:resnet18", (64,), "needs pictures"),
        ("timm:mixer_b16_224", (3, 8), "needs pictures"),
    ):
        with pytest.raises(InputError, match=message):
            create(name, input_size=size, classes=7)
    with pytest.raises(InputError, match="nothing is downloaded"):
        create("timm:resnet18", input_size=(3, 32, 32), classes=7, pretrained=True)


def test_a_classifier_of_texts_from_a_config(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = create(config(tmp_path, **BERT), input_size=(5,), classes=3).eval()
    ids = torch.tensor([[2, 3, 4, 0, 0], [2, 3, 4, 5, 6]])
    assert model(ids).shape == (2, 3)
    assert torch.allclose(model(ids)[:1], model(ids[:1, :3]), atol=1e-6)  # padding is masked
    assert measure(model, ids[:1]).capacity_bits == measure(model.network, ids[:1]).capacity_bits > 0


def test_a_classifier_of_pictures_from_a_config(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = create(config(tmp_path, **VIT), input_size=(1, 8, 8), classes=3)
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 3)


def test_code_beside_a_config_is_not_executed(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n", encoding="utf-8")
    code = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForSequenceClassification"), "own.Model")
    create(config(tmp_path, **BERT, auto_map=code), input_size=(5,), classes=3)
    with pytest.raises(InputError, match="unknown model_type 'own'"):
        create(config(tmp_path, **BERT | {"model_type": "own"}, auto_map=code), input_size=(5,), classes=3)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("facts", "size", "message"),
    [
        (BERT, (3, 8, 8), r"takes token ids \(length,\), found a sample of \(3, 8, 8\)"),
        (BERT, (17,), "has 16 positions, but the texts have 17 tokens"),
        (VIT, (5,), "takes pictures"),
        ({"hidden_size": 8}, (5,), "names no model_type; hf: takes the config.json of a network"),
        ({"model_type": "brt"}, (5,), "did you mean"),
        (BERT | {"num_attention_heads": 3}, (5,), "cannot be built|is no config of bert"),
        ({"model_type": "clap"}, (5,), "no classifier of texts or pictures for 'clap'"),
    ],
)
def test_configs_that_cannot_be_are_refused(tmp_path: Path, facts: dict, size, message: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(InputError, match=message):
        create(config(tmp_path, **facts), input_size=size, classes=3)


def test_files_that_are_no_config_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    for name, message in (
        ("none.json", "is not a file"),
        ("broken.json", "cannot be read"),
        ("", "not a file"),
    ):
        with pytest.raises(InputError, match=message):
            create(f"hf:{tmp_path / name}", input_size=(5,), classes=3)


@pytest.mark.parametrize(("package", "name"), [("timm", "timm:resnet18"), ("transformers", "hf:config.json")])
def test_a_missing_extra_is_named_with_the_line_to_type(monkeypatch, package: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf'--model {name} needs .* pip install "deepcapacity\[models\]"'):
        create(name, input_size=(3, 32, 32), classes=7)


def test_texts_as_ids_are_squeezed_by_the_main_command(tmp_path: Path, capsys) -> None:
    pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    from analysis.capacity_curve import main

    words = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "good", "bad", "film", "a", "day"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    texts = {
        "review": ["good film", "bad film", "a good day", "a bad bad day"] * 10,
        "kind": list("gbgb") * 10,
    }
    pd.DataFrame(texts).to_csv(tmp_path / "reviews.csv", index=False)
    options = ["--dataset", f"text:{tmp_path / 'reviews.csv'}", "--smoke", "--iterations", "1"]
    ids = [*options, "--model", config(tmp_path, **BERT), "--tokenizer", str(tmp_path)]
    main([*ids, "--output", str(tmp_path / "run")])
    assert set(pd.read_csv(tmp_path / "run" / "results.csv")["total"]) == {8}
    hashed = [*options, "--model", config(tmp_path, **BERT | {"max_position_embeddings": 4096})]
    capsys.readouterr()
    ends_in_one_line(main, hashed, "takes token ids, found numbers", tmp_path / "none", capsys)
