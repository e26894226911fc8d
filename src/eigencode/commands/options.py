"""What a command can be told: one frozen dataclass for each, used by Python, YAML and the command line alike.

Nothing heavy is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from eigencode._codes import Channels, Tokens, Units  # noqa: F401 - the parser looks for the types of what is inherited here
from eigencode.measurement.settings import MeasuringOptions
from eigencode.perturbations.specification import GradientSteps, Made, PerturbationOptions
from eigencode.training.settings import (  # noqa: F401 - likewise
    AdversarialSettings,
    GridOptions,
    JacobianKind,
    Numbers,
    Optimizer,
    Rule,
    Schedule,
    SpectralSettings,
    TrainingOptions,
)


@dataclass(frozen=True)
class NetworkAndImages:
    """A network, its images, and where to run.

    Args:
        model: Network: a paper's (gerum_shallow_mlp, gerum_deep_mlp, gerum_cnn, schaeffer_cnn, cifar_resnet50, jiang_mlp),
            torchvision:NAME, timm:NAME, hf:NAME_OR_FOLDER (transformers), file:PATH.py:FACTORY or
            module:PACKAGE.MODULE:FACTORY (which run the code that they name), or (measure) schaeffer2020 for that paper's eleven.
        weights: Checkpoint file (.safetensors, .pt), or for torchvision and timm the name of their own (DEFAULT). hf has its
            weights in its folder; random leaves it as it is initialised.
        data: Images: digits, mnist, fashion_mnist, cifar10, image_folder:PATH, tensors:PATH or ilyas:PATH; or (measure) texts:
            tokens:PATH (.npz, .safetensors) with input_ids and attention_mask.
        split: Part of the data set.
        data_root: Folder of data sets in torchvision's layout. Default: EIGENCODE_DATA, else the user's cache.
        count: Size of the random subset of images. Default: all.
        image_size: For image folders: side of the centre square, after resizing the shorter side to it.
        transform: For image folders, in place of image_size: imagenet (shorter side 256, centre 224); model, which resizes and
            cuts as those did who trained the network (torchvision, timm, hf); or resize, the same for pictures that are
            squares already: to the network's own side, with nothing cut away.
        grey: For image folders: one channel, in place of red, green and blue.
        mean: Mean of each channel, of images in [0, 1], that is taken from them before the network, such as 0.485,0.456,0.406.
            Default: what the network was trained with, as far as it is known (torchvision, timm, hf).
        std: Standard deviation of each channel, by which they are divided then.
        classes: Number of classes, for networks that are built with it. For image folders, a file with the names of all classes,
            one on each line in the order of the network's outputs, of which the folders are some.
        out: Folder for results. Default: write nothing.
        overwrite: Replace results that are in the folder already, and remove those of another command, trained networks too.
            Training that was left unfinished there goes on all the same; a state of another configuration is replaced.
        json: Print the record as JSON on stdout in place of the table.
        batch_size: Images taken at once.
        device: cpu, cuda, cuda:1. Default: cuda where there is one.
        seed: Seed of every random choice.
    """

    model: str | None = None
    weights: str | None = None
    data: str = "digits"
    split: Literal["train", "test"] = "test"
    data_root: str | None = None
    count: int | None = None
    image_size: int | None = None
    transform: str | None = None
    grey: bool = False
    mean: str | float | list[float] | None = None
    std: str | float | list[float] | None = None
    classes: int | str | None = None
    out: str | None = None
    overwrite: bool = False
    json: bool = False
    batch_size: int = 128
    device: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class SpectraOfLayers(MeasuringOptions, NetworkAndImages):
    """Which layers are measured, and how.

    Args:
        seed: Seed of every random choice.
        layers: head (or penultimate: what the last weighted module on the way to the scores reads), blocks (the repeated
            blocks), all (modules that call no others), names such as conv1, relu#2 or fc.input, or globs, separated by commas.
        ranks: Fit window: jiang (1-10), gerum (6-50), schaeffer (10-316), schaeffer_output (10-100), alpha_req (11-100,
            weights 1/n), stringer (11-500, weights 1/n), or two ranks such as 6-50, if need be with their weights:
            "11-200, weights inverse_rank".
    """

    layers: str = "penultimate"
    ranks: str = "gerum"


@dataclass(frozen=True)
class RecordingOptions:
    """A recording, and how its file is read.

    Args:
        recording: Recording (.npy, .npz, .mat, .h5, .nwb): neurons x stimuli, 2 x neurons x stimuli for two repeats, or as
            recording_axes says. It is measured in place of a network, or beside it if model is given too; of a paper's study,
            it is drawn beside the networks where the paper draws one. Files of several sessions with the same stimuli, separated
            by commas, are taken together.
        recording_variable: Name of the array in the recording's file, such as stim.resp; of an NWB file units, or the name of a
            RoiResponseSeries.
        recording_axes: What each axis of the array is: neurons, stimuli and repeats, or neurons and presentations, separated by
            commas.
        recording_stimuli: Name of the vector that says which stimulus each presentation was, or of the column in an NWB file,
            such as trials.image_id. Default: istim, stimuli or stimulus_ids beside the array.
        recording_window: Seconds after the start of each presentation in which responses of an NWB file are counted, such as
            0.05,0.25. Default: to its end.
        recording_leave_out: Numbers of stimuli that are left out, such as blanks, as the file numbers them.
        recording_missing: What is left out where some neurons have no response (NaN) to a presentation: those neurons, those
            presentations, or nothing (refuse).
        recording_spontaneous: Name of an array of activity without stimuli in the file, whose leading principal components are
            taken away from the responses.
        recording_components: How many of them.
        recording_neurons: recorded: intervals are over stimuli, for these neurons. sampled: intervals are over neurons too, and
            there is a dimension in all neurons that these are a sample of; it takes up to 50 times longer.
    """

    recording: str | None = None
    recording_variable: str | None = None
    recording_axes: str | list[str] | None = None
    recording_stimuli: str | None = None
    recording_window: str | list[float] | None = None
    recording_leave_out: str | int | list[int] | None = None
    recording_missing: Literal["refuse", "neurons", "presentations"] = "refuse"
    recording_spontaneous: str | None = None
    recording_components: int = 32
    recording_neurons: Literal["recorded", "sampled"] = "recorded"


@dataclass(frozen=True)
class MeasureConfig(RecordingOptions, SpectraOfLayers):
    """Measure the eigenspectrum, exponent and dimension of a network's layers, or of a recording."""


