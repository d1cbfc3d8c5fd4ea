"""Station 1, the command: help that fits on a page. Costs no import of torch."""

from __future__ import annotations

from ..plugin.builtin import deqlight_configs

__all__ = ["command_help", "experiments", "general_help"]

GENERAL = """\
deqlight: train neural networks inspired by differential equations, with any integrator.

usage: deqlight COMMAND [options]

  fit          train an experiment:           deqlight fit -c resnet_digits
  test         score a trained network:       deqlight test --ckpt_path best
  validate     score it on the validation part
  predict      write its predictions to a CSV file
  sample       what a trained generator makes of noise:  deqlight sample -c edm_points --ckpt_path best
  likelihood   how likely the data are by it:  deqlight likelihood -c edm_points --ckpt_path best
  bench        compare solvers and gradients:  deqlight bench -c neural_ode_digits
  compare      several experiments, several seeds, one table:  deqlight compare resnet_digits heun_digits
  export       a trained network for others:  deqlight export --ckpt_path best
  reproduce    run a recorded run again, and compare:  deqlight reproduce runs/resnet_digits/version_0
  doctor       what a run would find on this machine, and what is broken
  plugins      list the plugins, what each brings, and why one is disabled
  check NAME   measure what a solver or gradient claims:  deqlight check Heun

  --plugin FILE.py   load a plugin of one file (anywhere on the line, more than once)
  --debug            show the traceback of an error
  --version          print the version
  --help             this page; deqlight COMMAND --help tells about a command

experiments: {experiments}
"""

RUN = """\
usage: deqlight {command} -c EXPERIMENT [options]

{about}

  -c, --config NAME|FILE             an experiment by name, or a YAML file; later ones are laid over earlier ones
  --ckpt_path FILE|last|best{auto}    {ckpt}
  --seed_everything N                seed of weights, order and noise
  --name NAME                        name of the experiment [the config's]
  --runs DIR                         folder of all runs [runs]
  --model.net.solver NAME            the integrator: Euler, Heun, RK4, LinearTwoStep, Leapfrog, Dopri5 ...
  --model.net.solver.OPTION X        its own options
  --model.net.controller NAME        step control: Constant (steps, dt), PID (rtol, atol)
  --model.net.gradient NAME          Direct, Reversible
  --model.net.on_failure NAME        samples that fail: Raise, Freeze, Fallback (solver)
  --model.optimizer NAME             an optimiser of torch.optim; --model.optimizer.lr X
  --model.scheduler NAME             a schedule of torch.optim.lr_scheduler
  --data NAME, --data.OPTION X       the data module; --data.batch_size N
  --last.every_n_steps N             a checkpoint after each N steps, too, not after each epoch alone
  --best.monitor METRIC              which metric says what is best [val/accuracy]; --best.mode max|min
  --trainer.max_epochs N             how long
  --trainer.accelerator NAME         cpu, gpu, auto
  --trainer.devices N                with --trainer.strategy ddp; --timeout SECONDS: how long a rank waits for another
  --trainer.precision P              32-true, bf16-mixed, 64-true ...
  --trainer.gradient_clip_val X      clip gradients
  --trainer.limit_train_batches N    part of the data (also val, test)
  --trainer.logger false             write no metrics
  --trainer.fast_dev_run true        one batch of everything, to see that it runs
  --print_config                     print the configuration that results, and stop
  --plugin FILE.py                   load a plugin of one file
  --debug  --trust                   show tracebacks; believe a checkpoint's configuration whatever it imports
  --help-all                         every option there is

examples:
  deqlight {command} {first}
  deqlight {command} {second}

experiments: {experiments}, and those of installed plugins
"""

