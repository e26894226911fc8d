import os
import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from eigencode.errors import ModelError, ReliabilityWarning
from eigencode.models import load_weights, read_state_dict


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


@pytest.fixture
def source():
    return network()


def same(model, state):
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


class Parameters:
    """Stands for the foreign objects that training scripts pickle beside their weights."""

    def __init__(self):
        self.learning_rate, self.run = 0.1, SimpleNamespace(name="x")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"state": {0: {"step": torch.tensor(1)}}}},
        lambda state: {"model_state_dict": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
        lambda state: {f"model.{k}": v for k, v in state.items()},
        # As the Robustness library stores them: data-parallel, an attacker beside the model, and pickled objects.
        lambda state: {
            "model": {
                **{f"module.model.{k}": v for k, v in state.items()},
                **{f"module.attacker.model.{k}": torch.zeros_like(v) for k, v in state.items()},
                "module.normalizer.new_mean": torch.zeros(1),
            },
            "args": Parameters(),
            "schedule": {"last": Parameters()},
            "epoch": 150,
        },
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_wrappers(tmp_path, source, wrap, legacy):
    path = tmp_path / "weights.pt"
    torch.save(wrap(source.state_dict()), path, _use_new_zipfile_serialization=not legacy)
    model = network()
    load_weights(model, path)
    assert same(model, source.state_dict())


def test_safetensors(tmp_path, source):
    path = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), path)
    model = network()
    load_weights(model, path)
    assert same(model, source.state_dict())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"weights.safetensors is truncated or no safetensors file \(.*\). Download it again."):
        load_weights(model, path)


def test_a_whole_pickled_model_gives_nothing(tmp_path, source):
    torch.save(source, tmp_path / "model.pt")
    with pytest.raises(ModelError) as caught:
        read_state_dict(tmp_path / "model.pt")
    assert str(caught.value) == (
        f"weights: {tmp_path}/model.pt is a pickled torch.nn.modules.container.Sequential, not tensors by name. Save the state "
        "dict: torch.save(model.state_dict(), PATH)."
    )


CALLS = []


class Hostile:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, ("touch {marker}",)), "posix.system"),
        ((eval, ("open('{marker}', 'w')",)), "builtins.eval"),
        ((os.putenv, ("A", "B")), "posix.putenv"),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_pickles_are_named_and_not_run(tmp_path, source, call, name, legacy):
    marker = tmp_path / "marker"
    function, arguments = call
    arguments = tuple(a.replace("{marker}", str(marker)) if isinstance(a, str) else a for a in arguments)
    path = tmp_path / "hostile.pt"
    stored = {"model": source.state_dict(), "args": Hostile(function, arguments)}
    torch.save(stored, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError) as caught:
        read_state_dict(path)
    assert str(caught.value) == (f"weights: {path} asks to run {name} when it is loaded; nothing was run. Do not use this file.")
    assert not marker.exists()


def record_call(value):
    CALLS.append(value)


def test_other_callables_become_inert(tmp_path, source):
    path = tmp_path / "weights.pt"
    torch.save(
        {"model": source.state_dict(), "args": Hostile(record_call, (1,)), "more": Hostile(torch.set_num_threads, (1,))}, path
    )
    threads = torch.get_num_threads()
    assert read_state_dict(path).keys() == source.state_dict().keys()
    assert CALLS == []
    assert torch.get_num_threads() == threads


def test_torchscript_is_refused_before_it_runs(tmp_path):
    path = tmp_path / "scripted.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    with pytest.raises(ModelError) as caught:
        read_state_dict(path)
    assert str(caught.value) == (
        f"weights: {path} is a TorchScript program, not weights. Save the state dict of the model instead."
    )


def test_a_file_cannot_change_the_functions_it_may_call(tmp_path):
    import zipfile

    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(1)}, path)
    body = b"ctorch._utils\n_rebuild_tensor_v2\n(N}Vpatched\nI1\nstb."
    with zipfile.ZipFile(path) as whole:
        entries = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w") as changed:
        for name, content in entries.items():
            changed.writestr(name, body if name.endswith("data.pkl") else content)
    with pytest.raises(ModelError):
        read_state_dict(path)
    assert not hasattr(torch._utils._rebuild_tensor_v2, "patched")


def test_a_dict_that_holds_itself(tmp_path):
    stored = {}
    stored["model"] = stored
    torch.save(stored, tmp_path / "self.pt")
    with pytest.raises(ModelError, match="holds no tensors"):
        read_state_dict(tmp_path / "self.pt")