@dataclass(frozen=True)
class AttackConfig(SpectraOfLayers, PerturbationOptions):
    """Perturb or attack images, and read accuracy, exponent and dimension of every layer at every strength.

    Args:
        perturbation: gaussian, pure_noise (noise alone, of mean 0), grey_noise (of mean 0.5), pca, zca, fgsm, pgd,
            layer_gaussian, layer_fgsm or art:NAME (an attack of the adversarial-robustness-toolbox); several with the same
            strengths, separated by commas.
        strengths: first:last:step (both ends included) or numbers separated by commas, such as 0,2/255,4/255. Standard
            deviation of noise, epsilon of an attack (input units; units of the layer's input for layer_...), number of
            components for pca, epsilon added to the variances for zca.
        mode: Every epsilon on its own (as in the papers), or nested: images once fooled are attacked no more.
        probe: Images on which an attack is checked against others for the reliability flags. 0 for none.
        components: File of principal components for pca and zca, written by an earlier run. Default: fitted on the
            training images of the data set and written to the folder.
    """

    layers: str = "all"
    perturbation: str | list[str] = "gaussian"
    strengths: str | float | list[float] = "0:0.5:0.05"
    mode: Literal["independent", "nested"] = "independent"
    probe: int = 100
    components: str | None = None


@dataclass(frozen=True)
class ConstructConfig(NetworkAndImages):
    """Build a data set of robust, non-robust or adversarially labelled images from a network (Ilyas et al. 2019).

    Args:
        kind: robust and non_robust replace each image by one with the same code in the network, started from another image
            (robust if the network was trained adversarially); the others move it to a random target class, or the next one.
        epsilon: Budget of the target sets, l2, input units.
        steps: Gradient steps. Default: 1000 for robust and non_robust, 100 for targets.
        step_size: Length of a step, l2, input units.
        layer: Layer whose code is matched.
    """

    split: Literal["train", "test"] = "train"
    kind: Made = "non_robust"
    epsilon: float = 0.5
    steps: int | None = None
    step_size: float = 0.1
    layer: str = "penultimate"


