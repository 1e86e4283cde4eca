"""The command line: ``python -m prospect_lib --help`` lists its commands."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from prospect_lib.errors import ProspectError, SettingsError
from prospect_lib.settings import Settings

BACKENDS = ("sandbox", "snowflake", "sample")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error the user can put right is one message and its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(Settings.load(), options) or 0)
    except ProspectError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m prospect_lib", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    demo = commands.add_parser("demo", help="the whole job, from events to a live score")
    demo.add_argument("--once", action="store_true", help="one scripted visitor, then exit")
    demo.add_argument("--data", metavar="sample|FILE", help="train on a file of events instead")
    demo.add_argument("--visitors", type=int, default=8000, help="how many are simulated")
    demo.set_defaults(run=_demo)

    sandbox = commands.add_parser("sandbox", help="the local Snowplow: start, stop, reset, status")
    sandbox.description = (
        "The local Snowplow. Its state is in PROSPECT_HOME and its port is PROSPECT_PORT: with "
        "another home and another port a second one runs beside the first."
    )
    sandbox.add_argument(
        "action",
        nargs="?",
        choices=("start", "status", "stop", "reset"),
        default="start",
        help="start: in the foreground (default); stop: its state stays; reset: stop and forget "
        "events and published objects; status: does it run? (exit code 1: no)",
    )
    sandbox.add_argument(
        "--host",
        default="127.0.0.1",
        help="with start: the address to listen on. Default: this machine alone. 0.0.0.0 lets "
        "the whole network send events and see the website",
    )
    sandbox.set_defaults(run=_sandbox)

    simulate = commands.add_parser("simulate", help="visitors, through the real collector")
    simulate.add_argument("--live", action="store_true", required=True, help="as they come")
    simulate.add_argument("--per-minute", type=float, default=12, help="visitors a minute")
    simulate.add_argument("--seconds", type=float, default=600, help="for how long")
    simulate.set_defaults(run=_simulate)

    _add_train(commands.add_parser("train", help="train a challenger; promote it if it is better"))

    serve = commands.add_parser("serve", help="the prediction server, in the foreground")
    serve.add_argument("--origin", action="append", default=[], help="a website that may ask")
    serve.add_argument("--public", action="store_true", help="with a public address, by ngrok")
    serve.add_argument("--processes", type=int, default=1, help="how many answer on the port")
    serve.set_defaults(run=_serve)

    _add_audit(commands.add_parser("audit", help="is what was served right, and who comes now"))

    doctor = commands.add_parser("doctor", help="is this machine ready, and if not, what to do")
    doctor.add_argument("--json", action="store_true", help="for a script")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_train(train: argparse.ArgumentParser) -> None:
    train.description = (
        "Train on a window of events and let the new model meet the promoted one on rows that "
        "neither has seen. Exit codes: 0 promoted, or the same data again; 10 the champion "
        "stays; 11 the new model is worse than it, or than no model; others are errors."
    )
    train.add_argument("--since", metavar="MOMENT", help="no row is earlier, such as 2026-01-31")
    train.add_argument("--until", metavar="MOMENT", help="as if the data ended here (UTC)")
    train.add_argument("--backend", choices=BACKENDS, help="default: what the secrets say")
    train.add_argument("--data", metavar="FILE", help="a file of events, in place of a backend")
    train.add_argument("--out", type=Path, metavar="FOLDER", help="the folder of models")
    train.add_argument("--served", action="store_true", help="train on the moments served")
    train.add_argument("--promote", choices=["if better", "always", "never"], default="if better")
    train.add_argument("--tries", type=int, default=0, help="recipes to try in a small search")
    train.add_argument("--seed", type=int, default=0, help="of the rows each tree samples")
    train.add_argument("--value", type=float, help="what engaging a right prospect is worth")
    train.add_argument("--cost", type=float, help="what engaging a wrong one costs")
    train.add_argument("--capacity", type=float, help="or: how many can be engaged a day")
    train.set_defaults(run=_train)


def _add_audit(audit: argparse.ArgumentParser) -> None:
    audit.description = (
        "Rebuild every served value from the warehouse and say what differs and why; join scores "
        "with what followed; compare visitors with those trained on. Writes audit.html. Exit "
        "codes: 0 nothing to do; 12 look at it; 13 wrong values were served; others are errors."
    )
    audit.add_argument("--since", metavar="MOMENT", help="no score is earlier, such as 2026-01-31")
    audit.add_argument("--until", metavar="MOMENT", help="the first moment left out (UTC)")
    audit.add_argument("--tolerated", type=float, default=0.01, help="share of late or old values")
    audit.add_argument("--known-since", metavar="MOMENT", help="from when on Signals counts")
    audit.add_argument("--out", type=Path, metavar="FOLDER", help="where audit.html goes")
    audit.set_defaults(run=_audit)


def _audit(settings: Settings, options: argparse.Namespace) -> int:
    from prospect_lib.jobs import audit as auditing
    from prospect_lib.jobs.weekly import moment

    watch = auditing.Watch(
        since=moment("--since", options.since),
        until=moment("--until", options.until),
        tolerated=options.tolerated,
        known_since=moment("--known-since", options.known_since),
        out=options.out,
    )
    return auditing.run(settings, watch).exit_code


def _demo(settings: Settings, options: argparse.Namespace) -> None:
    from prospect_lib.jobs import demo

    if options.data:
        print(demo.as_line(demo.on_file(settings, options.data)))
        return
    run = demo.Demo(settings, visitors=options.visitors)
    if not options.once:
        from prospect_lib import sandbox
        from prospect_lib.server.runner import end_with_signals

        end_with_signals()
        try:
            demo.watch(run)
        finally:
            sandbox.stop(settings)
        return
    print(demo.as_line(demo.once(run)))


def _sandbox(settings: Settings, options: argparse.Namespace) -> int:
    from prospect_lib.sandbox import command

    if options.action == "status":
        return 0 if command.status(settings) else 1
    if options.action == "start":
        command.start(settings, options.host)
    else:
        {"stop": command.stop, "reset": command.reset}[options.action](settings)
    return 0


def _simulate(settings: Settings, options: argparse.Namespace) -> None:
    from prospect_lib import sandbox
    from prospect_lib.sandbox.simulation import traffic

    sandbox.ensure_running(settings)
    traffic.live(settings, visitors_per_minute=options.per_minute, duration=options.seconds)


def _train(settings: Settings, options: argparse.Namespace) -> int:
    from prospect_lib.jobs import weekly

    job = weekly.Job(
        backend=options.backend,
        file=options.data,
        since=weekly.moment("--since", options.since),
        until=weekly.moment("--until", options.until),
        out=options.out,
        served=options.served,
    )
    wanted = ("promote", "tries", "seed", "value", "cost", "capacity")
    outcome = weekly.run(settings, job, **{name: getattr(options, name) for name in wanted})
    return outcome.exit_code


def _serve(settings: Settings, options: argparse.Namespace) -> None:
    from prospect_lib.jobs.serve import serve

    serve(
        settings,
        origins=tuple(options.origin),
        public=options.public,
        processes=options.processes,
    )


def _doctor(settings: Settings, options: argparse.Namespace) -> int:
    from prospect_lib import doctor

    checks = doctor.examine(settings)
    print(doctor.report(checks, as_json=options.json))
    return SettingsError.exit_code if any(c.state == "failure" for c in checks) else 0
