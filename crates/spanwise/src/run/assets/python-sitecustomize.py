"""Python loads this first because `spanwise run` put its directory into PYTHONPATH. It starts OpenTelemetry's automatic
instrumentation from a directory of its own, which comes last on the path: the program's own packages win. Whatever goes
wrong here is swallowed: the program runs without traces."""

import atexit
import os
import re
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
# This file is read by whatever Python a script starts.
_IS_OLD = sys.version_info < (3, 10)
_TOO_OLD = "the agent needs Python 3.10 or later"


def _tag():
    """Which interpreters may share compiled packages."""
    if _IS_OLD:
        return "none"
    machine = getattr(sys.implementation, "_multiarch", "") or os.uname().machine
    return "%s-%s-%s" % (sys.implementation.cache_tag, sys.platform, machine)


def _side_dir():
    return os.path.join(os.environ.get("SPANWISE_PYTHON_AGENT", ""), _tag())


def _chain():
    """Runs the sitecustomize that this one hides, as Python would have."""
    import importlib.machinery
    import importlib.util

    others = [entry for entry in sys.path if os.path.abspath(entry or ".") != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def _arguments():
    arguments = getattr(sys, "orig_argv", None)
    if arguments is None:
        with open("/proc/self/cmdline", "rb") as file:
            arguments = [os.fsdecode(part) for part in file.read().split(b"\0")[:-1]]
    return arguments[1:]


def _command(arguments):
    """Script or module, and what follows it."""
    takes_value = ("-W", "-X", "--check-hash-based-pycs")
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if argument == "-m" and position + 1 < len(arguments):
            return "-m", arguments[position + 1], arguments[position + 2 :]
        if argument == "-c":
            return "-c", arguments[position + 1] if position + 1 < len(arguments) else "", arguments[position + 2 :]
        if not argument.startswith("-") or argument == "-":
            return "", argument, arguments[position + 1 :]
        position += 2 if argument in takes_value else 1
    return "", "", []


_TOOLS = {"pip", "pip3", "venv", "virtualenv", "ensurepip", "uv", "poetry", "pipenv", "pipx", "tox", "nox", "build"}
_SERVERS = {"gunicorn", "uvicorn", "hypercorn", "daphne", "waitress-serve", "granian", "uwsgi", "celery", "flask"}


def _is_tool(kind, name, rest):
    if kind == "-c":
        return "multiprocessing.resource_tracker" in name
    return os.path.basename(name).split(".")[0] in _TOOLS


def _service_name(kind, name, rest):
    """`shop` for shop.py, `python -m shop`, `gunicorn shop.wsgi:app`, and manage.py in the directory shop."""
    base = os.path.basename(name)
    stem = base[:-3] if base.endswith(".py") else base
    if stem in _SERVERS:
        application = next((word for word in rest if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.()]*", word)), "")
        for flag in ("--app", "-A"):
            if flag in rest[:-1]:
                application = rest[rest.index(flag) + 1]
        application = application.split(":")[0].split(".")[0]
        return application or os.environ.get("FLASK_APP", "").split(":")[0].replace(".py", "") or stem
    if kind == "-c" and "multiprocessing" in name:
        return os.environ.get("SPANWISE_PYTHON_SERVICE", "python")
    if kind == "-c" or not stem:
        return "python"
    if stem in ("manage", "__main__"):
        return os.path.basename(os.path.dirname(os.path.abspath(name))) or stem
    return stem


def _note(problem):
    """For `spanwise run`, which prints it: the program's standard error is the program's."""
    directory = os.environ.get("SPANWISE_RUN_NOTES")
    if directory and os.path.isdir(directory):
        with open(os.path.join(directory, "python-%d" % os.getpid()), "w") as file:
            file.write("no traces of %s (Python %s): %s" % (sys.executable, sys.version.split()[0], problem))


def _start(kind, name, rest):
    import logging
    import warnings

    logger = logging.getLogger("opentelemetry")
    if not os.environ.get("SPANWISE_DEBUG") and not os.environ.get("OTEL_PYTHON_LOG_LEVEL"):
        # The program's standard error is the program's.
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
    given = os.environ.get("OTEL_SERVICE_NAME")
    if not given and "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        # For the SDK's start only: what this program starts has a name of its own, but for its spawned workers.
        os.environ["OTEL_SERVICE_NAME"] = os.environ["SPANWISE_PYTHON_SERVICE"] = _service_name(kind, name, rest)
    disabled = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS")
    os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = "django" if disabled is None else disabled + ",django"
    try:
        from opentelemetry.instrumentation.auto_instrumentation import initialize

        with warnings.catch_warnings():
            # What the agent does is not what the program is to be warned of.
            warnings.simplefilter("ignore")
            initialize(swallow_exceptions=False)
        # Since 3.12: the thread is the agent's.
        warnings.filterwarnings("ignore", r"This process \(pid=\d+\) is multi-threaded", DeprecationWarning)
    finally:
        if not given:
            os.environ.pop("OTEL_SERVICE_NAME", None)
        if disabled is None:
            os.environ.pop("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", None)
        else:
            os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = disabled
    if "django" not in (disabled or "").replace(" ", "").split(","):
        _django_later()
    from opentelemetry.instrumentation.logging import LoggingInstrumentor

    if os.environ.get("OTEL_PYTHON_LOG_CORRELATION", "").lower() != "true":
        # Ids on every log record (%(otelTraceID)s), without touching the program's format.
        instrumentor = LoggingInstrumentor()
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()
            instrumentor.instrument(inject_trace_context=True)


def _django_later():
    """Django's instrumentation reads Django's settings, and replaces them by empty ones when they are not there yet, as
    they are not before `manage.py` has run. So it comes when the first handler loads its middleware."""
    import wrapt

    def patch(module):
        load = module.BaseHandler.load_middleware

        def load_middleware(self, *arguments, **named):
            try:
                from opentelemetry.instrumentation.django import DjangoInstrumentor

                if not DjangoInstrumentor().is_instrumented_by_opentelemetry:
                    DjangoInstrumentor().instrument()
            except Exception:
                pass
            return load(self, *arguments, **named)

        module.BaseHandler.load_middleware = load_middleware

    wrapt.register_post_import_hook(patch, "django.core.handlers.base")


def _batches():
    """What spans wait in until they are sent."""
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    processors = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
    return [batch for batch in (getattr(processor, "_batch_processor", None) for processor in processors) if batch]


class _Lost:
    """Counts what is not delivered, for `spanwise run`."""

    def __init__(self, batch):
        from opentelemetry.sdk.trace.export import SpanExportResult

        self.count, self.sending, self.is_over, self.pid = 0, 0, False, os.getpid()
        export, emit = batch._exporter.export, batch.emit

        def counted_export(spans):
            result, self.sending = None, len(spans)
            try:
                result = export(spans)
            finally:
                if result is not SpanExportResult.SUCCESS and not self.is_over:
                    self.add(len(spans))
                    self.tell()
                self.sending = 0
            return result

        def counted_emit(span):
            if len(batch._queue) == batch._max_queue_size:
                self.add(1)
            emit(span)

        batch._exporter.export, batch.emit = counted_export, counted_emit

    def add(self, count):
        if self.pid != os.getpid():
            self.count, self.pid = 0, os.getpid()
        self.count += count

    def end(self, batch):
        """What waits or is under way now will not arrive."""
        if self.is_over:
            return
        batch._worker_thread.join(0.5)
        self.is_over = True
        self.add(len(batch._queue) + self.sending)
        self.tell()

    def tell(self):
        if self.count > 0 and self.pid == os.getpid():
            try:
                with open(os.path.join(os.environ["SPANWISE_RUN_NOTES"], "lost-python-%d" % self.pid), "w") as file:
                    file.write(str(self.count))
            except (KeyError, OSError):
                pass  # Nobody listens.


_LOST = {}


def _count_lost():
    if os.path.isdir(os.environ.get("SPANWISE_RUN_NOTES", "")):
        for batch in _batches():
            _LOST[batch] = _Lost(batch)


def _finish():
    """Sends what has ended, for at most two seconds, and stops; the SDK alone would try for half a minute."""
    for batch in _batches():
        batch.shutdown(timeout_millis=2000)
        if batch in _LOST:
            _LOST[batch].end(batch)


def _keep_signal():
    """SIGTERM ends a program without a handler, as it would without us, after at most two seconds for its last spans."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return

    def end(number, frame):
        # In a thread of its own: this one may hold a lock that it needs.
        thread = threading.Thread(target=_finish, daemon=True)
        thread.start()
        thread.join(3)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)


def _clashes(side):
    """Packages that the program's environment has in a version that the agent cannot work with."""
    from importlib import metadata

    names = {}
    for found in metadata.distributions(path=[side]):
        names[found.metadata["Name"]] = found.requires or []
    from packaging.requirements import Requirement
    from packaging.version import Version

    def suits(requirement, version):
        if requirement.specifier.contains(version, prereleases=True):
            return True
        # The SDK asks for the API of its own release; by its promise of stability a later one does as well.
        pins = [Version(one.version) for one in requirement.specifier if one.operator == "=="]
        return requirement.name == "opentelemetry-api" and all(pin <= Version(version) < Version("2") for pin in pins)

    wrong = set()
    for name, requires in names.items():
        for text in requires:
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            try:
                version = metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                continue
            if not suits(requirement, version):
                wrong.add("%s is %s, %s needs %s" % (requirement.name, version, name, requirement.specifier))
    return sorted(wrong)


def report():
    """One line of JSON for `spanwise run`: what this interpreter is, and whether the agent works in it."""
    import json

    side = _side_dir()
    answer = {"python": ".".join(map(str, sys.version_info[:3])), "tag": _tag(), "executable": sys.executable}
    answer["prefix"] = sys.prefix
    if _IS_OLD:
        answer["error"] = _TOO_OLD
    elif not os.path.exists(os.path.join(side, "spanwise-installed.json")):
        answer["missing"] = True
    else:
        try:
            if side not in sys.path:
                sys.path.append(side)
            clashes = _clashes(side)
            if clashes:
                answer["error"] = "its packages clash with the agent's: " + "; ".join(clashes)
            else:
                _start("-c", "", [])
        except BaseException as error:
            answer["error"] = "%s: %s" % (type(error).__name__, error)
    print("spanwise-report " + json.dumps(answer))


try:
    if sys.version_info[0] > 2:
        _chain()
except Exception as error:  # As Python's own site module does.
    sys.stderr.write("Error in sitecustomize: %s: %s\n" % (type(error).__name__, error))

if os.environ.get("SPANWISE_PROBE") != "1":
    try:
        _words = ("-c", "", []) if _IS_OLD else _command(_arguments())
        _side = _side_dir()
        if _is_tool(*_words):
            pass
        elif _IS_OLD:
            _note(_TOO_OLD)
        elif not os.path.exists(os.path.join(_side, "spanwise-installed.json")):
            _note("its agent is not there: spanwise agents install python --interpreter %s" % sys.executable)
        else:
            sys.path.append(_side)
            # An environment that `spanwise run` did not look at is looked at here.
            _wrong = [] if sys.prefix == os.environ.get("SPANWISE_PYTHON_PREFIX") else _clashes(_side)
            if _wrong:
                sys.path.remove(_side)
                _note("its packages clash with the agent's: " + "; ".join(_wrong))
            else:
                _known = set(sys.modules)
                _start(*_words)
                if _words[0] == "-m" and _words[1] not in _known:
                    # Python warns of a module that was imported before it is run.
                    sys.modules.pop(_words[1], None)
                _count_lost()
                # Before the SDK's own, which was registered earlier.
                atexit.register(_finish)
                _keep_signal()
    except Exception as error:
        if os.environ.get("SPANWISE_DEBUG"):
            import traceback

            sys.stderr.write("spanwise: no traces of this process:\n")
            traceback.print_exc()
        try:
            _note("%s: %s" % (type(error).__name__, error))
        except Exception:
            pass
