"""The command line: ``prospect --help`` or ``python -m prospect_lib --help`` lists its commands."""

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from prospect_lib.errors import ProspectError, SettingsError, one_line
from prospect_lib.settings import Settings

if TYPE_CHECKING:
    from prospect_lib.problem import ScoringProblem

Adder = Callable[[argparse.ArgumentParser], None]
Runner = Callable[[Settings, argparse.Namespace], int | None]
BACKENDS = ("sandbox", "snowflake", "databricks", "sample")
DESCRIPTION = """\
Real-time prospect scoring: from website events to a trained model and live scores.
Without secrets, every command works on this machine alone, with simulated visitors."""
STATE_HELP = """\
State is in PROSPECT_HOME (default ~/.prospect). Ports are PROSPECT_PORT (sandbox, 9090) and
PREDICT_PORT (scores, 9091). Secrets come from the environment or a file .env."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's error is printed as one line."""
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        settings = Settings.load()
        try:
            return int(options.run(settings, options) or 0)
        except OSError as error:
            raise _of_the_system(error, settings.home) from error
    except ProspectError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


def _of_the_system(error: OSError, home: Path) -> SettingsError:
    """Return the error of a file, a disk or a connection that the system refuses."""
    reason = error.strerror or one_line(error) or type(error).__name__
    file = re.sub(r"\.(?=[^/]*$)(.+)\.[0-9a-f]{32}\.draft$", r"\1", str(error.filename or ""))
    is_home = not file or Path(file).is_relative_to(home)
    remedy = "; PROSPECT_HOME names the home" if is_home else ", or name another file"
    name = f"{file}: " if file else ""
    return SettingsError(f"{name}{reason}. Check the disk and who may write there{remedy}.")


class _Parser(argparse.ArgumentParser):
    """Prints an error as one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}. For the options: {self.prog} --help\n")


def _parser() -> _Parser:
    called_as_module = Path(sys.argv[0]).name == "__main__.py"
    parser = _Parser(
        prog="python -m prospect_lib" if called_as_module else "prospect",
        description=DESCRIPTION,
        epilog=STATE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="command", title="commands")

    def command(name: str, add: Adder, run: Runner, summary: str) -> None:
        parser = commands.add_parser(name, help=summary)
        add(parser)
        parser.set_defaults(run=run, parser=parser)

    command("demo", _add_demo, _demo, "run the whole path, from events to a live score")
    command(
        "new", _add_new, _new, "write a commented file to score visitors of a website of your own"
    )
    command(
        "sandbox", _add_sandbox, _sandbox, "start, stop or reset the sandbox, the local Snowplow"
    )
    command("simulate", _add_simulate, _simulate, "send simulated visitors' events to the sandbox")
    command(
        "train", _add_train, _train, "train a model, and promote it if it beats the promoted one"
    )
    command("publish", _add_publish, _publish, "publish attributes and their service to Signals")
    command("status", _add_status, _status, "show what is published, and what differs from here")
    command("unpublish", _add_unpublish, _unpublish, "take the service and the attributes back")
    command("serve", _add_serve, _serve, "serve scores of the promoted model over HTTP")
    command(
        "audit", _add_audit, _audit, "check served scores against the warehouse and the outcomes"
    )
    command(
        "doctor", _add_doctor, _doctor, "check this machine, and say how to correct each problem"
    )
    return parser


def _add_problem(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--problem",
        metavar="FILE",
        help="Python file (or module:name) with the scoring problem of your own website, as "
        "`new` writes it (default: PROSPECT_PROBLEM if it is set, else the demo website's)",
    )


def _add_yes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--yes",
        action="store_true",
        help="read a remote warehouse without asking, once it is said how much is scanned",
    )


def _before_read(options: argparse.Namespace) -> Callable[[str], None]:
    """Return what prints how much will be scanned, and asks whether to go on."""

    def ask(sentence: str) -> None:
        if not options.yes and not sys.stdin.isatty():
            raise SettingsError(f"{sentence} Nobody is here to agree: add --yes to read them.")
        print(sentence, file=sys.stderr)
        if options.yes:
            return
        print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise SettingsError("stopped, and nothing was read. A later --since reads less.")

    return ask


def _window(options: argparse.Namespace) -> tuple[datetime | None, datetime | None]:
    """Return since and until, as the user chose them; refuse an empty window."""
    from prospect_lib.jobs.retrain import parse_utc

    since, until = parse_utc("--since", options.since), parse_utc("--until", options.until)
    if since and until and since >= until:
        raise SettingsError(
            f"--since {options.since} is not before --until {options.until}: nothing is between."
        )
    return since, until


def _problem_in(options: argparse.Namespace, settings: Settings) -> "ScoringProblem":
    """Return the problem that the user chose, by default the demo website's."""
    from prospect_lib.problem import prospect_problem

    return _chosen_problem(options, settings) or prospect_problem


