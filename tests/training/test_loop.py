import errno
import math
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import eigencode.training.loop as loop
from eigencode import datasets, models
from eigencode.attacks import FGSM, PGD, robustness_curve
from eigencode.errors import DiskError, TrainingError
from eigencode.models.papers import JiangNetwork
from eigencode.training import (
    AdversarialSettings,
    JacobianSettings,
    MemberSettings,
    Settings,
    SpectralSettings,
    robust_accuracies,
    train,
)
from eigencode.training.saving import save_tensors

TOGETHER = 1e-8  # rounding of stacked products, grown over fifty steps in float64


@pytest.fixture(scope="session")
def training_digits():
    return datasets.load("digits", split="train", count=500)


@pytest.fixture(scope="session")
def test_digits():
    return datasets.load("digits", count=200)


def double(images):
    return TensorDataset(images.inputs.double(), images.labels)


def small(kind, seed):
    """A dense or convolutional network that trains in no time."""
    torch.manual_seed(seed)
    first = [nn.Flatten(), nn.Linear(64, 60), nn.Tanh()]
    if kind == "convolutional":
        first = [nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 40), nn.Tanh()]
    return nn.Sequential(*first, nn.Linear(first[-2].out_features, 10))


def networks(kind, count):
    return [small(kind, seed).double() for seed in range(count)]


def largest_difference(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return max(float((mine - theirs).abs().max()) for mine, theirs in pairs)


JIANG = SpectralSettings(ranks="jiang")
KINDS = {
    "spectral": (Settings(epochs=5, batch_size=100, spectral=JIANG), {"target": 2.0, "beta": 0.3}),
    "line": (
        Settings(epochs=5, batch_size=100, spectral=SpectralSettings(form="line"), clip=1.0),
        {"target": 2.0, "beta": 0.3},
    ),
    "nassar": (
        Settings(epochs=5, batch_size=100, spectral=SpectralSettings(form="nassar", ranks=(3, 12)), schedule="cosine"),
        {"target": 1.0, "beta": 0.01},
    ),
    "covariance": (Settings(epochs=5, batch_size=100, spectral=JIANG, optimizer="sgd", momentum=0.9), {"covariance": 0.01}),
    "exact": (Settings(epochs=5, batch_size=100, spectral=JIANG), {"jacobian": 0.05}),
    "projected": (
        Settings(epochs=5, batch_size=100, spectral=JIANG, jacobian=JacobianSettings("projected", 2, True)),
        {"jacobian": 0.05},
    ),
    "l2": (Settings(epochs=5, batch_size=100, spectral=JIANG, adversarial=AdversarialSettings(0.5, "l2", 3)), {}),
    "linf": (
        Settings(epochs=5, batch_size=100, spectral=JIANG, adversarial=AdversarialSettings(0.1, "linf", 2, start="random")),
        {},
    ),
}


_AS_WELL = ("line", "nassar", "covariance", "projected", "l2")
"""What one architecture shows as well as two: the other is tried in the long run."""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("dense", kind) for kind in KINDS),
        *(pytest.param("convolutional", kind, marks=[pytest.mark.slow] * (kind in _AS_WELL)) for kind in KINDS),
    ],
)
def test_a_member_equals_the_same_cell_alone(name, kind, training_digits):
    settings, options = KINDS[kind]
    images = double(training_digits)  # 5 steps an epoch: 25 in all
    cells = [MemberSettings(seed=number, learning_rate=1e-3 * (number + 1), **options) for number in range(3)]
    together = train(networks(name, 3), images, settings=settings, cells=cells)
    pair = train([networks(name, 3)[2], networks(name, 3)[0]], images, settings=settings, cells=[cells[2], cells[0]])
    alone = train(networks(name, 1)[0], images, settings=settings, cells=cells[0])
    assert largest_difference(together.models[0], alone.models[0]) < TOGETHER
    assert largest_difference(together.models[0], pair.models[1]) < TOGETHER
    assert largest_difference(together.models[2], pair.models[0]) < TOGETHER
    assert largest_difference(together.models[0], networks(name, 1)[0]) > 1e-3


