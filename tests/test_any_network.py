"""Networks of torchvision, timm and transformers, with random weights and small inputs: what is read is what hooks of the test's own see."""

import pytest
import torch

import eigencode as ec
from eigencode._torchvision import import_torchvision

IMAGES = 6

# network, side of its images, the module that classifies, number of blocks
TORCHVISION = [
    ("convnext_tiny", 32, "classifier.2", 18),
    ("densenet121", 32, "classifier", 58),
    ("efficientnet_b0", 32, "classifier.1", 16),
    ("googlenet", 32, "fc", 9),
    ("mnasnet0_5", 32, "classifier.1", 16),
    ("mobilenet_v2", 32, "classifier.1", 17),
    ("mobilenet_v3_small", 32, "classifier.3", 11),
    ("regnet_y_400mf", 32, "fc", 16),
    ("resnet18", 32, "fc", 8),
    ("resnet50", 32, "fc", 16),
    ("shufflenet_v2_x0_5", 32, "fc", 16),
    ("squeezenet1_1", 64, "classifier.1", 8),
    ("swin_t", 32, "head", 12),
]
MORE_TORCHVISION = [
    ("vgg11_bn", 32, "classifier.6", 0),
    ("alexnet", 64, "classifier.6", 0),
    ("densenet169", 32, "classifier", 82),
    ("efficientnet_v2_s", 32, "classifier.1", 30),
    ("inception_v3", 96, "fc", 9),
    ("mnasnet1_0", 32, "classifier.1", 16),
    ("resnext50_32x4d", 32, "fc", 16),
    ("shufflenet_v2_x1_0", 32, "fc", 16),
    ("squeezenet1_0", 64, "classifier.1", 8),
    ("vgg16", 32, "classifier.6", 0),
    ("vit_b_32", 224, "heads.head", 12),
]
TIMM = [
    ("vit_tiny_patch16_224", 224, "head", 12),
    ("deit_tiny_distilled_patch16_224", 224, "head_dist", 12),
    ("mobilenetv3_small_050", 32, "classifier", 10),
    ("resnet10t", 64, "fc", 4),
    ("regnetx_002", 32, "head.fc", 4),
]
MORE_TIMM = [
    ("beit_base_patch16_224", 224, "head", 12),
    ("cait_xxs24_224", 224, "head", 24),
    ("convnext_atto", 32, "head.fc", 12),
    ("densenet121", 32, "classifier", 58),
    ("efficientnet_lite0", 32, "classifier", 15),
    ("gmlp_ti16_224", 224, "head", 30),
    ("mixer_s32_224", 224, "head", 8),
    ("nfnet_l0", 64, "head.fc", 12),
    ("pit_ti_224", 224, "head", 12),
    ("poolformer_s12", 64, "head.fc", 12),
    ("resmlp_12_224", 224, "head", 12),
    ("swin_tiny_patch4_window7_224", 224, "head.fc", 12),
    ("xcit_nano_12_p16_224", 224, "head", 12),
]


TRANSFORMERS = [
    # class, options of its configuration, the module that classifies or gives the scores, number of blocks
    ("GPT2LMHeadModel", {"n_embd": 16, "n_head": 2, "n_layer": 3}, "lm_head", 3),
    ("LlamaForCausalLM", {"intermediate_size": 24}, "lm_head", 3),
    ("MistralForCausalLM", {"intermediate_size": 24, "num_key_value_heads": 1}, "lm_head", 3),
    ("BertForSequenceClassification", {"intermediate_size": 24}, "classifier", 3),
    ("RobertaForSequenceClassification", {"intermediate_size": 24}, "classifier.out_proj", 3),
    ("DistilBertForSequenceClassification", {"dim": 16, "n_heads": 2, "n_layers": 3, "hidden_dim": 24}, "classifier", 3),
    ("ElectraForSequenceClassification", {"intermediate_size": 24, "embedding_size": 16}, "classifier.out_proj", 3),
    ("ViTForImageClassification", {"intermediate_size": 24, "image_size": 32, "patch_size": 8}, "classifier", 3),
    ("DeiTForImageClassification", {"intermediate_size": 24, "image_size": 32, "patch_size": 8}, "classifier", 3),
    ("BeitForImageClassification", {"intermediate_size": 24, "image_size": 32, "patch_size": 8}, "classifier", 3),
    (
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 8, 12, 16], "depths": [1, 1, 1, 2]},
        "classifier.1",
        0,
    ),
    ("ConvNextForImageClassification", {"hidden_sizes": [8, 8, 12, 16], "depths": [1, 1, 2, 1]}, "classifier", 4),
    (
        "SwinForImageClassification",
        {"embed_dim": 8, "depths": [1, 2], "num_heads": [2, 2], "window_size": 2, "image_size": 32, "patch_size": 4},
        "classifier",
        3,
    ),
]
"""Tiny configurations."""