def _chosen_problem(options: argparse.Namespace, settings: Settings) -> "ScoringProblem | None":
    """Return the problem that the user chose, ``None`` for the command's own default."""
    from prospect_lib.problem import load_problem

    where = options.problem or settings.problem
    return load_problem(where) if where else None


def _add_origins(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--origin",
        type=_shape("parse_origin"),
        action="append",
        default=[],
        metavar="URL",
        help="website whose pages may request scores, such as https://www.example.com; may be "
        "repeated; prints a snippet for these pages (default: this machine's pages only)",
    )
    command.add_argument(
        "--public", action="store_true", help="open a public address through ngrok"
    )


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.description = (
        "Train a model, publish its attributes, and serve scores until Ctrl-C, with the events and "
        "the Signals that the secrets choose. Without secrets: simulate a history of visitors, and "
        "score those of the demo website; a second run reuses the history and the model. "
        "docs/accounts.md has a table of what happens with each."
    )
    demo.add_argument(
        "--once",
        action="store_true",
        help="score one visitor, on the demo website a scripted one, print the result as JSON on "
        "the last line, and exit",
    )
    demo.add_argument(
        "--data",
        metavar="FILE",
        help="train on a Parquet or CSV file of events instead; 'sample' is Snowplow's published "
        "sample",
    )
    demo.add_argument(
        "--visitors",
        type=_between(int, 1),
        default=8000,
        metavar="N",
        help="number of simulated visitors (default: %(default)s)",
    )
    _add_origins(demo)
    _add_yes(demo)
    _add_problem(demo)


def _demo(settings: Settings, options: argparse.Namespace) -> None:
    from prospect_lib.jobs import demo

    run = demo.Demo(
        settings,
        _chosen_problem(options, settings),
        data=options.data,
        visitors=options.visitors,
        origins=tuple(options.origin),
        public=options.public,
        before_read=_before_read(options),
    )
    if options.once:
        print(demo.as_line(demo.once(run)))
    else:
        demo.watch(run)


def _add_new(new: argparse.ArgumentParser) -> None:
    new.description = (
        "Write a commented Python file with a scoring problem: attributes, goal, horizon and key "
        "of a website of your own. The other commands take it as --problem. docs/your_site.md "
        "explains each part."
    )
    new.add_argument("file", type=Path, metavar="FILE", help="the file to write, as my_site.py")
    new.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="Parquet or CSV file of your events: lists their kinds in the new file",
    )


def _new(settings: Settings, options: argparse.Namespace) -> None:
    from prospect_lib.jobs.new_site import write_problem

    print(write_problem(settings, options.file, options.data))


def _add_sandbox(sandbox: argparse.ArgumentParser) -> None:
    sandbox.description = (
        "Manage the sandbox, the local stand-in for Snowplow: collector, Signals API and demo "
        "website. To run a second one, set another PROSPECT_HOME and PROSPECT_PORT."
    )
    sandbox.add_argument(
        "action",
        nargs="?",
        choices=("start", "status", "stop", "reset"),
        default="start",
        help="start: run it until Ctrl-C; status: print whether it runs (exit code 1: it does "
        "not); stop: end it and keep its state; reset: end it and delete its events and "
        "published definitions (default: %(default)s)",
    )
    sandbox.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="with start: the address to listen on; 0.0.0.0 opens it to the whole network "
        "(default: %(default)s, this machine only)",
    )
    sandbox.add_argument(
        "--no-warehouse",
        action="store_true",
        help="with start: refuse to backfill and to test attributes, as Signals does without a "
        "warehouse connection",
    )