class Jittered(Dataset):
    """Digits with noise that torch's generator draws, as a random transform does."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images.inputs[index].double() + 0.1 * torch.randn(1, 8, 8).double(), int(self.images.labels[index])


def test_random_transforms_are_those_of_the_member(training_digits):
    settings = Settings(epochs=2, batch_size=100, spectral=JIANG)
    cells = [MemberSettings(seed=number, learning_rate=1e-3) for number in range(2)]
    together = train(networks("dense", 2), Jittered(training_digits), settings=settings, cells=cells)
    alone = train(networks("dense", 2)[1], Jittered(training_digits), settings=settings, cells=cells[1])
    assert largest_difference(together.models[1], alone.models[0]) < TOGETHER


def test_members_with_local_errors_equal_the_same_cell_alone(training_digits):
    def made(seed):
        torch.manual_seed(seed)
        return JiangNetwork((1, 8, 8), width=20, depth=3).double()

    settings = Settings(epochs=10, batch_size=100, rule="local", optimizer="sgd", schedule="step", spectral=JIANG)
    cells = [MemberSettings(seed=number, learning_rate=0.05) for number in range(3)]
    together = train([made(0), made(1), made(2)], double(training_digits), settings=settings, cells=cells)
    alone = train(made(1), double(training_digits), settings=settings, cells=cells[1])
    assert largest_difference(together.models[1], alone.models[0]) < TOGETHER


def test_a_network_of_another_memory_layout_learns_the_same(training_digits):
    cell, settings = MemberSettings(learning_rate=1e-2), Settings(epochs=1, batch_size=100, spectral=JIANG)
    plain, other = small("convolutional", 0), small("convolutional", 0).to(memory_format=torch.channels_last)
    train(plain, training_digits, settings=settings, cells=cell)
    train(other, training_digits, settings=settings, cells=cell)
    assert largest_difference(plain, other) < 1e-4


def test_a_single_network_is_trained_in_place(training_digits):
    network = JiangNetwork((1, 8, 8), width=20, depth=3)
    before = network.layers[0][0].weight.detach().clone()
    settings = Settings(epochs=1, batch_size=100, rule="local", optimizer="sgd", spectral=JIANG)
    assert train(network, training_digits, settings=settings, cells=MemberSettings(learning_rate=0.05)).models[0] is network
    assert not torch.equal(network.layers[0][0].weight, before)


def test_greedy_trains_one_layer_after_the_other(training_digits, test_digits):
    torch.manual_seed(0)
    network = JiangNetwork((1, 8, 8), width=20, depth=3)
    first = [layer[0].weight.detach().clone() for layer in network.layers]
    settings = Settings(epochs=4, batch_size=50, rule="greedy", optimizer="sgd", spectral=JIANG)
    run = train(network, training_digits, settings=settings, cells=MemberSettings(learning_rate=0.05), held_out=test_digits)
    assert run.history["epoch"].max() == 12
    losses = run.history.pivot(index="epoch", columns="layer", values="held_out_accuracy")
    assert losses["layers.0"].loc[4:].nunique() == 1  # settled once its turn is over
    assert losses["layers.2"].loc[12] > losses["layers.2"].loc[8]
    assert not torch.equal(run.models[0].layers[2][0].weight, first[2])


def test_the_penalty_moves_the_exponent_and_history_tells(training_digits, test_digits):
    settings = Settings(epochs=8, batch_size=100, spectral=JIANG)
    cells = [MemberSettings(learning_rate=5e-3), MemberSettings(learning_rate=5e-3, target=1.0, beta=1.0)]
    run = train(
        networks("dense", 1) * 2,
        double(training_digits),
        settings=settings,
        cells=cells,
        held_out=double(test_digits),
    )
    last = run.history[run.history["epoch"] == 8].set_index("member")
    assert list(run.history.columns) == [
        "member", "epoch", "layer", "loss", "accuracy", "alpha", "skipped", "held_out_accuracy", "held_out_alpha", "seconds",
    ]  # fmt: skip
    assert len(run.history) == 16
    assert last.loc[1, "alpha"] < last.loc[0, "alpha"] - 0.3
    assert last.loc[1, "held_out_alpha"] == pytest.approx(last.loc[1, "alpha"], abs=0.15)
    assert last["held_out_accuracy"].min() > 0.7
    assert run.history["loss"].iloc[0] > last["loss"].max()
    assert not run.models[0].training


def test_targets_and_strengths_of_single_layers(training_digits):
    network = models.load("gerum_deep_mlp", image_shape=(1, 8, 8))
    settings = Settings(epochs=6, batch_size=250, spectral=SpectralSettings(layers="tanh1,tanh3", ranks="jiang"))
    cell = MemberSettings(learning_rate=1e-3, target={"tanh1": 0.5, "tanh3": 2.5}, beta={"tanh1": 1.0, "tanh3": 1.0})
    run = train(network, training_digits, settings=settings, cells=cell)
    last = run.history[run.history["epoch"] == 6].set_index("layer")["alpha"]
    assert last["tanh3"] > last["tanh1"] + 0.5


def test_a_users_own_module_with_dropout_and_a_schedule_learns(training_digits, test_digits):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 50), nn.ReLU(inplace=True), nn.Dropout(0.1), nn.Linear(50, 10))
    settings = Settings(epochs=15, batch_size=50, schedule="step", schedule_epochs=5, spectral=JIANG, mixed_precision=True)
    run = train(network, training_digits, settings=settings, cells=MemberSettings(learning_rate=5e-3), held_out=test_digits)
    assert run.models[0] is network
    assert run.history["held_out_accuracy"].iloc[-1] > 0.85


def test_layers_may_be_left_out(training_digits):
    settings = Settings(epochs=1, spectral=SpectralSettings(layers=""))
    run = train(small("dense", 0), training_digits, settings=settings)
    assert run.history["layer"].tolist() == [""]
    assert math.isnan(run.history["alpha"].iloc[0])


def test_adversarial_training_helps_against_its_attack(training_digits, test_digits):
    cells = [MemberSettings(learning_rate=3e-3)]
    plain, hardened = (
        train(
            models.load("gerum_shallow_mlp", image_shape=(1, 8, 8)),
            training_digits,
            settings=Settings(epochs=15, batch_size=100, spectral=JIANG, adversarial=AdversarialSettings(epsilon, "linf", 5)),
            cells=cells,
        ).models[0]
        for epsilon in (0.0, 0.1)
    )
    accuracy = robust_accuracies([plain, hardened], test_digits, PGD(steps=20), epsilons=[0.1])["accuracy"]
    assert accuracy[1] > accuracy[0] + 0.1


@pytest.mark.parametrize("attack", [FGSM(), PGD(norm="l2", steps=5), PGD(steps=5, start="random")])
def test_attacks_on_a_stack_equal_those_on_each_network(attack, trained_pair, test_digits):
    table = robust_accuracies(trained_pair, test_digits, attack, epsilons=[0.05, 0.2], batch_size=70)
    for number, network in enumerate(trained_pair):
        curve = robustness_curve(network, test_digits, attack, epsilons=[0.05, 0.2], probe=0)
        mine = table[table["member"] == number]["accuracy"].tolist()
        assert mine == pytest.approx([point.accuracy for point in curve.points], abs=0.006)  # one image on the boundary


def test_images_that_are_wrong_from_the_start_are_not_attacked(trained_pair, test_digits):
    seen = []

    class Counting(FGSM):
        def __call__(self, model, inputs, labels, **options):
            seen.append(len(inputs))
            return super().__call__(model, inputs, labels, **options)

    right = [network(test_digits.inputs).argmax(dim=1) == test_digits.labels for network in trained_pair]
    robust_accuracies(trained_pair[:1], test_digits, Counting(), epsilons=[0.1])
    robust_accuracies(trained_pair, test_digits, Counting(), epsilons=[0.1])
    assert seen == [int(right[0].sum()), 2 * int((right[0] | right[1]).sum())]
    assert seen[0] < len(test_digits)


@pytest.fixture(scope="session")
def trained_pair(training_digits):
    made = [models.load("gerum_shallow_mlp", image_shape=(1, 8, 8), seed=seed) for seed in (0, 1)]
    settings = Settings(epochs=5, batch_size=50, spectral=JIANG)
    return train(
        made, training_digits, settings=settings, cells=[MemberSettings(seed=seed, learning_rate=1e-3) for seed in (0, 1)]
    ).models


class TestCheckpoints:
    @staticmethod
    def run(images, path, *, epochs, stop_after=None, seen=None, **options):
        """A short run, broken off after some steps if asked."""

        class StopError(Exception):
            pass

        def watch(done, _total, _seen):
            if seen is not None:
                seen(done)
            if stop_after is not None and done == stop_after:
                raise StopError

        settings = Settings(epochs=epochs, batch_size=100, spectral=SpectralSettings(ranks=(2, 30)), **options)
        cells = [MemberSettings(seed=seed, learning_rate=1e-3, target=2.0, beta=0.5) for seed in (0, 1)]
        made = [small("dense", seed) for seed in (0, 1)]
        try:
            return train(made, images, settings=settings, cells=cells, checkpoint=path, progress=watch)
        except StopError:
            return None

    @pytest.mark.parametrize("stop_after", [1, 7, 10, 18])
    def test_a_run_that_was_stopped_ends_bit_for_bit_as_one_that_was_not(
        self, training_digits, tmp_path, stop_after, monkeypatch
    ):
        monkeypatch.setattr(loop, "_BETWEEN_SAVES", 0)
        whole = self.run(training_digits, None, epochs=4)
        assert self.run(training_digits, tmp_path / "state.safetensors", epochs=4, stop_after=stop_after) is None
        steps = []
        again = self.run(training_digits, tmp_path / "state.safetensors", epochs=4, seen=steps.append)
        assert steps == list(range((stop_after - 1) // 5 * 5 + 1, 21))  # from the last epoch that had ended
        for mine, theirs in zip(again.models, whole.models, strict=True):
            assert largest_difference(mine, theirs) == 0
        columns = ["loss", "accuracy", "alpha"]
        pd.testing.assert_frame_equal(again.history[columns], whole.history[columns], check_exact=True)

    @pytest.mark.parametrize(
        ("of_a_step", "of_a_save", "epochs"), [(1, 1, [1, 5, 9, 10]), (1, 0.01, [*range(1, 11)]), (4, 1000, [1, 7, 10])]
    )
    def test_saving_takes_a_small_share_of_the_time(self, training_digits, tmp_path, monkeypatch, of_a_step, of_a_save, epochs):
        """Epochs of five steps; seconds by a clock of this test. Two minutes are the longest between saves."""
        saved, now = [], 0.0

        def save(path, tensors, facts):
            nonlocal now
            saved.append(facts["epoch"])
            now += of_a_save
            save_tensors(path, tensors, facts)

        def step(done, _total, _seen):
            nonlocal now
            now += of_a_step

        monkeypatch.setattr(loop, "save_tensors", save)
        monkeypatch.setattr(loop.time, "perf_counter", lambda: now)
        settings = Settings(epochs=10, batch_size=100, spectral=JIANG)
        path = tmp_path / "state.safetensors"
        train(small("dense", 0), training_digits, settings=settings, cells=MemberSettings(), checkpoint=path, progress=step)
        assert saved == epochs

    def test_dropout_goes_on_where_it_was(self, training_digits, tmp_path):
        def once(path, stop):
            torch.manual_seed(3)
            network = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.Tanh(), nn.Dropout(), nn.Linear(40, 10))

            def watch(done, _total, _seen):
                if done == stop:
                    raise KeyboardInterrupt

            settings = Settings(epochs=3, batch_size=100, spectral=JIANG)
            return train(
                network, training_digits, settings=settings, cells=MemberSettings(seed=5), checkpoint=path, progress=watch
            )

        whole = once(None, None)
        with pytest.raises(KeyboardInterrupt):
            once(tmp_path / "state.safetensors", 8)
        assert largest_difference(once(tmp_path / "state.safetensors", None).models[0], whole.models[0]) == 0

    def test_a_checkpoint_of_another_configuration_is_refused(self, training_digits, tmp_path):
        path = tmp_path / "state.safetensors"
        self.run(training_digits, path, epochs=4, stop_after=6)
        with pytest.raises(TrainingError) as caught:
            self.run(training_digits, path, epochs=4, clip=1.0)
        assert str(caught.value) == (
            f"{path} belongs to another run: its settings differ (clip: None there, 1.0 here). Use the same configuration, another "
            "folder, or remove it to start again."
        )

    def test_a_checkpoint_of_other_images_or_weights_is_refused(self, training_digits, test_digits, tmp_path):
        path = tmp_path / "state.safetensors"
        self.run(training_digits, path, epochs=4, stop_after=6)
        with pytest.raises(TrainingError, match="belongs to another run: its images differ"):
            self.run(datasets.load("digits", split="train", count=500, seed=1), path, epochs=4)
        settings = Settings(epochs=4, batch_size=100, spectral=SpectralSettings(ranks=(2, 30)))
        cells = [MemberSettings(seed=seed, learning_rate=1e-3, target=2.0, beta=0.5) for seed in (0, 1)]
        with pytest.raises(TrainingError, match="belongs to another run: its networks differ"):
            train([small("dense", 7), small("dense", 8)], training_digits, settings=settings, cells=cells, checkpoint=path)

    def test_a_damaged_checkpoint_is_refused(self, training_digits, tmp_path):
        path = tmp_path / "state.safetensors"
        path.write_bytes(b"no tensors")
        with pytest.raises(TrainingError, match=r"state\.safetensors is not a checkpoint of a training run \(.*\)\. Remove it"):
            self.run(training_digits, path, epochs=4)

    def test_the_last_good_checkpoint_survives_a_full_disk(self, training_digits, tmp_path, monkeypatch):
        path = tmp_path / "state.safetensors"
        self.run(training_digits, path, epochs=4, stop_after=6)
        good = path.read_bytes()

        def full(_descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DiskError) as caught:
            self.run(training_digits, path, epochs=4)
        assert str(caught.value) == (
            f"state.safetensors cannot be written to {tmp_path} (No space left on device); the last good one is still {path}. "
            "Make room and start again."
        )
        assert path.read_bytes() == good
        assert [file.name for file in tmp_path.iterdir()] == ["state.safetensors"]

    @pytest.mark.slow
    def test_kill_at_any_moment(self, tmp_path):
        """kill -9 at several moments, each time going on from what the last one left."""
        script = tmp_path / "run.py"
        script.write_text(_KILLED)
        command = [sys.executable, str(script)]
        subprocess.run([*command, str(tmp_path / "whole")], check=True, cwd=tmp_path)
        killed = 0
        for delay in (0.1, 0.2, 0.3):
            process = subprocess.Popen([*command, str(tmp_path / "killed")], cwd=tmp_path, stdout=subprocess.PIPE)
            process.stdout.readline()  # training has started
            time.sleep(delay)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed += 1
            process.wait()
            process.stdout.close()
        subprocess.run([*command, str(tmp_path / "killed")], check=True, cwd=tmp_path)
        assert killed > 0
        whole, again = (torch.load(tmp_path / name / "end.pt", weights_only=True) for name in ("whole", "killed"))
        assert all(torch.equal(whole[name], again[name]) for name in whole)


_KILLED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from eigencode import datasets, models
from eigencode.training import MemberSettings, Settings, SpectralSettings, train
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
images = datasets.load("digits", split="train", count=500)
network = models.load("gerum_shallow_mlp", image_shape=(1, 8, 8))
settings = Settings(epochs=10, batch_size=100, spectral=SpectralSettings(ranks=(2, 30)))
print("started", flush=True)
run = train(network, images, settings=settings, cells=MemberSettings(target=2.0, beta=0.5, learning_rate=1e-3),
            checkpoint=folder / "state.safetensors")
torch.save(run.models[0].state_dict(), folder / "end.pt")
"""


