"""The command line: reads words, calls the engine, prints. torch is imported only inside commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import click

from ganglion.engine.completion import SHELLS, VARIABLE, Completing, answer, script
from ganglion.engine.errors import EngineError, suggestion

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
COMMAND_GROUP = "ganglion.commands"  # entry points of further commands, so that help reads metadata only

LEARN_HELP = """Learn: NETWORKS (one per role, separated by commas) from DATASET, by key=value settings.

\b
  learn Generator,Discriminator Digits strategy=NSGAN
  learn Generator,Discriminator MNIST strategy=GAN batchSize=16 method=SGD learningRate=0.001
  learn tag=gan-mnist-1                      go on where a run stopped
  learn --job mnist-classifier               what a job file says

Keys: strategy= tag= iterations= batchSize= method= learningRate= ... ('ganglion show strategy GAN' lists a
strategy's, 'ganglion show job' those that every job has). ROLE.key=value is for one role.
"""


COMPARE_HELP = """Compare strategies on one data set: the same budget, and for each seed the same start, noise and data.

\b
  ganglion compare GAN,NSGAN,WGAN Ring networks=Generator,Discriminator seeds=10 budget=iterations:8000
  ganglion compare NSGAN,WGAN Ring networks=Generator,Discriminator budget=seconds:60 NSGAN.penalty=R1
  ganglion compare suite.yaml entries=A,B    what a suite file says

ENTRIES: strategies, or a suite. Keys: networks= seeds= budget= workers= against= metrics= figures= tag= clean=
('ganglion show compare'); others go to every job, LABEL.key=value to one entry, evaluate.key=value to the metrics.
The same command goes on where it stopped.
"""

SWEEP_HELP = """Search for the settings that make a figure best: give any key a range, and each trial draws a value.

\b
  ganglion sweep Generator,Discriminator Ring strategy=NSGAN learningRate='log(1e-5,1e-2)' \\
      batchSize='choice(16,64,256)' penalty='choice(none,R1,GP)' R1.weight='log(1e-3,10)' \\
      metric=transport-v1.w1:lower trials=40 budget=iterations:2000

Ranges: uniform(low,high), log(low,high), int(low,high), choice(a,b,...). A key of something that a trial has not chosen
is not drawn; 'log(1,10) if method=ADAM' says more. Keys: metric= trials= budget= sampler= pruner= seed= workers= lag=
tag= clean= ('ganglion show sweep'); others go to every trial, evaluate.key=value to the metric. The same command goes
on where it stopped; more trials= add to what there is. Needs ganglion[sweep].
"""

EXPORT_HELP = """Write a run's networks for use without Ganglion. TAG: the newest run if left out.

\b
  ganglion export TAG                        weights (.safetensors) and network file
  ganglion export TAG format=torch           an archive that torch alone runs (.pt2)
  ganglion export TAG format=onnx            a model for onnxruntime and others (.onnx)

Keys: format= role= (whose network; sample: all that makes samples) checkpoint= (latest, best, an iteration) out= (file
or folder) scale= (data, network) tolerance=. What goes in and comes out is described in a JSON file beside. Exits 1
when the export gives something else than the networks do; nothing is written then.
"""

CHECK_HELP = """Check a strategy, network, data set or gradient processor: does it do what every one of its kind must?

\b
  ganglion check my_gan.py:MyGAN Generator,Discriminator Circle size=256 batchSize=8
  ganglion check MyGAN                       on networks and data that fit its roles
  ganglion check my_network.yaml role=generator
  ganglion check Table path=points.csv

NAME: a registered name, path.py:Thing, or a network's YAML file. Keys are those of a job, or of what is checked; kind=
says what is meant where two things have one name, role= what a network plays, skip= leaves out checks by name.
Exits 0 when every check passes, 1 when one fails, 2 when the command is wrong.
"""


COMPLETION_HELP = """Print what makes a shell complete names, keys, values, tags and files of ganglion and learn.

\b
  ganglion completion bash > ~/.ganglion.bash       then, once: echo 'source ~/.ganglion.bash' >> ~/.bashrc
  ganglion completion zsh > ~/.zfunc/_ganglion      with 'fpath+=~/.zfunc' before 'compinit' in ~/.zshrc
  ganglion completion fish > ~/.config/fish/conf.d/ganglion.fish

For this shell alone: 'source <(ganglion completion bash)'. It answers from an index of what is installed, in the
folder of downloads (GANGLION_CACHE), which is made anew in the background when something has changed.
"""


class Suggesting(click.Group):
    """A group that answers a misspelt command with the nearest one, and finds further commands by entry point."""

    command_class = Completing

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return super().get_command(ctx, name) or self._from_entry_point(name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *(entry.name for entry in self._entry_points() if entry.name not in self.commands)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = name.startswith("-") or ctx.resilient_parsing or self.get_command(ctx, name) is not None
        if not known:
            raise click.UsageError(f"no such command '{name}'{suggestion(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, command.get_short_help_str(80)) for name, command in self.commands.items()]
        rows += [
            (entry.name, f"(from {entry.dist.name if entry.dist else entry.value})") for entry in self._entry_points()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _entry_points(self) -> list[Any]:
        from importlib.metadata import entry_points

        return sorted(entry_points(group=COMMAND_GROUP), key=lambda entry: entry.name)

    def _from_entry_point(self, name: str) -> click.Command | None:
        for entry in self._entry_points():
            if entry.name == name:
                command: click.Command = entry.load()
                return command
        return None


def runs_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--runs`: where run directories are."""
    return click.option("--runs", metavar="FOLDER", help="Folder of run directories (GANGLION_RUNS, or ./runs).")(
        function
    )


def plugin_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--plugin`: a local plugin file."""
    return click.option(
        "--plugin",
        "plugins",
        multiple=True,
        metavar="FILE.py",
        help="Load a local plugin file or module; may be given several times.",
    )(function)


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--engine` and `--address`: where a command that carries out many runs does so."""
    address = click.option("--address", metavar="HOST:PORT|auto", help="The Ray cluster; none: one for this command.")
    engine = click.option(
        "--engine", default="local", show_default=True, metavar="local|ray",
        help="Processes of this machine, or a Ray cluster.",
    )  # fmt: skip
    return engine(address(function))


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`: for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)


@click.group(cls=Suggesting, context_settings=CONTEXT)
@click.version_option(package_name="ganglion", prog_name="ganglion")
@click.pass_context
def cli(context: click.Context) -> None:
    """Ganglion: learning strategies for adversarial and time-series learning."""
    name = context.invoked_subcommand
    if name is not None and name in cli.commands and name != "learn" and "WORLD_SIZE" in os.environ:
        from ganglion.engine.launcher import refuse_several

        refuse_several(name)


@cli.command(name="learn", help=LEARN_HELP, context_settings=CONTEXT)
@click.argument("words", nargs=-1, metavar="[NETWORKS DATASET] [KEY=VALUE]...")
@click.option("--job", "job", metavar="NAME|FILE", help="Start from a job file; keys on the command line win.")
@plugin_option
@runs_option
@json_option
def learn_command(
    words: tuple[str, ...], job: str | None, plugins: tuple[str, ...], runs: str | None, as_json: bool
) -> None:
    from ganglion.engine.commands import learn

    learn(words, job, plugins, runs, as_json)


@cli.command(name="list")
@click.argument("kind", required=False)
@plugin_option
@json_option
def list_command(kind: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """List strategies, networks, data sets and everything else that can be named (KIND: one of them)."""
    from ganglion.engine.commands import list_things

    list_things(kind, plugins, as_json)


@cli.command(name="show")
@click.argument("kind")
@click.argument("name", required=False)
@plugin_option
@json_option
def show_command(kind: str, name: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """Show one thing with all its settings: 'show strategy WGAN', 'show dataset MNIST', 'show job'."""
    from ganglion.engine.commands import show

    show(kind, name, plugins, as_json)


@cli.command(name="runs")
@click.option("--all", "everything", is_flag=True, help="Those of comparisons and searches, too.")
@runs_option
@json_option
def runs_command(everything: bool, runs: str | None, as_json: bool) -> None:
    """List the runs, the newest first."""
    if everything:
        from ganglion.engine.queueview import show_queue

        show_queue(runs, as_json)
        return
    from ganglion.engine.commands import list_runs

    list_runs(runs, as_json)


@cli.command(name="sample")
@click.argument("words", nargs=-1, metavar="[TAG] [count=64] [out=samples.png] [seed=0] [checkpoint=latest]")
@plugin_option
@runs_option
@json_option
def sample_command(words: tuple[str, ...], plugins: tuple[str, ...], runs: str | None, as_json: bool) -> None:
    """Draw samples from a run, also while it is still learning. TAG: the newest run if left out.

    out= a file: .png (picture), .npz or .csv (numbers), .txt (text, where the data are text).
    """
    from ganglion.engine.commands import sample

    sample(words, plugins, runs, as_json)


@cli.command(name="evaluate")
@click.argument("words", nargs=-1, metavar="[TAG] [metric=NAME] [checkpoint=latest|best] [KEY=VALUE]...")
@plugin_option
@runs_option
@json_option
def evaluate_command(words: tuple[str, ...], plugins: tuple[str, ...], runs: str | None, as_json: bool) -> None:
    """Judge a run by the metrics that fit it, on its data set's test part. TAG: the newest run if left out."""
    from ganglion.engine.commands import evaluate

    evaluate(words, plugins, runs, as_json)


@cli.command(name="forecast")
@click.argument("words", nargs=-1, metavar="[TAG] [steps=200] [checkpoint=latest|best] [KEY=VALUE]...")
@plugin_option
@runs_option
@json_option
def forecast_command(words: tuple[str, ...], plugins: tuple[str, ...], runs: str | None, as_json: bool) -> None:
    """Continue unseen series from what is forecast itself; errors by horizon, predictions.png in the run's directory.

    TAG: the newest run if left out.
    """
    from ganglion.engine.forecastcommand import forecast

    forecast(words, plugins, runs, as_json)


@cli.command(name="report")
@click.argument("words", nargs=-1, metavar="[TAG]... [out=FILE.html] [better=METRIC.FIGURE:higher|lower,...]")
@runs_option
@json_option
def report_command(words: tuple[str, ...], runs: str | None, as_json: bool) -> None:
    """Write a web page of a run: curves, health, samples, evaluation, settings. TAG: the newest run if left out.

    Several tags stand side by side on one page. It opens from the disk and needs no network.
    """
    from ganglion.engine.reportcommand import report

    report(words, runs, as_json)


@cli.command(name="export", help=EXPORT_HELP, context_settings=CONTEXT)
@click.argument("words", nargs=-1, metavar="[TAG] [format=safetensors|torch|onnx] [role=ROLE] [KEY=VALUE]...")
@plugin_option
@runs_option
@json_option
def export_command(words: tuple[str, ...], plugins: tuple[str, ...], runs: str | None, as_json: bool) -> None:
    from ganglion.engine.exportcommand import export

    export(words, plugins, runs, as_json)


@cli.command(name="compare", help=COMPARE_HELP)
@click.argument("words", nargs=-1, metavar="ENTRIES [DATASET] [KEY=VALUE]...")
@engine_options
@plugin_option
@runs_option
@json_option
def compare_command(
    words: tuple[str, ...], engine: str, address: str | None, plugins: tuple[str, ...], runs: str | None, as_json: bool
) -> None:
    from ganglion.engine.commands import compare

    compare(words, plugins, runs, as_json, engine, address)


@cli.command(name="sweep", help=SWEEP_HELP)
@click.argument("words", nargs=-1, metavar="[NETWORKS DATASET] [KEY=VALUE|RANGE]...")
@engine_options
@plugin_option
@runs_option
@json_option
def sweep_command(
    words: tuple[str, ...], engine: str, address: str | None, plugins: tuple[str, ...], runs: str | None, as_json: bool
) -> None:
    from ganglion.engine.sweeps.command import sweep

    sweep(words, plugins, runs, as_json, engine, address)


@cli.command(name="verify-resume")
@click.argument("words", nargs=-1, metavar="[NETWORKS DATASET] [KEY=VALUE]...")
@click.option("--job", "job", metavar="NAME|FILE", help="Start from a job file; keys on the command line win.")
@click.option("--kills", default=5, show_default=True, type=click.IntRange(1, 1000), help="How often it is killed.")
@click.option(
    "--patience", default=300.0, show_default=True, type=click.FloatRange(1), metavar="SECONDS",
    help="Without a change of its files for so long, a process counts as stuck.",
)  # fmt: skip
@plugin_option
@runs_option
@json_option
def verify_resume_command(
    words: tuple[str, ...],
    job: str | None,
    kills: int,
    patience: float,
    plugins: tuple[str, ...],
    runs: str | None,
    as_json: bool,
) -> None:
    """Prove that a job resumes bit for bit: once straight, once killed (SIGKILL) and gone on with, all compared.

    Takes a job as 'learn' does; 200 iterations where none are given. Exits 1 and names the first difference if there
    is one. Without --runs both runs are in a temporary folder.
    """
    from ganglion.engine.verifycommand import verify_resume_command

    verify_resume_command(words, job, kills, patience, plugins, runs, as_json)


@cli.command(name="plugins")
@plugin_option
@json_option
def plugins_command(plugins: tuple[str, ...], as_json: bool) -> None:
    """List the plugins, those that failed to load with the reason."""
    from ganglion.engine.commands import list_plugins

    list_plugins(plugins, as_json)


@cli.command(name="new")
@click.argument("kind", type=click.Choice(["strategy"]))
@click.argument("name")
@click.option("--into", "folder", default=".", metavar="FOLDER", help="Existing folder to put the package into (here).")
def new_command(kind: str, name: str, folder: str) -> None:
    """Write a working plugin package with its test: 'new strategy MyGAN'."""
    from ganglion.engine.scaffold import new_strategy

    for line in new_strategy(name, folder):
        click.echo(line)


@cli.command(name="check", help=CHECK_HELP)
@click.argument("words", nargs=-1, required=True, metavar="NAME [NETWORKS DATASET] [KEY=VALUE]...")
@plugin_option
@json_option
def check_command(words: tuple[str, ...], plugins: tuple[str, ...], as_json: bool) -> None:
    from ganglion.engine.checkcommand import check

    check(words, plugins, as_json)


@cli.command(name="bench")
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--pairs", default=9, show_default=True, type=click.IntRange(1, 1000), help="Rounds.")
@click.option(
    "--seconds", default=2.0, show_default=True, type=click.FloatRange(0.001, 3600), metavar="SECONDS",
    help="How long each takes per round.",
)  # fmt: skip
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 1024), help="Threads of torch.")
@click.option("--device", default="cpu", show_default=True, help="Where all of them compute: cpu, cuda, cuda:1.")
@click.option("--processes/--no-processes", default=True, help="Whether start-up and memory are measured too.")
@json_option
def bench_command(
    tasks: tuple[str, ...],
    pairs: int,
    seconds: float,
    threads: int,
    device: str,
    processes: bool,
    as_json: bool,
) -> None:
    """Time the engine on this machine against loops written by hand: in turn, in one process, the same mathematics.

    TASK: circle, dianne, mnist-16, mnist-64, mnist-256, dcgan-28, wgan-gp, rgan-24, rgan-96, or overhead, what the
    engine adds to the torch calls of an iteration. All of them if left out: about half an hour.
    """
    from ganglion.engine.bench.measuring import How
    from ganglion.engine.benchcommand import bench_command

    bench_command(tasks, How(pairs, seconds, threads, device), processes, as_json)


