"""Texts and masks: every number is that of a plain NumPy computation over unpadded tokens."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import eigencode as ec
from eigencode import cli
from eigencode._torchvision import import_torchvision
from eigencode.errors import ActivationError, DataError, ModelError, ReliabilityWarning
from plain_numpy import alpha, eigenvalues

N, TOKENS, VOCABULARY = 90, 14, 50


@pytest.fixture(scope="module")
def transformers():
    import_torchvision()
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def texts():
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(1, VOCABULARY, (N, TOKENS), generator=generator)
    lengths = torch.randint(3, TOKENS + 1, (N,), generator=generator)
    lengths[0] = TOKENS
    mask = (torch.arange(TOKENS) < lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.fixture(scope="module", params=["gpt2", "bert", "llama", "left"])
def network_and_texts(request, transformers, texts):
    """Tiny networks with random weights; the last with padding on the left."""
    torch.manual_seed(1)
    small = {
        "vocab_size": VOCABULARY,
        "hidden_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "intermediate_size": 30,
    }
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if request.param == "bert":
        network = transformers.BertModel(transformers.BertConfig(**small))
    elif request.param == "llama":
        network = transformers.LlamaForCausalLM(transformers.LlamaConfig(**small, **ends))
    else:
        sizes = {"vocab_size": VOCABULARY, "n_embd": 24, "n_head": 2, "n_layer": 2, "n_positions": TOKENS}
        network = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends))
    if request.param == "left":
        texts = {name: tensor.flip(1) for name, tensor in texts.items()}
    return network.eval(), texts


def blocks_of(network, inputs):
    """What the test's own hooks see of every block."""
    seen, handles = {}, []
    container = next(module for module in network.modules() if isinstance(module, nn.ModuleList))
    names = {module: name for name, module in network.named_modules()}
    for block in container:

        def hook(_module, _args, output, block=block):
            seen[names[block]] = output[0] if isinstance(output, tuple) else output

        handles.append(block.register_forward_hook(hook))
    with torch.no_grad():
        network(**inputs)
    for handle in handles:
        handle.remove()
    return {name: tensor.double().numpy() for name, tensor in seen.items()}


