"""The command `detect`: a command is a function that takes one configuration dataclass."""

from __future__ import annotations

import sys

# command -> (module, function, configuration, what it does)
COMMANDS = {
    "demo": ("detect.commands.demo", "demo", "DemoConfig", "the whole job on the embedded set, in a few minutes"),
    "train": ("detect.commands", "train", "TrainConfig", "train a detector on COCO, YOLO or VOC data, or a classifier"),
    "evaluate": (
        "detect.commands",
        "evaluate",
        "EvaluateConfig",
        "measure a detector (COCO's twelve numbers) or a classifier",
    ),
    "predict": (
        "detect.commands",
        "predict",
        "PredictConfig",
        "draw what is found in images, video or a stream, or its class",
    ),
    "embed": ("detect.commands.embedding", "embed", "EmbedConfig", "store the vectors of known people in a gallery"),
    "verify": ("detect.commands.embedding", "verify", "VerifyConfig", "say whether two pictures show one person"),
    "identify": ("detect.commands.embedding", "identify", "IdentifyConfig", "say who of a gallery is in pictures"),
    "serve": ("detect.commands.serve", "serve", "ServeConfig", "a local page to drop pictures and videos on"),
    "report": ("detect.report.run_report", "report", "ReportConfig", "write report.html of a run, which opens offline"),
    "check": ("detect.commands.check", "check_data", "CheckConfig", "look through data before training on it"),
    "anchors": ("detect.commands", "anchors", "AnchorsConfig", "compute anchor boxes from labels by K-means"),
    "import": (
        "detect.commands.import_weights",
        "import_weights",
        "ImportConfig",
        "make a weights file of Darknet's or YOLOX's",
    ),
    "export": ("detect.commands.export", "export", "ExportConfig", "write weights as ONNX, OpenVINO or TorchScript"),
    "see": ("detect.commands.see", "see", "SeeConfig", "look inside: filters, what excites a layer, why it fired"),
    "stylize": ("detect.commands.stylize", "stylize", "StylizeConfig", "give pictures the style of another one"),
    "info": ("detect.commands", "info", "InfoConfig", "list the layers of a backbone or model"),
}


def usage() -> str:
    """The top help; printed before anything heavy is imported."""
    lines = ["usage: detect COMMAND --flag value ...", "", "commands:"]
    lines += [f"  {name:<10}{text}" for name, (_, _, _, text) in COMMANDS.items()]
    lines += ["", "detect COMMAND --help lists the flags of a command.", ""]
    lines += ["exit status: 0 done, 2 a mistake in arguments, data or files, 1 a defect of detect itself;"]
    lines += ["128 + N after signal N, with the work saved: 130 SIGINT (Ctrl-C), 143 SIGTERM, 129 SIGHUP"]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 a defect of ours, 2 the user's mistake.

    Ended by a signal, after its work was saved and its temporary files were removed, it is 128 and the signal's number:
    130 for SIGINT (Ctrl-C), 143 for SIGTERM, 129 for SIGHUP.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("gridhead"))
        return 0
    return _guarded(arguments)


def _guarded(arguments: list[str]) -> int:
    """The exit status of one command, whatever becomes of it."""
    from contextlib import ExitStack, closing, suppress

    from detect.errors import UserError, one_line, told_to_user
    from detect.utils.atomic_io import without_compiler_cache
    from detect.utils.interrupt import Interrupt, Watch

    with ExitStack() as stack:
        interrupt = stack.enter_context(closing(Interrupt(at_once=True)))
        if interrupt.old:  # this is the main thread
            stack.enter_context(closing(Watch()))
        stack.enter_context(without_compiler_cache())
        try:
            _run(arguments)
            return 0
        except (KeyboardInterrupt, Exception) as error:
            if interrupt.asked or isinstance(error, KeyboardInterrupt):  # what is broken off may fail in any way
                with suppress(OSError):  # the terminal may be gone
                    what = "error" if isinstance(error, UserError) else "interrupted"
                    print(": ".join([what, *filter(None, [one_line(error)])]), file=sys.stderr)
                return interrupt.status
            if isinstance(error, BrokenPipeError):  # the reader of our output left, as `head` does
                sys.stderr.close()
                return 0
            if not (said := told_to_user(error)):
                raise
            print(f"error: {said}", file=sys.stderr)
            return 2


def _run(arguments: list[str]) -> None:
    from detect.errors import unknown

    if arguments[0] not in COMMANDS:
        raise unknown("command", arguments[0], COMMANDS)
    from detect.cli.parser import run

    run(arguments[0], arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
