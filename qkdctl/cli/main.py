"""``qkdctl``: the operator's command line; what is slow to import, its command imports."""

import click

import qkdctl
from qkdctl.cli import feed, instruments, keyrate, observe, operate, run, tags

EPILOG = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 daemon not reached."


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(qkdctl.__version__, prog_name="qkdctl", message="%(prog)s %(version)s")
def main() -> None:
    """Control daemon for optical quantum key distribution testbeds."""


for command in (
    run.check,
    run.simulate,
    run.daemon,
    observe.status,
    instruments.instruments,
    observe.knobs,
    observe.history,
    observe.events,
    observe.watch,
    operate.knob,
    operate.calibrate,
    operate.pause,
    operate.finish,
    operate.cancel,
    operate.safe,
    operate.resume,
    operate.stop,
    tags.tags,
    keyrate.keyrate,
    feed.feed,
    run.demo,
    run.bench,
    observe.api,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