class TestTokens:
    def test_every_unpadded_token_is_a_sample(self, network_and_texts):
        network, texts = network_and_texts
        spectra = ec.measure(network, texts, layers="blocks", units="channels", batch_size=32)
        expected, kept = blocks_of(network, texts), texts["attention_mask"].bool().numpy()
        assert list(spectra) == list(expected)
        for name, spectrum in spectra.items():
            values = eigenvalues(expected[name][kept])
            assert (spectrum.n_samples, spectrum.n_images) == (kept.sum(), N)
            assert np.allclose(spectrum.eigenvalues.numpy(), values, rtol=0, atol=1e-10 * values[0])
            assert spectrum.fit((2, 20)).alpha == pytest.approx(alpha(values, 2, 20), abs=1e-9)

    @pytest.mark.parametrize("tokens", ["mean", "cls", "last"])
    def test_one_row_for_each_text_leaves_padding_out(self, network_and_texts, tokens):
        network, texts = network_and_texts
        spectra = ec.measure(network, texts, layers="blocks", tokens=tokens, batch_size=17)
        kept = texts["attention_mask"].numpy()
        ends = {"cls": kept.argmax(axis=1), "last": TOKENS - 1 - kept[:, ::-1].argmax(axis=1)}
        for name, codes in blocks_of(network, texts).items():
            mean = (codes * kept[:, :, None]).sum(axis=1) / kept.sum(axis=1)[:, None]
            rows = mean.astype(np.float32) if tokens == "mean" else codes[np.arange(N), ends[tokens]]
            rows = rows.astype(np.float64)
            values = eigenvalues(rows)
            assert np.allclose(spectra[name].eigenvalues.numpy()[:24], values, rtol=0, atol=1e-10 * values[0])
            assert spectra[name].fit((2, 20)).alpha == pytest.approx(alpha(values, 2, 20), abs=1e-9)

    def test_batches_of_other_lengths_are_the_same_texts(self, network_and_texts):
        network, texts = network_and_texts
        if not texts["attention_mask"][0, 0] or not bool(texts["attention_mask"][:, 0].all()):
            pytest.skip("padded on the left")
        whole = ec.measure(network, texts, layers="blocks", units="channels", batch_size=N)
        longest = [int(texts["attention_mask"][start : start + 10].sum(1).max()) for start in range(0, N, 10)]
        cut = [
            {name: tensor[start : start + 10, :length] for name, tensor in texts.items()}
            for start, length in zip(range(0, N, 10), longest, strict=True)
        ]
        assert len(set(longest)) > 1
        for name, spectrum in ec.measure(network, cut, layers="blocks", units="channels").items():
            scale = float(whole[name].eigenvalues[0])
            assert torch.allclose(
                spectrum.eigenvalues, whole[name].eigenvalues, rtol=0, atol=1e-6 * scale
            )  # attention is rounded
            assert spectrum.half_counts == whole[name].half_counts

    def test_collect_leaves_padding_as_nan(self, network_and_texts):
        network, texts = network_and_texts
        (name, expected), *_ = blocks_of(network, texts).items()
        codes = ec.collect(network, texts, layer=name, units="channels", batch_size=40)
        kept = texts["attention_mask"].bool()
        assert codes.shape == (N, TOKENS, 24)
        assert torch.equal(codes.isnan().all(dim=2), ~kept)
        assert np.allclose(codes[kept].numpy(), expected[kept.numpy()], atol=1e-5)
        curve = ec.stimulus_curve(codes, mask=kept, counts=[30, N], ranks=(2, 10))
        assert curve["alpha"].iloc[1] == pytest.approx(alpha(eigenvalues(codes[kept].double().numpy()), 2, 10), abs=1e-9)

    def test_padding_is_never_measured(self, network_and_texts):
        network, texts = network_and_texts
        with pytest.raises(ActivationError, match="it has padding, which must not be measured.*units=channels"):
            ec.measure(network, texts, layers="blocks")
        full = {name: tensor[:1].expand(40, -1) for name, tensor in texts.items()}
        full["input_ids"] = torch.randint(1, VOCABULARY, (40, TOKENS))
        full["attention_mask"] = torch.ones_like(full["input_ids"])
        (spectrum, *_) = ec.measure(network, full, layers="blocks").values()
        assert (spectrum.n_features, spectrum.n_samples) == (24 * TOKENS, 40)

    def test_memory_and_half_samples(self, network_and_texts):
        network, texts = network_and_texts
        plenty = ec.measure(network, texts, layers="blocks", units="channels")
        tight = ec.measure(network, texts, layers="blocks", units="channels", memory_limit="1MiB")
        for name in plenty:
            assert torch.allclose(plenty[name].eigenvalues, tight[name].eigenvalues, rtol=1e-9, atol=1e-12)
            assert len(plenty[name].half_counts) == 20
            assert 0.3 * plenty[name].n_samples < min(plenty[name].half_counts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, transformers, texts):
    """A small GPT-2 as transformers saves it, and texts for it."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("hf")
    sizes = {"vocab_size": VOCABULARY, "n_embd": 24, "n_head": 2, "n_layer": 2, "n_positions": TOKENS}
    configuration = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, pad_token_id=0)
    transformers.GPT2LMHeadModel(configuration).eval().save_pretrained(folder / "gpt")
    np.savez(folder / "texts.npz", **{name: tensor.numpy().astype("i4") for name, tensor in texts.items()})
    return folder


class Embedded(nn.Module):
    """Takes ids or embeddings, and reads the first in several ways."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.line = nn.Embedding(VOCABULARY, 16), nn.Linear(16, 12)
        self.conv, self.head = nn.Conv1d(16, 12, 3), nn.Linear(12, 4)

    def forward(self, input_ids=None, attention_mask=None):
        hidden = self.embed(input_ids)
        self.conv(hidden.transpose(1, 2))
        return self.head(self.line(hidden).mean(1))


class Named(Embedded):
    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids)