def _sandbox(settings: Settings, options: argparse.Namespace) -> int:
    from prospect_lib.sandbox import command

    if options.action == "status":
        return 0 if command.status_command(settings) else 1
    if options.action == "start":
        command.start_command(settings, options.host, warehouse=not options.no_warehouse)
    else:
        {"stop": command.stop_command, "reset": command.reset_command}[options.action](settings)
    return 0


def _add_simulate(simulate: argparse.ArgumentParser) -> None:
    simulate.description = (
        "Send the events of simulated visitors to the sandbox's collector as they happen, with "
        "pauses shortened tenfold. Starts the sandbox if it does not run."
    )
    simulate.add_argument("--live", action="store_true", required=True, help="required")
    simulate.add_argument(
        "--per-minute",
        type=_between(float, 0.01),
        default=12,
        metavar="N",
        help="visitors per minute (default: %(default)s)",
    )
    simulate.add_argument(
        "--seconds",
        type=_between(float, 0.01),
        default=600,
        metavar="N",
        help="duration in seconds (default: %(default)s)",
    )


def _simulate(settings: Settings, options: argparse.Namespace) -> None:
    from prospect_lib import sandbox
    from prospect_lib.sandbox.command import elsewhere
    from prospect_lib.sandbox.simulation import traffic

    for line in elsewhere(settings):
        print(line)
    sandbox.ensure_running(settings)
    traffic.live(settings, visitors_per_minute=options.per_minute, duration=options.seconds)


def _add_train(train: argparse.ArgumentParser) -> None:
    train.description = (
        "Train a model on a window of events and compare it with the promoted one on rows that "
        "neither was trained on. Exit codes: 0 promoted, or trained on the same data before; "
        "10 the promoted model stays; 11 the new model is worse than the promoted one, or not "
        "significantly better than the base rate, or there is too little to learn from; 2 to 6 "
        "errors."
    )
    window = "such as 2026-01-31 or 2026-01-31T12:00 (UTC)"
    train.add_argument(
        "--since",
        metavar="TIME",
        help=f"leave out earlier rows; {window} (default: use all; a remote warehouse needs it)",
    )
    train.add_argument(
        "--until",
        metavar="TIME",
        help="train as if the data ended at this time (default: the end of the data)",
    )
    train.add_argument(
        "--backend",
        choices=BACKENDS,
        help="source of the events (default: the warehouse whose secrets are set, else sandbox)",
    )
    train.add_argument(
        "--data", metavar="FILE", help="Parquet or CSV file of events, instead of a backend"
    )
    train.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder of models (default: the problem's in PROSPECT_HOME); serve --models FOLDER "
        "serves from it",
    )
    train.add_argument(
        "--served",
        action="store_true",
        help="train on the moments at which scores were served, not on page views",
    )
    train.add_argument(
        "--promote",
        choices=["if better", "always", "never"],
        default="if better",
        help="when to promote the new model (default: %(default)s)",
    )
    train.add_argument(
        "--tries",
        type=_between(int, 0),
        default=0,
        metavar="N",
        help="number of parameter sets to try in a search (default: %(default)s, no search)",
    )
    train.add_argument(
        "--seed",
        type=_between(int, 0, 2**31 - 1),
        default=0,
        metavar="N",
        help="seed of the training (default: %(default)s)",
    )
    train.add_argument(
        "--value",
        type=_between(float, 0, above=True),
        metavar="X",
        help="value of inviting a visitor who converts",
    )
    train.add_argument(
        "--cost",
        type=_between(float, 0, above=True),
        metavar="X",
        help="cost of inviting a visitor who does not convert",
    )
    train.add_argument(
        "--capacity",
        type=_between(float, 0, above=True),
        metavar="N",
        help="visitors that can be invited per day, instead of --value and --cost",
    )
    _add_yes(train)
    _add_problem(train)