@cli.command(name="dashboard")
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address than this lets others in.")
@click.option("--open/--no-browser", "opening", default=False, help="Whether to open the page in a browser, too.")
@plugin_option
@runs_option
@json_option
def dashboard_command(
    port: int, host: str, opening: bool, plugins: tuple[str, ...], runs: str | None, as_json: bool
) -> None:
    """Serve a live page: runs and their curves, samples as they come, a look at the generator, a form that starts jobs.

    Prints the page's address with a random token (GANGLION_DASHBOARD_TOKEN: one of your own). Ctrl-C ends the page;
    jobs that it started go on.
    """
    from ganglion.engine.dashboardcommand import dashboard

    dashboard(host, port, opening, plugins, runs, as_json)


@cli.command(name="completion", help=COMPLETION_HELP, context_settings=CONTEXT)
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    from ganglion.engine.completionindex import read_index

    read_index()  # made in the background where it is missing, so that the first question finds it
    click.echo(script(shell), nl=False)


@cli.command(name="doctor")
@runs_option
@json_option
def doctor_command(runs: str | None, as_json: bool) -> None:
    """Look at this machine: versions, devices, threads, data folders, plugins; say what to do about what is wrong."""
    from ganglion.engine.commands import doctor

    doctor(runs, as_json)


def main(arguments: list[str] | None = None) -> None:
    """The command `ganglion`."""
    run_command(cli, arguments, "ganglion")


