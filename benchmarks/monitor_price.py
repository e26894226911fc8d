"""What a monitor of all blocks adds to a training step, averaged over the steps between two readings, beside the bare step."""

import statistics

import torch
from torch.nn.functional import cross_entropy

import eigencode as ec
from benchmarks.timing import clock, write
from eigencode._torchvision import import_torchvision

EVERY, ROUNDS = 100, 3


def vision_transformer():
    """ViT-B/16 on 8 images of 224 x 224."""
    torch.manual_seed(0)
    images, labels = torch.randn(8, 3, 224, 224), torch.randint(0, 1000, (8,))
    model = import_torchvision("models").vit_b_16(weights=None)
    return model, lambda: cross_entropy(model(images), labels)


def language_model():
    """Six blocks of GPT-2, 384 units wide, on 16 texts of 128 tokens."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(n_layer=6, n_embd=384, n_head=6, n_positions=128, vocab_size=8000)
    model, ids = GPT2LMHeadModel(config), torch.randint(0, 8000, (16, 128))
    return model, lambda: model(input_ids=ids, labels=ids).loss


def main():
    results = {}
    for name, make in (("ViT-B/16, 12 blocks", vision_transformer), ("GPT-2 of 6 blocks", language_model)):
        model, loss = make()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

        def step(loss=loss, optimizer=optimizer):
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()

        step()
        for kind, options in (("with intervals", {}), ("without", {"half_samples": 0})):
            seconds = {"bare step": [], "step that is read": []}
            with ec.Monitor(model, every=2, units="channels", log=lambda values, step: None, **options) as monitor:
                step()  # finds the blocks
                step()
                for _ in range(ROUNDS):
                    seconds["step that is read"].append(clock(step)[2])
                    seconds["bare step"].append(clock(step)[2])
            bare, read = (statistics.median(seconds[key]) for key in ("bare step", "step that is read"))
            results[f"{name}, {kind}"] = {
                "bare_step_seconds": bare,
                "read_step_seconds": read,
                "price_of_a_step": (read - bare) / (EVERY * bare),
                "layers": len(monitor.measurement),
                "samples": next(iter(monitor.measurement.values())).n_samples,
            }
    write("monitor_price", {"every": EVERY, "rounds": ROUNDS, **results})