@dataclass(frozen=True)
class RobustnessConfig(GradientSteps):
    """Attacks on the trained networks, on held-out images.

    Args:
        attacks: fgsm, pgd or both, separated by commas. Empty: none.
        epsilons: Budgets, input units, separated by commas.
        count: Held-out images attacked.
    """

    attacks: str = ""
    epsilons: Numbers = "0.05"
    count: int = 1000


@dataclass(frozen=True)
class TrainConfig(TrainingOptions, GridOptions, NetworkAndImages):
    """Train networks whose code decays as asked, for several seeds and settings side by side.

    The networks are the grid of all targets, weights of penalties and seeds; several numbers are separated by commas. A run that
    was killed goes on when the command is given again.

    Args:
        split: Part of the data set to train on; the other part is held out for accuracy and exponents.
        batch_size: Images in a batch; the last batch of an epoch may be smaller.
        width: Units in each layer of jiang_mlp. Default: 200.
        depth: Its layers. Default: 8.
        classifier_std: Standard deviation of the fixed classifiers J of jiang_mlp. Default: 0.3.
        initial_gain: Standard deviation of its initial weights, in units of 1/sqrt(inputs). Default: the square root of 2.
        seeds: Networks for each setting, with seeds seed, seed + 1, ...
        learning_rate: Learning rate at the first epoch.
        covariance_kind: Covariance over the batch, or outer products of each image's code (per_sample).
        jacobian_kind: exact Frobenius norm of the Jacobian; projected on random vectors (Hoffman et al. 2019); or column_sum,
            the norm of the sum over classes (Schaeffer et al. 2020).
        jacobian_projections: Random vectors for each image, for projected.
        jacobian_squared: Half the mean square in place of the mean norm.
        spectral: Where and how eigenspectra are penalised and measured.
        adversarial: Training on attacked images.
        robustness: Attacks after training.
        clip: Largest norm of a network's gradient.
        stack: Networks trained as one stacked program. Default: as many as is fast on this device.
    """

    model: str | None = "gerum_shallow_mlp"
    split: Literal["train", "test"] = "train"
    width: int | None = None
    depth: int | None = None
    classifier_std: float | None = None
    initial_gain: float | None = None
    seeds: int = 1
    learning_rate: float = 1e-4
    jacobian_kind: JacobianKind = "exact"
    jacobian_projections: int = 1
    jacobian_squared: bool = False
    robustness: RobustnessConfig = field(default_factory=RobustnessConfig)
    stack: int | None = None

    def __post_init__(self) -> None:
        """Leaves all checks to those of options, which speak of them as they are written."""


@dataclass(frozen=True)
class StudyChoice:
    """A study and where its cells are kept.

    Args:
        name: Study: jiang2020, gerum2022, schaeffer2020 (all figures), one figure such as jiang2020.fig5, or a YAML file.
        scale: Settings of a paper's study: as in the paper, as far as two cores go (cpu), or quick.
        smoke: Shrink the study to seconds, on bundled digits.
        set: Fields to change, such as "training.epochs=3 seeds=2 grid.member.target=1,2".
        store: SQLite file with the finished cells, or a database URL.
        data_root: Folder of data sets in torchvision's layout. Default: EIGENCODE_DATA, else the user's cache.
    """

    name: str | None = None
    scale: Literal["paper", "cpu", "quick"] = "cpu"
    smoke: bool = False
    set: str = ""
    store: str = "studies/store.sqlite"
    data_root: str | None = None