def test_damaged_files(tmp_path, source):
    path = tmp_path / "weights.pt"
    torch.save(source.state_dict(), path)
    whole = path.read_bytes()
    cases = {
        whole[: len(whole) // 2]: f"weights: {path} is truncated ({len(whole) // 2} bytes). Download it again.",
        b"": f"weights: {path} is empty. Download it again.",
        b"\n<!DOCTYPE html><html>Sign in</html>": (f"weights: {path} is a web page. The download failed; fetch the file itself."),
    }
    for body, text in cases.items():
        path.write_bytes(body)
        with pytest.raises(ModelError) as caught:
            read_state_dict(path)
        assert str(caught.value) == text
    for body in (b"hello world", pickle.dumps([1, 2, 3]), b"\x80\x04\x95"):
        path.write_bytes(body)
        with pytest.raises(
            ModelError, match=r"weights.pt (is not a PyTorch|is a pickle that torch.save did not write|is truncated)"
        ):
            read_state_dict(path)
    with pytest.raises(ModelError, match="none.pt does not exist. Check the path."):
        read_state_dict(tmp_path / "none.pt")


NESTINGS = [
    *(
        lambda state, key=key: {key: state}
        for key in ("model_state", "ema", "state_dict_ema", "model_ema", "params", "params_ema")
    ),
    *(lambda state, key=key: {key: state} for key in ("network", "classifier", "student", "anything at all")),
    *(lambda state, p=p: {"state_dict": {p + k: v for k, v in state.items()}} for p in ("backbone.", "encoder.", "1.", "a.b.c.")),
    lambda state: {"state_dict": [state]},
    lambda state: {"trainer": {"epoch": 3, "nets": {"teacher": {f"module.{k}": v for k, v in state.items()}}}},
    lambda state: {
        "net": {"0": {k[2:]: v for k, v in state.items() if k[0] == "0"}, **{k: v for k, v in state.items() if k[0] != "0"}}
    },
]


@pytest.mark.parametrize("nest", NESTINGS)
def test_weights_are_found_by_the_names_of_the_network(tmp_path, source, nest):
    path = tmp_path / "weights.pt"
    torch.save({**nest(source.state_dict()), "optimizer": {"state": {0: {"exp_avg": torch.zeros(2, 1, 3, 3)}}}}, path)
    model = network()
    load_weights(model, path)
    assert same(model, source.state_dict())


def other(state):
    return {name: torch.ones_like(value) for name, value in state.items()}


def test_averaged_weights_beside_the_usual_ones_are_told(tmp_path, source):
    path = tmp_path / "weights.pt"
    torch.save({"state_dict_ema": other(source.state_dict()), "state_dict": source.state_dict()}, path)
    model = network()
    with pytest.warns(ReliabilityWarning, match=r"it also holds state_dict_ema, which fits too; state_dict was used\."):
        load_weights(model, path)
    assert same(model, source.state_dict())


def test_the_usual_weights_are_taken_though_averaged_ones_have_more_of_the_names(tmp_path, source):
    path = tmp_path / "weights.pt"
    without = {name: value for name, value in source.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save({"ema": other(source.state_dict()), "model": without}, path)
    model = network()
    with pytest.warns(ReliabilityWarning, match=r"it also holds ema, which fits too; model was used\."):
        load_weights(model, path)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in without.items())


def test_of_several_unusual_sets_none_is_guessed(tmp_path, source):
    path = tmp_path / "weights.pt"
    torch.save({"student": source.state_dict(), "teacher": other(source.state_dict())}, path)
    before = {name: value.clone() for name, value in source.state_dict().items()}
    with pytest.raises(
        ModelError, match=r"holds several sets of weights that fit: student, teacher\. Save the one that you mean"
    ):
        load_weights(source, path)
    assert same(source, before)
    torch.save(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).state_dict(), path)
    with pytest.raises(ModelError, match=r"several sets of weights that fit: 0, 2"):
        load_weights(nn.Linear(2, 2), path)


def test_of_two_usual_sets_none_is_guessed_unless_they_are_one(tmp_path, source):
    path, state = tmp_path / "weights.pt", source.state_dict()
    torch.save({"model": state, "net": state}, path)
    model = network()
    load_weights(model, path)
    assert same(model, state)
    torch.save({"model": state, "net": other(state)}, path)
    with pytest.raises(ModelError, match=r"several sets of weights that fit: model, net\."):
        load_weights(model, path)
    save_file(
        {f"{key}.{name}": value + 0 for key in ("model", "net") for name, value in state.items()}, tmp_path / "w.safetensors"
    )
    with pytest.raises(ModelError, match=r"several sets of weights that fit: model, net\."):
        load_weights(model, tmp_path / "w.safetensors")