class FixedLength(nn.Module):
    """Mixes tokens, of which there are as many as features."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(VOCABULARY, TOKENS), nn.Linear(TOKENS, 9), nn.Linear(TOKENS, 3)

    def forward(self, input_ids, attention_mask=None):
        hidden = self.embed(input_ids)
        return self.head(hidden.mean(1)) + self.mix(hidden.transpose(1, 2)).mean()


class PadsInside(Embedded):
    """Fills its tokens up to a multiple, as networks with windows of attention do; or adds tokens of its own."""

    def __init__(self, multiple, own=0):
        super().__init__()
        self.multiple, self.own = multiple, own

    def forward(self, input_ids, attention_mask=None):
        filled = nn.functional.pad(input_ids, (0, -input_ids.shape[1] % self.multiple + self.own))
        return self.head(self.line(self.embed(filled))[:, : input_ids.shape[1]].mean(1))


class Latents(Embedded):
    """Has as many rows as it likes for texts of any length."""

    def forward(self, input_ids, attention_mask=None):
        mean = self.embed(input_ids).mean(1, keepdim=True)
        return self.head(self.line(mean + self.embed.weight[:40]).mean(1))


class TestPaddingInside:
    @pytest.mark.parametrize("multiple", [2, 3, 8, 13, 64])
    def test_is_left_out(self, texts, multiple):
        count = 13 if multiple != 13 else 12
        ids = texts["input_ids"][:, :count].clamp_min(1)
        for given in (ids, {"input_ids": ids}, {"input_ids": ids, "attention_mask": (ids % 7 > 0) | (torch.arange(count) < 1)}):
            for options in ({"units": "channels"}, {"units": "pooled"}, {}):
                found = ec.measure(PadsInside(multiple), given, layers=["line", "head#1"], **options)
                assert list(found) == ["head"]
                assert f"pads its inputs to a multiple of {multiple} tokens" in found.skipped["line"]
        batches = [{"input_ids": torch.ones(40, multiple, dtype=torch.long)}, {"input_ids": ids[:40]}]
        if multiple > 2:  # a later batch alone is padded
            assert "pads its inputs" in ec.measure(PadsInside(multiple), batches, layers=["line", "head#1"]).skipped["line"]

    @pytest.mark.parametrize("multiple", [2, 7, 14])
    def test_padded_to_the_multiple_outside(self, texts, multiple):
        ids, mask = texts["input_ids"], texts["attention_mask"].bool()
        network = PadsInside(multiple)
        spectrum = ec.measure(network, texts, layers="line", units="channels")["line"]
        with torch.no_grad():
            rows = network.line(network.embed(ids))[mask].double().numpy()
        values = eigenvalues(rows)
        assert spectrum.n_samples == int(mask.sum())
        assert np.allclose(spectrum.eigenvalues.numpy(), values[: len(spectrum.eigenvalues)], rtol=0, atol=1e-6 * values[0])

    @pytest.mark.parametrize(("network", "rows"), [(Latents(), 40), (PadsInside(1, own=4), TOKENS + 4)])
    def test_rows_of_the_network_itself_are_no_padding(self, texts, network, rows):
        spectrum = ec.measure(network, texts["input_ids"], layers="line", units="channels")["line"]
        assert spectrum.n_samples == rows * N

    def test_longformer(self, transformers, texts):
        torch.manual_seed(0)
        sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        options = {"intermediate_size": 32, "attention_window": 8, "max_position_embeddings": 40}
        network = transformers.LongformerModel(transformers.LongformerConfig(**sizes, **options)).eval()
        with pytest.raises(ActivationError, match="pads its inputs to a multiple of 8 tokens"):
            ec.measure(network, texts, layers="blocks", units="channels")
        texts = {name: nn.functional.pad(tensor, (0, 2)) for name, tensor in texts.items()}
        spectra = ec.measure(network, texts, layers="blocks", units="channels")
        mask = texts["attention_mask"].bool()
        for name, values in blocks_of(network, texts).items():
            expected = eigenvalues(values[mask.numpy()])
            assert spectra[name].n_samples == int(mask.sum())
            assert np.allclose(spectra[name].eigenvalues.numpy(), expected, rtol=0, atol=1e-9 * expected[0])


class TestWhoseTokens:
    """A mask is that of one sequence, however long others are."""

    def test_a_decoder_has_its_own_mask(self, transformers):
        torch.manual_seed(0)
        sizes = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 8, "d_ff": 20, "num_layers": 2, "num_heads": 2}
        network = transformers.T5Model(transformers.T5Config(**sizes, decoder_start_token_id=0)).eval()
        inputs = {}
        for prefix in ("", "decoder_"):
            inputs[f"{prefix}input_ids"] = torch.randint(1, VOCABULARY, (40, 10))
            inputs[f"{prefix}attention_mask"] = (torch.arange(10) < torch.randint(2, 11, (40, 1))).long()
        seen = {}
        for block in ("encoder.block.0", "decoder.block.0"):

            def hook(_module, _args, output, block=block):
                seen[block] = output[0] if isinstance(output, tuple) else output

            network.get_submodule(block).register_forward_hook(hook)
        spectra = ec.measure(network, inputs, layers=["encoder.block.0", "decoder.block.0"], units="channels")
        with torch.no_grad():
            network(**inputs)
        for block, mask in (("encoder.block.0", "attention_mask"), ("decoder.block.0", "decoder_attention_mask")):
            values = eigenvalues(seen[block][inputs[mask].bool()].double().numpy())
            spectrum = next(spectrum for name, spectrum in spectra.items() if name.startswith(block))
            assert np.allclose(spectrum.eigenvalues.numpy(), values, rtol=0, atol=1e-9 * values[0])

    @pytest.mark.parametrize("count", [17, 9])
    def test_patches_have_no_mask(self, transformers, count):
        torch.manual_seed(0)
        small = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 20}
        text = small | {
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 17,
            "eos_token_id": 2,
            "bos_token_id": 1,
            "pad_token_id": 0,
        }
        vision = small | {"image_size": 32, "patch_size": 8}
        network = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
        mask = (torch.arange(count) < torch.randint(3, count + 1, (20, 1))).long()
        inputs = {
            "input_ids": torch.randint(3, VOCABULARY, (20, count)),
            "attention_mask": mask,
            "pixel_values": torch.rand(20, 3, 32, 32),
        }
        spectra = ec.measure(network, inputs, layers="*encoder.layers.0", units="channels")
        counts = {name.split("_")[0]: spectrum.n_samples for name, spectrum in spectra.items()}
        assert counts == {"text": int(mask.sum()), "vision": 20 * 17}

    def test_what_mixes_tokens_is_left_out_where_there_is_padding(self, texts):
        for units in ("channels", "pooled"):
            found = ec.measure(Embedded(), texts, layers=["line", "conv"], units=units)
            assert list(found) == ["line"]
            assert "may hold padding: its tokens are not on its second axis alone" in found.skipped["conv"]
        found = ec.measure(FixedLength(), texts, layers=["mix", "embed", "head#1"], units="channels")
        assert list(found) == ["head"]
        assert "does not run with another number of tokens" in found.skipped["mix"]

    def test_without_padding_it_is_measured(self, texts):
        ids = texts["input_ids"].clamp_min(1)
        network = Embedded()
        with torch.no_grad():
            maps = network.conv(network.embed(ids).transpose(1, 2)).double()
        for options, rows in (
            ({"units": "pooled"}, maps.mean(2)),
            ({"units": "channels"}, maps.transpose(1, 2).flatten(0, 1)),
            ({}, maps.flatten(1)),
        ):
            spectrum = ec.measure(network, ids, layers="conv", **options)["conv"]
            values = eigenvalues(rows.numpy())[: len(spectrum.eigenvalues)]
            assert np.allclose(spectrum.eigenvalues.numpy(), values, rtol=0, atol=1e-6 * values[0])

    def test_masks_by_position_and_in_some_batches_alone(self, texts):
        ids, mask = texts["input_ids"], texts["attention_mask"]
        count = int(mask.sum())
        assert ec.measure(Named(), (ids, mask), layers="line", units="channels")["line"].n_samples == count
        with pytest.raises(DataError, match="a batch has two parts with one number of tokens"):
            ec.measure(Embedded(), DataLoader(torch.utils.data.TensorDataset(ids, mask), 20), layers="line", units="channels")
        batches = [{"input_ids": ids[:50], "attention_mask": mask[:50]}, {"input_ids": ids[50:]}]
        with pytest.raises(DataError, match="a batch has the masks none, and the first had attention_mask"):
            ec.measure(Embedded(), batches, layers="line", units="channels")

    @pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.float32, torch.int32])
    def test_masks_of_any_type(self, texts, kind):
        found = ec.measure(
            Embedded(), texts | {"attention_mask": texts["attention_mask"].to(kind)}, layers="line", units="channels"
        )
        assert found["line"].n_samples == int(texts["attention_mask"].sum())

    @pytest.mark.parametrize(
        "wrong", [lambda m: (1 - m.float()) * -1e9, lambda m: m * 2, lambda m: m * torch.nan, lambda m: m * 1j]
    )
    def test_masks_that_are_added_are_refused(self, texts, wrong):
        mask = wrong(texts["attention_mask"])
        with pytest.raises(DataError, match="must hold 1 for tokens and 0 for padding"):
            ec.measure(Embedded(), texts | {"attention_mask": mask}, layers="line", units="channels")
        with pytest.raises(ec.EigencodeError, match="must"):
            ec.penalties.SpectralPenalty(1.0, ranks=(2, 8))(torch.randn(*mask.shape, 20), mask=mask)

    def test_a_perturbation_needs_images(self, texts):
        with pytest.raises(DataError, match="these inputs are not a single tensor"):
            ec.measure(Embedded(), [texts], layers="line", units="channels", perturbation=lambda inputs, _: inputs)

    def test_means_keep_their_type_and_so_their_floor(self):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Embedding(500, 5), nn.Linear(5, 100), nn.Linear(100, 3)).bfloat16()
        ids = torch.randint(0, 500, (400, 12))
        mask = torch.arange(12) < torch.randint(3, 13, (400, 1))
        for given in (ids, {"input": ids, "attention_mask": mask}):

            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.net = network

                def forward(self, input, attention_mask=None):
                    return self.net(input)

            spectrum = ec.measure(Net(), given, layers="net.1", units="pooled")["net.1"]
            assert (spectrum.dtype, spectrum.numerical_rank) == ("bfloat16", 5)


class TestCommandLine:
    def test_texts_in_a_file_and_a_network_in_a_folder(self, folder, capsys, texts):
        words = ["measure", "--model", f"hf:{folder}/gpt", "--data", f"tokens:{folder}/texts.npz", "--layers", "blocks"]
        assert cli.main([*words, "--units", "channels", "--ranks", "2-20", "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        network = ec.models.load(f"hf:{folder}/gpt")
        spectra = ec.measure(network, texts, layers="blocks", units="channels")
        assert [row["alpha"] for row in record["layers"]] == [s.fit((2, 20)).alpha for s in spectra.values()]
        assert record["title"].endswith(f"tokens:{folder}/texts.npz · {N} texts")
        assert "random" not in record["title"]

    def test_weights_are_its_own_or_said_to_be_others(self, folder, tmp_path):
        own = ec.models.load(f"hf:{folder}/gpt")
        other = ec.models.load(f"hf:{folder}/gpt", weights="random", seed=5)
        assert not torch.equal(own.transformer.wte.weight, other.transformer.wte.weight)
        torch.save(other.state_dict(), tmp_path / "other.pt")
        again = ec.models.load(f"hf:{folder}/gpt", weights=tmp_path / "other.pt")
        assert torch.equal(again.transformer.wte.weight, other.transformer.wte.weight)
        bare = tmp_path / "bare"
        bare.mkdir()
        (bare / "config.json").write_text((folder / "gpt" / "config.json").read_text())
        with pytest.raises(ModelError, match="holds no weights.*--weights random"):
            ec.models.load(f"hf:{bare}")
        torch.save(other.state_dict(), bare / "pytorch_model.bin")
        pickled = ec.models.load(f"hf:{bare}")
        assert torch.equal(pickled.transformer.wte.weight, other.transformer.wte.weight)

    @pytest.mark.parametrize("damage", ["truncated", "missing", "pointer", "code", "nowhere"])
    def test_folders_that_cannot_be_loaded_are_refused(self, folder, tmp_path, damage, monkeypatch):
        from safetensors.torch import load_file, save_file

        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # else it tries again and again
        (tmp_path / "config.json").write_text((folder / "gpt" / "config.json").read_text())
        weights, target = folder / "gpt" / "model.safetensors", tmp_path / "model.safetensors"
        if damage == "truncated":
            target.write_bytes(weights.read_bytes()[:5000])
        elif damage == "missing":
            tensors = load_file(weights)
            tensors.pop("transformer.h.1.mlp.c_fc.weight")
            save_file(tensors, target, metadata={"format": "pt"})
        elif damage == "pointer":
            target.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
        elif damage == "code":
            settings = json.loads((tmp_path / "config.json").read_text()) | {
                "model_type": "mine",
                "auto_map": {"AutoConfig": "m.C"},
            }
            (tmp_path / "config.json").write_text(json.dumps(settings))
            (tmp_path / "m.py").write_text("raise SystemExit('this code was run')")
        name = "nobody/nothing" if damage == "nowhere" else tmp_path
        with pytest.raises(ModelError, match="missing" if damage == "missing" else "could not be loaded"):
            ec.models.load(f"hf:{name}")

    @pytest.mark.parametrize(
        "architectures", [["pipeline"], ["GPT2Tokenizer"], [1], {"a": 1}, "GPT2LMHeadModel", ["GPT2LMHedModel"]]
    )
    def test_architectures_that_are_none(self, folder, tmp_path, architectures):
        settings = json.loads((folder / "gpt" / "config.json").read_text()) | {"architectures": architectures}
        (tmp_path / "config.json").write_text(json.dumps(settings))
        with pytest.raises(ModelError, match="must name a network of transformers|could not be loaded"):
            ec.models.load(f"hf:{tmp_path}", weights="random")

    def test_weights_that_are_not_used_are_told(self, folder, tmp_path):
        settings = json.loads((folder / "gpt" / "config.json").read_text()) | {"n_layer": 1}
        (tmp_path / "config.json").write_text(json.dumps(settings))
        (tmp_path / "model.safetensors").symlink_to(folder / "gpt" / "model.safetensors")
        with pytest.warns(ReliabilityWarning, match="of its tensors do not belong to the network and were ignored"):
            ec.models.load(f"hf:{tmp_path}")
        with pytest.warns(ReliabilityWarning, match="of its tensors do not belong to the network and were ignored"):
            ec.models.load(f"hf:{tmp_path}", weights=folder / "gpt" / "model.safetensors")

    def test_images_are_normalised_however_they_are_given(self, transformers, tmp_path):
        torch.manual_seed(0)
        small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20, "num_labels": 3}
        made = transformers.ViTForImageClassification(transformers.ViTConfig(**small, image_size=32, patch_size=8)).eval()
        made.save_pretrained(tmp_path)
        usual = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "size": {"height": 32, "width": 32}}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor"} | usual))
        network, images = ec.models.load(f"hf:{tmp_path}"), torch.rand(30, 3, 32, 32)
        mean, std = (torch.tensor(usual[name]).view(-1, 1, 1) for name in ("image_mean", "image_std"))
        with torch.no_grad():
            expected = made((images - mean) / std, output_hidden_states=True).hidden_states[1][:, 0]
        values = eigenvalues(expected.double().numpy())
        for given in (images, {"pixel_values": images}, DataLoader([{"pixel_values": image} for image in images], 7)):
            spectrum = ec.measure(
                network, given, layers="vit.layers.0" if hasattr(made.vit, "layers") else "blocks", tokens="cls"
            )
            first = next(iter(spectrum.values()))
            assert np.allclose(first.eigenvalues.numpy()[:16], values, rtol=0, atol=1e-5 * values[0])
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(usual | {"image_mean": 0.5}))
        with pytest.raises(ModelError, match="must be lists of numbers"):
            ec.models.load(f"hf:{tmp_path}")
        (tmp_path / "preprocessor_config.json").write_text("[]")
        with pytest.warns(ReliabilityWarning, match="they are given in"):
            ec.models.load(f"hf:{tmp_path}")

    @pytest.mark.parametrize(
        ("arrays", "text"),
        [
            ({"ids": np.ones((9, 4), int)}, "there must be an array `input_ids`; got ids"),
            ({"input_ids": np.ones((9, 4))}, "must be whole numbers of shape \\(n, tokens\\); got float64"),
            ({"input_ids": np.ones(9, int)}, "must be whole numbers of shape"),
            ({"input_ids": np.ones((9, 4), int), "attention_mask": np.ones((9, 3), int)}, "in the shape of `input_ids`"),
            ({"input_ids": np.ones((9, 4), int), "attention_mask": 2 * np.ones((9, 4), int)}, "1 for tokens and 0"),
            ({"input_ids": np.ones((9, 4), int), "attention_mask": np.zeros((9, 4), int)}, "text 0 has no tokens"),
            ({"input_ids": np.ones((9, 4), int), "token_type_ids": np.ones((8, 4), int)}, "must have a row for each of 9 texts"),
            ({"input_ids": np.ones((0, 4), int)}, "there are no tokens"),
        ],
    )
    def test_wrong_files_of_tokens_are_refused(self, arrays, text, tmp_path):
        np.savez(tmp_path / "t.npz", **arrays)
        with pytest.raises(DataError, match=text):
            ec.datasets.load_tokens(tmp_path / "t.npz")

    @pytest.mark.parametrize("command", ["attack", "construct", "train"])
    def test_only_measuring_takes_texts(self, folder, command, capsys, tmp_path):
        words = [command, "--model", f"hf:{folder}/gpt", "--data", f"tokens:{folder}/texts.npz"]
        words += {
            "construct": ["--kind", "robust", "--out", str(tmp_path / "set")],
            "train": ["--out", str(tmp_path / "run")],
        }.get(command, [])
        assert cli.main(words) in (1, 2)
        assert "texts" in capsys.readouterr().err

    def test_what_texts_cannot_do_is_one_sentence(self, folder, capsys):
        assert cli.main(["measure", "--model", f"hf:{folder}/gpt", "--data", "digits"]) == 1
        assert "takes whole numbers, such as the ids of tokens" in capsys.readouterr().err
        network = ec.models.load(f"hf:{folder}/gpt")
        with pytest.raises(ec.EigencodeError, match="ids of tokens cannot be changed a little"):
            ec.attacks.fgsm(network, torch.ones(5, 4, dtype=torch.int64), torch.zeros(5, dtype=torch.int64), epsilon=0.1)


def test_a_batch_of_a_tokenizer(transformers, texts):
    encoded = transformers.BatchEncoding(dict(texts))
    for given in (encoded, [encoded]):
        found = ec.measure(Embedded(), given, layers="line", units="channels")
        assert found["line"].n_samples == int(texts["attention_mask"].sum())


class Shapes(Embedded):
    """Makes fewer tokens, maps of tokens, and numbers of tokens side by side."""

    def __init__(self):
        super().__init__()
        self.stride, self.scores, self.flat = nn.Conv1d(16, 16, 3, stride=3), nn.Softmax(dim=1), nn.Flatten()

    def forward(self, input_ids, attention_mask=None):
        hidden = self.embed(input_ids)
        short = self.stride(hidden.transpose(1, 2)).transpose(1, 2)
        self.scores(hidden.mean(2)), self.flat(hidden)
        return self.head(self.line(short).mean(1))


@pytest.mark.parametrize("options", [{"units": "channels"}, {"units": "pooled"}, {}])
def test_padding_is_found_wherever_tokens_are(texts, options):
    found = ec.measure(Shapes(), texts, layers=["stride", "line", "scores", "flat", "head#1"], **options)
    assert list(found) == ["head"]
    assert set(found.skipped) == {"stride", "line", "scores", "flat"}
    assert all("may hold padding" in reason for reason in found.skipped.values())
    full = {"input_ids": texts["input_ids"].clamp_min(1), "attention_mask": torch.ones_like(texts["attention_mask"])}
    assert len(ec.measure(Shapes(), full, layers=["stride", "line", "scores", "flat"], **options)) == 4


def test_channels_that_are_said_to_come_first(texts):
    full = {"input_ids": texts["input_ids"].clamp_min(1)}
    found = ec.measure(Embedded(), full, layers="line", units="channels", channels="first")
    assert found["line"].n_features == TOKENS


def test_an_empty_batch_is_none(texts):
    labels = torch.zeros(N, dtype=torch.int64)
    batches = [texts | {"labels": labels}, {name: tensor[:0] for name, tensor in texts.items()} | {"labels": labels[:0]}]
    assert ec.measure(Embedded(), batches, layers="line", tokens="mean").n_labelled == N