@dataclass(frozen=True)
class StudyRun(StudyChoice):
    """How a study is run.

    Args:
        engine: local (this process), or ray (the machines of a Ray cluster).
        address: Of a running Ray cluster. Default: Ray on this machine alone.
        cpus: Cores of each group, for ray.
        gpus: GPUs of each group, or a fraction of one, for ray.
        retries: Times that a group is started again when its worker dies, for ray.
        device: cpu, cuda, cuda:1. Default: cuda where there is one.
        stack: Networks trained as one stacked program. Default: as many as is fast on this device.
        again: Run finished cells again.
        retry: Run cells again that failed.
    """

    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    retries: int = 3
    device: str | None = None
    stack: int | None = None
    again: bool = False
    retry: bool = False


@dataclass(frozen=True)
class StudyConfig(StudyRun):
    """List, show, plan, run or merge studies: networks trained over a grid, each measured and attacked, kept in a store.

    Finished cells are never run twice; a run that was killed goes on when the command is given again.

    Args:
        action: list the shipped studies; show one as YAML; plan: say what would run, whose code, and about how long; run it; or
            merge into --store what another store has. Only run runs code that a study names.
        name: Study: jiang2020, gerum2022, schaeffer2020 (all figures), one figure such as jiang2020.fig5, or a YAML file; for
            merge the other store, an SQLite file or a database URL.
        json: Print JSON on stdout in place of tables.
    """

    positionals: ClassVar[tuple[str, ...]] = ("action", "name")

    action: Literal["list", "show", "plan", "run", "merge"] = "list"
    name: str | None = None
    json: bool = False


@dataclass(frozen=True)
class StudyReading(StudyChoice):
    """How finished cells are read.

    Args:
        ranks: Fit the kept spectra again over other ranks than the study's: two, such as 10-100, or a window's name.
    """

    ranks: str | None = None


@dataclass(frozen=True)
class ReportConfig(RecordingOptions, StudyReading):
    """Report of a study from the cells that are finished: figures, claims, what was run on what; one HTML file.

    Args:
        windows: Judge claims over other windows of ranks too, such as 3-30,10-50,10-100.
        out: Folder for the report. Default: reproductions/NAME-SCALE, and the ranks if they are given.
        json: Print the claims as JSON on stdout in place of the table.
    """

    positionals: ClassVar[tuple[str, ...]] = ("name",)

    windows: str = ""
    out: str | None = None
    json: bool = False


@dataclass(frozen=True)
class ReproduceConfig(ReportConfig, StudyRun):
    """Measure a paper's claims again: run what is missing of its study, draw its figures, and judge each claim."""


@dataclass(frozen=True)
class ResultsConfig(StudyReading):
    """Results of finished cells: filter them, average them, export them.

    Args:
        where: Conditions such as "quantity=alpha,dimension perturbation=unperturbed layer=tanh1".
        group: Columns, separated by commas, by whose values mean, standard deviation and count are given.
        against: Differences from the networks that meet these conditions, such as beta=0, of the same seed; with --group their
            means have 95 % intervals.
        all_epochs: Rows of every epoch, not of the last alone.
        export: File to write: .csv or .parquet.
        json: Print JSON on stdout in place of the table.
    """

    positionals: ClassVar[tuple[str, ...]] = ("name",)

    where: str = ""
    group: str = ""
    against: str = ""
    all_epochs: bool = False
    export: str | None = None
    json: bool = False


@dataclass(frozen=True)
class DoctorConfig:
    """Say which versions, devices and data there are, and what is missing with the command that fixes it.

    Args:
        data_root: Folder of data sets in torchvision's layout. Default: EIGENCODE_DATA, else the user's cache.
    """

    data_root: str | None = field(default=None)