def test_a_set_of_other_shapes_does_not_fit(tmp_path, source):
    path = tmp_path / "weights.pt"
    wider = {name: torch.cat([value, value]) if value.ndim else value for name, value in source.state_dict().items()}
    torch.save({"model": wider, "ema": source.state_dict()}, path)
    model = network()
    load_weights(model, path)
    assert same(model, source.state_dict())


def test_tensors_that_the_network_does_not_have_are_told(tmp_path, source):
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": {**source.state_dict(), "mask": torch.ones(3), "head.scale": torch.ones(1)}}, path)
    model = network()
    with pytest.warns(
        ReliabilityWarning, match=r"2 of its tensors do not belong to the network and were ignored \(mask, head\.scale\)"
    ):
        load_weights(model, path)
    assert same(model, source.state_dict())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.b.weight = self.a.weight


def test_tied_weights_are_stored_once(tmp_path):
    tied, model = Tied(), Tied()
    save_model(tied, str(tmp_path / "tied.safetensors"))
    assert len(read_state_dict(tmp_path / "tied.safetensors")) == 1
    load_weights(model, tmp_path / "tied.safetensors")
    assert torch.equal(model.b.weight, tied.a.weight)


def test_a_file_for_another_network(tmp_path, source):
    path = tmp_path / "weights.pt"
    torch.save(nn.Sequential(nn.Linear(2, 2)).state_dict(), path)
    before = {name: value.clone() for name, value in source.state_dict().items()}
    with pytest.raises(ModelError) as caught:
        load_weights(source, path)
    assert str(caught.value) == (
        f"weights: {path} does not fit the network: 6 of its 9 tensors are missing (1.weight, 1.bias, 1.running_mean, ...) and 0 "
        "are unknown. Use the network that the file was saved from."
    )
    state = source.state_dict()
    state["3.weight"] = torch.zeros(5, 8)
    torch.save(state, path)
    with pytest.raises(ModelError) as caught:
        load_weights(source, path)
    assert str(caught.value) == (
        f"weights: {path} does not fit the network: 1 of 9 tensors have another shape, first 3.weight: file (5, 8), network "
        "(3, 8). Check the number of classes and the image size."
    )
    assert same(source, before)


def test_arrays_of_numpy(tmp_path):
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    arrays = {name: tensor.numpy() + 1 for name, tensor in network.state_dict().items()}
    np.savez(tmp_path / "w.npz", **arrays)
    torch.save(arrays, tmp_path / "w.pt")
    load_weights(network, tmp_path / "w.npz")
    assert all(np.array_equal(tensor.numpy(), arrays[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(ModelError, match="holds NumPy arrays, not tensors. Save them with numpy.savez"):
        load_weights(network, tmp_path / "w.pt")


def test_files_are_known_by_their_content(tmp_path):
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    state = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    save_file(state, tmp_path / "a.pt")
    torch.save(state, tmp_path / "b.safetensors")
    folder, pickled = tmp_path / "folder", tmp_path / "pickled"
    folder.mkdir(), pickled.mkdir()
    names = list(state)
    save_file({name: state[name] for name in names[:2]}, folder / "model-00001-of-00002.safetensors")
    save_file({name: state[name] for name in names[2:]}, folder / "model-00002-of-00002.safetensors")
    torch.save(state, pickled / "pytorch_model.bin")
    for path in (tmp_path / "a.pt", tmp_path / "b.safetensors", folder, pickled):
        other = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        load_weights(other, path)
        assert same(other, state)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="is a folder, not a file"):
        load_weights(network, tmp_path / "empty")


@pytest.mark.parametrize("names", [("net", "best_net"), ("state_dict", "foo"), ("model", "previous")])
def test_every_other_set_that_fits_is_told(tmp_path, source, names):
    usual, second = names
    torch.save({second: other(source.state_dict()), usual: source.state_dict()}, tmp_path / "two.pt")
    model = network()
    with pytest.warns(ReliabilityWarning, match=rf"it also holds {second}, which fits too; {usual} was used\."):
        load_weights(model, tmp_path / "two.pt")
    assert same(model, source.state_dict())