class TestRefusals:
    def test_a_loss_that_is_not_finite_names_step_and_layer(self, training_digits):
        settings = Settings(epochs=5, batch_size=100, optimizer="sgd", spectral=SpectralSettings(layers=""))
        with pytest.raises(TrainingError) as caught:
            train(
                models.load("schaeffer_cnn", image_shape=(1, 8, 8)),
                training_digits,
                settings=settings,
                cells=MemberSettings(learning_rate=1e18),
            )
        assert str(caught.value).startswith("Training diverged: the cross entropy is not finite at step ")
        assert str(caught.value).endswith(". Lower the learning rate or the penalty's beta, or clip gradients.")

    def test_local_errors_that_diverge_name_step_layer_and_member(self, training_digits):
        settings = Settings(epochs=5, batch_size=100, rule="local", optimizer="sgd", spectral=JIANG)
        with pytest.raises(
            TrainingError, match=r"the local loss at layers\.\d of member 0 is not finite at step \d+ \(epoch \d\)"
        ):
            train(JiangNetwork((1, 8, 8)), training_digits, settings=settings, cells=MemberSettings(learning_rate=1e20))

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (lambda: Settings(epochs=0), "`epochs` must be at least 1; got 0."),
            (lambda: Settings(clip=0.0), "`clip` must be positive; got 0.0."),
            (lambda: Settings(momentum=-1.0), "`momentum` must be at least 0; got -1.0."),
            (
                lambda: Settings(momentum=0.9),
                '`momentum` belongs to optimizer "sgd"; got 0.9 with "adam". Leave one of them out.',
            ),
            (lambda: Settings(adversarial=AdversarialSettings(-1.0)), "adversarial: `epsilon` must be at least 0; got -1.0."),
            (lambda: MemberSettings(beta=-0.1), "`beta` is the weight of a penalty and must be at least 0; got -0.1."),
            (lambda: MemberSettings(learning_rate=0.0), "`learning_rate` must be positive; got 0.0."),
            (
                lambda: Settings(rule="local"),
                "`rule` 'local' takes plain stochastic gradient descent; got optimizer \"adam\", momentum 0, weight decay 0. "
                'Use optimizer="sgd" without these.',
            ),
        ],
    )
    def test_settings(self, build, message):
        with pytest.raises(TrainingError) as caught:
            build()
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("settings", "cell", "message"),
        [
            (
                Settings(spectral=SpectralSettings(layers="flatten", ranks="jiang")),
                MemberSettings(beta=1.0),
                "No parameter that is trained changes layer 'flatten': its penalty has nothing to act on.",
            ),
            (
                Settings(spectral=SpectralSettings(layers="tanh1", degenerate="raise"), batch_size=120),
                MemberSettings(beta=1.0),
                "Training stopped at step 5 (epoch 1): SpectralPenalty: ranks 6-50 need 51 images in a batch and 50 units; got 20 "
                "images and 2000 units. Lower the last rank, or enlarge the batch.",
            ),
            (
                Settings(spectral=SpectralSettings(layers="tanh1", degenerate="raise"), batch_size=40),
                MemberSettings(beta=1.0),
                "A batch of 40 images has no eigenvalue at rank 50: the penalty's ranks 6-50 need batches of 51. Enlarge the batch "
                "or lower the last rank.",
            ),
            (
                Settings(spectral=SpectralSettings(layers="")),
                MemberSettings(covariance=1.0),
                "Spectral and covariance penalties need a layer. Name one with the spectral settings' `layers`.",
            ),
            (
                Settings(rule="local", optimizer="sgd"),
                MemberSettings(),
                "Local errors need networks whose layers have classifiers of their own; got Sequential. Use jiang_mlp, or "
                "eigencode.models.papers.JiangNetwork.",
            ),
        ],
    )
    def test_runs(self, settings, cell, message, training_digits):
        network = models.load("gerum_shallow_mlp", image_shape=(1, 8, 8))
        with pytest.raises(TrainingError) as caught:
            train(network, training_digits, settings=settings, cells=cell)
        assert str(caught.value) == message

    def test_a_last_batch_too_small_is_skipped_and_counted(self, training_digits):
        network = models.load("gerum_shallow_mlp", image_shape=(1, 8, 8))
        run = train(network, training_digits, settings=Settings(epochs=2, batch_size=120), cells=MemberSettings(beta=1.0))
        assert run.history["skipped"].tolist() == [1, 1]

    def test_a_layer_narrower_than_the_ranks(self, training_digits):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 10))
        run = train(network, training_digits, settings=Settings(epochs=1))
        assert math.isnan(run.history["alpha"].iloc[0])
        with pytest.raises(TrainingError) as caught:
            train(network, training_digits, settings=Settings(epochs=1), cells=MemberSettings(beta=1.0))
        assert str(caught.value) == (
            "Layer '2' has 20 units, and so no eigenvalue at rank 50. Lower the last rank or choose a wider layer."
        )

    def test_others(self, training_digits):
        network = models.load("gerum_shallow_mlp", image_shape=(1, 8, 8))
        with pytest.raises(TrainingError, match=r"^There are 2 cells for 1 networks\. Pass one for each\.$"):
            train(network, training_digits, cells=[MemberSettings(), MemberSettings()])
        unlabelled = datasets.ImageSet.unlabelled(training_digits.inputs)
        with pytest.raises(TrainingError, match="training needs labels, and some are missing"):
            train(network, unlabelled)
        with pytest.raises(TrainingError, match=r"`target` names no value for layer 'tanh1'; it has hidden1\. Add it\.$"):
            train(network, training_digits, cells=MemberSettings(target={"hidden1": 1.0}))
        with pytest.raises(TrainingError, match="penalties, adversarial training, clipping and mixed precision need"):
            train(
                JiangNetwork((1, 8, 8)),
                training_digits,
                settings=Settings(rule="local", optimizer="sgd", clip=1.0),
            )


@pytest.mark.parametrize("label", [0.9, -1, math.nan, "3", True])
def test_labels_of_a_dataset_that_are_no_classes(label):
    images = [(torch.rand(1, 4, 4), label)] * 6
    with pytest.raises(TrainingError) as caught:
        train(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), images, settings=Settings(epochs=1))
    assert str(caught.value) == f"Labels of a Dataset must be classes, whole numbers from 0 on; got {label!r}. Fix them."