def _train(settings: Settings, options: argparse.Namespace) -> int:
    from prospect_lib.jobs.retrain import Job, run

    if options.capacity is not None and (options.value, options.cost) != (None, None):
        raise SettingsError("--capacity excludes --value and --cost: give one or the others.")
    since, until = _window(options)
    job = Job(
        problem=_chosen_problem(options, settings),
        backend=options.backend,
        file=options.data,
        since=since,
        until=until,
        out=options.out,
        served=options.served,
        before_read=_before_read(options),
    )
    names = ("promote", "tries", "seed", "value", "cost", "capacity")
    return run(settings, job, **{name: getattr(options, name) for name in names}).exit_code


def _add_publish(publish: argparse.ArgumentParser) -> None:
    publish.description = (
        "Publish the attribute group and the service of a scoring problem to the Signals in use. "
        "From then on, Signals keeps the attributes of each visitor up to date. A published "
        "version never changes; the same definition changes nothing."
    )
    publish.add_argument(
        "--since",
        metavar="TIME",
        help="count past events from this time on too (backfill); such as 2026-01-31 (UTC); the "
        "first publishing of a version fixes it",
    )
    publish.add_argument(
        "--replace",
        action="store_true",
        help="local sandbox only: delete another definition of the same version, and its values",
    )
    _add_problem(publish)


def _publish(settings: Settings, options: argparse.Namespace) -> None:
    from prospect_lib.jobs.publishing import publish
    from prospect_lib.jobs.retrain import parse_utc

    problem = _problem_in(options, settings)
    since = parse_utc("--since", options.since)
    publish(settings, problem, since=since, replace=options.replace)


def _add_status(status: argparse.ArgumentParser) -> None:
    status.description = (
        "Show what the Signals in use has of a scoring problem: version, owner, from when it "
        "counts, and which attributes differ from those here. Exit codes: 0 published as it is "
        "here; 1 not published, or another definition; 2 to 6 errors."
    )
    _add_problem(status)


def _status(settings: Settings, options: argparse.Namespace) -> int:
    from prospect_lib.jobs.publishing import status

    publication = status(settings, _problem_in(options, settings))
    return 0 if publication.is_current else 1


def _add_unpublish(unpublish: argparse.ArgumentParser) -> None:
    unpublish.description = (
        "Delete the service of a scoring problem, then unpublish its attribute group, whose "
        "definition and values stay in Signals."
    )
    _add_problem(unpublish)


def _unpublish(settings: Settings, options: argparse.Namespace) -> None:
    from prospect_lib.jobs.publishing import unpublish

    unpublish(settings, _problem_in(options, settings))


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.description = (
        "Serve scores of the promoted model at POST /predict until Ctrl-C, and follow the model "
        "when another one is promoted. This is one process; docs/serving.md has the command line "
        "for several."
    )
    _add_origins(serve)
    serve.add_argument(
        "--domain",
        type=_shape("parse_domain"),
        metavar="NAME",
        help="your static domain at ngrok, such as name.ngrok-free.app, for --public: the address "
        "of the snippet stays the same",
    )
    serve.add_argument(
        "--behind-proxy",
        type=_shape("parse_address"),
        nargs="?",
        const=False,
        metavar="URL",
        help="a proxy of your own forwards the requests, so every caller needs a token; URL, its "
        "public address, is for the snippet",
    )
    serve.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file of the snippet's token, which is created if it is missing: installed snippets "
        "go on after a restart; FILE.operator has a token for metrics",
    )
    serve.add_argument(
        "--tracker",
        metavar="NAME",
        help="namespace of the pages' Snowplow tracker (default: their first tracker)",
    )
    serve.add_argument(
        "--models",
        type=Path,
        metavar="FOLDER",
        help="folder of models, as of train --out (default: the problem's in PROSPECT_HOME)",
    )
    serve.add_argument(
        "--holdout",
        type=_between(float, 0, 1),
        default=0.0,
        metavar="SHARE",
        help="share of sessions that are not invited though the score says so; audit compares "
        "them with the invited ones (default: none)",
    )
    _add_problem(serve)