def learn_main(arguments: list[str] | None = None) -> None:
    """The command `learn`."""
    run_command(learn_command, arguments, "learn")


def run_command(command: click.Command, arguments: list[str] | None, name: str) -> None:
    """Run a command; an EngineError is one sentence on stderr and its exit code, anything else escapes."""
    if VARIABLE in os.environ:  # it is a shell that asks, not a person
        answer(command, name)
        sys.exit(0)
    from ganglion.engine.bugs import watch

    watch(name)
    try:
        code = command.main(args=arguments, prog_name=name, standalone_mode=False)
    except EngineError as error:
        if not error.told:
            complain(name, str(error))
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        complain(name, _usage(error, name))
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        reason = str(error.__cause__ or "" if isinstance(error, click.Abort) else error)  # click raises its own
        complain(name, f"stopped: {reason}" if reason else "stopped")
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def complain(name: str, sentence: str) -> None:
    """One line on stderr. It may quote what came from anywhere, so nothing in it reaches the terminal as a command."""
    from ganglion.engine.tables import one_line

    click.echo(one_line(f"{name}: {sentence}"), err=True)


def _usage(error: click.ClickException, name: str) -> str:
    """What click says of wrong options and arguments, as one sentence that ends with what to type."""
    text = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command_path if context else name
    hint = "" if "id you mean" in text else f"; '{command} --help' shows what there is"
    return f"{text[:1].lower()}{text[1:]}{hint}"