FIT = """\
Train. Writes the configuration, metrics (CSV, TensorBoard) and checkpoints to runs/NAME/version_N.
Ctrl-C saves, and says how to go on."""
WEIGHTS = "the weights, and the configuration they were trained with"
EVALUATE = ("--ckpt_path best", "-c neural_ode_digits --ckpt_path best --model.net.controller.rtol 1e-4")
ABOUT = {
    "fit": (
        FIT,
        "go on from there, with its configuration",
        ("-c resnet_digits", "-c resnet_digits --model.net.solver Heun"),
    ),
    "test": ("Score a network on the test part.", WEIGHTS, EVALUATE),
    "validate": ("Score a network on the validation part.", WEIGHTS, EVALUATE),
    "predict": ("Write the predictions for the test part to predictions.csv.", WEIGHTS, EVALUATE),
}
PLUGINS = """\
usage: deqlight plugins [--plugin FILE.py]

List every plugin: version, hooks, classes, state and reason.
"""
CHECK = """\
usage: deqlight check NAME [--plugin FILE.py]

Measure what a solver claims (its order, its cost, its inverse), or how right a gradient rule is. Exits with 1 if a
claim fails.
"""
BENCH = """\
usage: deqlight bench -c EXPERIMENT [--solvers A,B] [--gradients C,D] [options]

Before choosing a solver: the network, one batch and the loss of an experiment, with several solvers and gradient
methods. Time of a forward pass and of both passes, measured in turn; field evaluations both ways, steps, MiB kept for
the backward pass and held at most, and how far the gradients are off. What does not go together is told beneath the
table.

  -c, --config NAME|FILE       an experiment by name, or a YAML file
  --ckpt_path FILE|last|best   with trained weights; their configuration, unless -c names another
  --solvers A,B,...            solvers [the experiment's own, and two others]
  --gradients A,B,...          gradient methods [the experiment's own, and others that go with its solver]
  --controllers A,B,...        step control [the experiment's own]
                               options are written NAME:option=value, as in Checkpoint:budget=8, Constant:steps=8
  --rounds N                   how often each is timed [10]
  --reference TOL              tolerance of the solution that gradients of neural ODEs are compared with [1e-6]
  --device NAME                cpu, cuda [cuda if there is one]
  --output FILE.json           write the numbers as well
  --data.batch_size N, --model.net.OPTION X, ...   as for deqlight fit
  --plugin FILE.py             load a plugin of one file

examples:
  deqlight bench -c neural_ode_digits --solvers Dopri5,Heun,Bosh3 --gradients Direct,Checkpoint,Backsolve
  deqlight bench -c neural_ode_digits --solvers RK4,Midpoint --controllers Constant:steps=4,Constant:steps=8
"""
COMPARE = """\
usage: deqlight compare EXPERIMENT [EXPERIMENT ...] [--seeds N] [--out DIR] [options]

Train and test each experiment with each seed, and write one table: mean and spread of the test's metric, parameters,
field evaluations, time and memory. Each cell, an experiment and a seed, is trained as by deqlight fit and tested as by
deqlight test --ckpt_path best (last, where none is best), in a process of its own. What has ended is kept: the same
command goes on where it was stopped, and a changed configuration, option or version is run anew. A cell that fails
stays in the table with its reason, and the others go on. Exits with 1 if one failed.

  EXPERIMENT ...               experiments by name, or YAML files; a row each
  --seeds N|A,B,...            how many seeds (3 means 0, 1, 2), or a list [3]
  --out DIR                    folder of the comparison: cells.csv, table.csv, table.md, table.png, and all runs
                               [runs/compare]; all that was run there is in its table
  --retry                      run cells again that failed
  --draw                       train nothing, write the table of what is there
  -c, --config FILE            a YAML file to lay over every experiment
  --trainer.max_epochs N, --model.net.OPTION X, ...   as for deqlight fit, for every experiment
  --plugin FILE.py             load a plugin of one file

examples:
  deqlight compare resnet_digits revnet_digits mine.yaml --seeds 5
  deqlight compare resnet_digits --seeds 0,5,7 --out runs/short --trainer.max_epochs 5
"""
SAMPLE = """\
usage: deqlight sample --ckpt_path FILE|last|best [options]

Draw samples from a trained generator, a checkpoint of the task Generate, by any solver: samples.npy, samples.json (how
they were made) and, of images and of points in the plane, samples.png. Sample number i is a function of the seed and i
alone, and of its class: the same in any batch, however many are drawn.

  -c, --config NAME|FILE       an experiment by name: whose last or best checkpoint; its configuration beats the file's
  --ckpt_path FILE|last|best   the weights, and the configuration they were trained with
  --n N                        how many samples [64]
  --first N                    number of the first, to go on where another call has ended [0]
  --seed N                     of the noise [0]
  --classes A,B,...            classes in turn, for networks that are told them; -1 is none [all]
  --batch_size N               how many at once [256]
  --out DIR                    where to write [a new folder below the run of the checkpoint]
  --device NAME                cpu, cuda [cuda if there is one]
  --plugin FILE.py             load a plugin of one file

of the sampler [as the checkpoint has it]:
  --solver NAME                DDIM, DPMpp2M, UniPC, DDPM, RK4, Dopri5 ...; --solver.OPTION X. AnalyticDPM measures the
                               power of the network's noise first, on data of the training part
  --steps N                    how many steps
  --grid NAME                  where they are: UniformLogSNR, UniformTime, Quadratic, Karras
  --controller PID             measured steps in their place; --controller.rtol X --controller.atol X
  --guidance NAME              how much classes are heeded: ClassifierFree; --guidance.scale X
  --threshold NAME             where pixels are kept: DynamicThreshold, StaticThreshold
  --eta X                      noise that is drawn, for solvers of any stochastic equation
  --variable rho|t             what is solved in: the noise, or the schedule's time (flows)

examples:
  deqlight sample -c edm_points --ckpt_path best --n 2000 --solver UniPC --steps 10
  deqlight sample -c diffusion_digits --ckpt_path best --classes 3,7 --guidance ClassifierFree --guidance.scale 2
"""
LIKELIHOOD = """\
usage: deqlight likelihood --ckpt_path FILE|last|best [options]

How likely data are by a trained generator, a checkpoint of the task Generate, by its probability flow: the mean
log-density in nats and bits per dimension, with standard errors, and each sample's in likelihood.csv. Densities are
those of the data as they are, whatever the network sees.

  -c, --config NAME|FILE       an experiment by name: whose last or best checkpoint; its configuration beats the file's
  --ckpt_path FILE|last|best   the weights, and the configuration they were trained with
  --part test|val|train        which part of the data [test]
  --n N                        how many samples, the first of the data set; 0 takes all [0]
  --width X                    how far apart levels are, 1/16 for the digits, 1/255 for bytes over 255: a level stands
                               for all numbers around it; 0 where data have none [0]
  --unconditional              tell the network no classes: --unconditional true
  --solver NAME                a solver of ordinary equations [Dopri5]; --solver.OPTION X
  --controller NAME            its steps [PID, 1e-5]: PID (rtol, atol), Constant (steps)
  --trace NAME                 Exact, or Hutchinson (draws, law) [Exact up to 16 dimensions, then Hutchinson]
  --seed N                     of what is drawn [0]
  --batch_size N               how many at once [256]
  --out FILE.csv               where to write [a new folder below the run of the checkpoint]
  --device NAME                cpu, cuda [cuda if there is one]
  --plugin FILE.py             load a plugin of one file

examples:
  deqlight likelihood -c edm_points --ckpt_path best
  deqlight likelihood -c diffusion_digits --ckpt_path best --n 100 --width 0.0625 --trace Exact
"""
EXPORT = """\
usage: deqlight export --ckpt_path FILE|last|best [--format NAME] [--out DIR]

Write a trained network for others, with a model card (README.md: what it is, its data, metrics, versions, how to load
it) and its configuration. Weights are numbers alone, which deqlight.load("DIR/model.safetensors") makes the network of
again; they need the package safetensors (the extra `export`). A program of torch.export needs torch alone to run; it
has been run on a batch before it is written. Measured steps have no such program: take Constant(steps=…).

  -c, --config NAME|FILE       an experiment by name: whose last or best checkpoint; its configuration beats the file's
  --ckpt_path FILE|last|best   the weights, and the configuration they were trained with
  --format NAME                safetensors, torch_export [safetensors]
  --out DIR                    where to write [a new folder below the run of the checkpoint]
  --model.net.controller Constant, ...   as for deqlight fit
  --trust                      believe a checkpoint's configuration whatever it imports
  --plugin FILE.py             load a plugin of one file

examples:
  deqlight export -c resnet_digits --ckpt_path best --out resnet
  deqlight export -c resnet_digits --ckpt_path best --format torch_export
"""
REPRODUCE = """\
usage: deqlight reproduce RUN [--tolerance X]

Run what the folder of a run records (manifest.json) again, into RUN/reproduce/version_N, and compare the last metrics
and the last checkpoint's weights: the same bit for bit, or how far off, and what differs in versions and machine. Exits
with 1 where either is further off than the tolerance.

  RUN                          the folder of a run that came to its end: runs/NAME/version_N
  --tolerance X                the largest difference of a metric or a weight that is allowed [0]
  --trust                      believe the recorded configuration whatever it imports
  --plugin FILE.py             a plugin of one file that the run had

examples:
  deqlight reproduce runs/resnet_digits/version_0
  deqlight reproduce runs/resnet_digits/version_0 --tolerance 1e-5
"""
DOCTOR = """\
usage: deqlight doctor [-c EXPERIMENT] [--runs DIR] [--compile false]

What a run would find here: versions, and whether each package can be imported; devices and threads; backends,
interfaces, and what the machine's own name resolves to (127.0.0.1 breaks gloo across machines); whether folders can be
written; plugins; variables of torchrun, SLURM, gloo and NCCL; whether torch.compile works. Exits with 1 where something
is broken; what is only to be noted is no fault.

  -c, --config NAME|FILE       tell where the graph of an experiment's network breaks under torch.compile; this is slow
  --runs DIR                   folder of all runs [runs]
  --compile false              do not try torch.compile, which takes seconds
  --plugin FILE.py             load a plugin of one file
"""
OTHERS = {
    "export": EXPORT,
    "reproduce": REPRODUCE,
    "doctor": DOCTOR,
    "sample": SAMPLE,
    "likelihood": LIKELIHOOD,
    "bench": BENCH,
    "compare": COMPARE,
    "plugins": PLUGINS,
    "check": CHECK,
}


def experiments() -> list[str]:
    """The names of deqlight's own experiments."""
    return sorted(path.stem for folder in deqlight_configs() for path in (folder / "experiment").glob("*.yaml"))


def general_help() -> str:
    """The page for `deqlight --help`."""
    return GENERAL.format(experiments=", ".join(experiments()))


def command_help(command: str) -> str:
    """The page for `deqlight COMMAND --help`."""
    if command in OTHERS:
        return OTHERS[command]
    about, ckpt, (first, second) = ABOUT[command]
    shown = ", ".join(experiments())
    auto = "|auto" if command == "fit" else "     "
    return RUN.format(auto=auto, command=command, about=about, ckpt=ckpt, first=first, second=second, experiments=shown)