def _serve(settings: Settings, options: argparse.Namespace) -> None:
    from prospect_lib.jobs.serve import Address, serve_until_stopped, serving
    from prospect_lib.server import Options

    behind_proxy = options.behind_proxy is not None
    if behind_proxy and not options.token_file:
        raise SettingsError(
            "--behind-proxy needs --token-file FILE, which is created if it is missing: behind a "
            "proxy every caller needs a token."
        )
    choices = Options(
        origins=tuple(options.origin),
        token_file=options.token_file,
        behind_proxy=behind_proxy,
        holdout=options.holdout,
    )
    address = Address(
        options.public, options.domain, options.behind_proxy or None, options.tracker or None
    )
    problem, models = _problem_in(options, settings), options.models
    serve_until_stopped(serving(settings, problem, models=models, options=choices, address=address))


def _add_audit(audit: argparse.ArgumentParser) -> None:
    audit.description = (
        "Recompute every served value from the warehouse and explain the differences, compare "
        "scores with outcomes, and compare visitors with those of the training set. Writes "
        "audit.html. Exit codes: 0 nothing to do; 12 late or outdated values, or other visitors "
        "than in training; 13 wrong values were served; 2 to 6 errors."
    )
    audit.add_argument(
        "--since",
        metavar="TIME",
        help="leave out earlier scores; such as 2026-01-31 (UTC; default: audit all)",
    )
    audit.add_argument(
        "--until", metavar="TIME", help="leave out scores from this time on (default: audit all)"
    )
    audit.add_argument(
        "--tolerated",
        type=_between(float, 0, 1),
        default=0.01,
        metavar="SHARE",
        help="share of scores with late or outdated values to tolerate (default: %(default)s)",
    )
    audit.add_argument(
        "--known-since",
        metavar="TIME",
        help="time from which Signals has counted (default: the published backfill date)",
    )
    audit.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder of audit.html (default: the problem's audit in PROSPECT_HOME)",
    )
    audit.add_argument(
        "--data",
        metavar="FILE",
        help="Parquet or CSV file of events, instead of the warehouse in use",
    )
    audit.add_argument(
        "--models",
        type=Path,
        metavar="FOLDER",
        help="folder of models (default: the problem's in PROSPECT_HOME)",
    )
    _add_yes(audit)
    _add_problem(audit)


def _audit(settings: Settings, options: argparse.Namespace) -> int:
    from prospect_lib.jobs.audit import AuditOptions, run_audit
    from prospect_lib.jobs.retrain import parse_utc

    since, until = _window(options)
    audit_options = AuditOptions(
        problem=_problem_in(options, settings),
        models=options.models,
        data=options.data,
        since=since,
        until=until,
        tolerated=options.tolerated,
        known_since=parse_utc("--known-since", options.known_since),
        out=options.out,
        before_read=_before_read(options),
    )
    return run_audit(settings, audit_options).exit_code


def _add_doctor(doctor: argparse.ArgumentParser) -> None:
    doctor.description = (
        "Check Python, packages, disk, ports, secrets, network and accounts (sign in, grants, the "
        "events table), and say how to correct each problem. Exit code 0: ready, perhaps with "
        "warnings; 2: not ready."
    )
    doctor.add_argument("--json", action="store_true", help="print the checks as JSON")
    _add_problem(doctor)


def _doctor(settings: Settings, options: argparse.Namespace) -> int:
    from prospect_lib import doctor

    settings = replace(settings, problem=options.problem or settings.problem)
    checks = doctor.examine(settings)
    print(doctor.report(checks, as_json=options.json))
    return SettingsError.exit_code if any(c.state == "failure" for c in checks) else 0


def _shape(name: str) -> Callable[[str], str]:
    """Return a parser of addresses: a function of ``web_addresses``."""

    def parse(text: str) -> str:
        from prospect_lib import web_addresses

        try:
            return str(getattr(web_addresses, name)(text))
        except SettingsError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def _between(
    kind: type[int] | type[float], least: float, most: float = math.inf, *, above: bool = False
) -> Callable[[str], float]:
    """Return a parser of numbers within a range, both ends included; without the lower if above."""
    name = "a whole number" if kind is int else "a number"
    if above:
        limits = f"above {least}"
    else:
        limits = f"from {least} to {most}" if most < math.inf else f"of at least {least}"

    def parse(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = math.nan
        if not (least <= number <= most and number < math.inf) or (above and number == least):
            raise argparse.ArgumentTypeError(f"{text!r}, expected {name} {limits}")
        return number

    return parse