def _torchvision(name):
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    options |= {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    return import_torchvision("models").get_model(name, weights=None, **options)


def _timm(name):
    import_torchvision("models")  # timm imports torchvision, which needs its care
    return pytest.importorskip("timm").create_model(name, pretrained=False)


CASES = [
    pytest.param(make, *case, id=f"{make.__name__[1:]}-{case[0]}", marks=marks)
    for make, cases, marks in (
        (_torchvision, TORCHVISION, ()),
        (_timm, TIMM, ()),
        (_torchvision, MORE_TORCHVISION, pytest.mark.slow),
        (_timm, MORE_TIMM, pytest.mark.slow),
    )
    for case in cases
]


@pytest.fixture(scope="module")
def transformers():
    import_torchvision()
    return pytest.importorskip("transformers")


@pytest.mark.parametrize(("name", "options", "classifier", "count"), TRANSFORMERS, ids=[case[0] for case in TRANSFORMERS])
def test_networks_of_transformers(transformers, name, options, classifier, count, generator):
    """Head, blocks and all modules against hooks of the test's own; texts with padding, images as they are."""
    small = {"vocab_size": 30, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_labels": 4}
    if "depths" not in options:
        small |= {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3}
    network_class = getattr(transformers, name)
    torch.manual_seed(0)
    known = network_class.config_class()
    network = network_class(network_class.config_class(**{k: v for k, v in small.items() if hasattr(known, k)} | options)).eval()
    if network.main_input_name == "pixel_values":
        inputs = {"pixel_values": torch.rand(IMAGES, 3, 32, 32, generator=generator)}
    else:
        ids = torch.randint(3, 30, (IMAGES, 9), generator=generator)
        kept = torch.arange(9) < torch.tensor([9, 4, 5, 9, 3, 8])[:, None]
        inputs = {"input_ids": ids * kept, "attention_mask": kept.long()}
    traced = ec.trace(network, {key: tensor[:2] for key, tensor in inputs.items()})
    seen = {}

    def given(_module, args):
        seen["head"] = args[0].detach().clone()

    def returned(_module, _args, output, *, block):
        seen[block] = (output if isinstance(output, torch.Tensor) else output[0]).detach().clone()

    handles = [network.get_submodule(classifier).register_forward_pre_hook(given)]
    if count:
        assert len(traced.blocks) == count
    for block in traced.blocks:
        handles.append(
            network.get_submodule(block).register_forward_hook(lambda *call, block=block: returned(*call, block=block))
        )
    with torch.no_grad():
        network(**inputs)
    for handle in handles:
        handle.remove()
    for layer in ("head", *traced.blocks):
        kept = inputs.get("attention_mask")
        name = layer if layer in ("head", *traced.sites) else f"{layer}[0]"  # older versions return other tensors too
        if seen[layer].ndim == 3 and kept is not None:
            codes = ec.collect(network, inputs, layer=name, units="channels", batch_size=4)
            assert torch.allclose(codes[kept.bool()], seen[layer][kept.bool()], rtol=1e-4, atol=1e-5), layer
            assert codes[~kept.bool()].isnan().all()
        else:
            codes = ec.collect(network, inputs, layer=name, batch_size=4)
            assert torch.allclose(codes, seen[layer].flatten(1), rtol=1e-4, atol=1e-5), layer
    spectra = ec.measure(network, inputs, layers="all", units="channels", half_samples=0)
    assert len(spectra) + len(spectra.skipped) > 2 * max(count, 1)
    for reason in spectra.skipped.values():
        assert any(text in reason for text in ("no row for each", "not floating point", "tokens of the mask", "is the same")), (
            reason
        )


@pytest.mark.parametrize(("make", "name", "side", "classifier", "count"), CASES)
def test_the_head_is_what_the_classifier_is_given_and_blocks_are_what_blocks_return(
    make, name, side, classifier, count, generator
):
    network, images = make(name).eval(), torch.rand(IMAGES, 3, side, side, generator=generator)
    traced = ec.trace(network, images[:2])
    assert len(traced.blocks) == count
    seen = {}

    def given(_module, args):
        seen["head"] = args[0].detach().clone()

    def returned(_module, _args, output, *, block):
        seen[block] = (output if isinstance(output, torch.Tensor) else output[0]).detach().clone()

    network.get_submodule(classifier).register_forward_pre_hook(given)
    for block in traced.blocks:
        network.get_submodule(block).register_forward_hook(lambda *call, block=block: returned(*call, block=block))
    with torch.no_grad():
        network(images)
    for layer in ("head", *traced.blocks[:1], *traced.blocks[-1:]):
        expected = seen[layer].flatten(1)
        assert torch.allclose(ec.collect(network, images, layer=layer, batch_size=IMAGES), expected, rtol=1e-4, atol=1e-5), (
            layer
        )  # attention has a faster way, rounded otherwise
