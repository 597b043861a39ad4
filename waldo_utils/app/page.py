"""The demo as a page: one process with models and index for all visits. No other host takes part."""

import asyncio
import errno
import json
import re
import socket
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from tornado import web
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError

from waldo_utils.app.demo import Demo, UnknownPhoto
from waldo_utils.disk.artifacts import data_folder
from waldo_utils.run import pipeline
from waldo_utils.study import PROFILES, Study, find_profile

PORTS = 100  # that are tried in turn
LARGEST_UPLOAD = 200 * 2**20  # bytes
FIRST_CHOICE, FALLBACK = "photos", "mini"  # profiles; the first where its models were trained here


class Line:
    """Searches in the order in which they came, one at a time."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Event] = []

    @asynccontextmanager
    async def turn(self, tell: Callable[[int], Awaitable[None]]) -> AsyncIterator[None]:
        """Wait for one's turn and keep it.

        Args:
            tell: is called with the number of searches that come before, whenever it changes, and with 0
                last. What it raises ends the waiting.
        """
        moved = asyncio.Event()
        self._waiting.append(moved)
        try:
            while before := self._waiting.index(moved):
                moved.clear()
                await tell(before)
                await moved.wait()
            await tell(0)
            yield
        finally:
            self._waiting.remove(moved)
            for other in self._waiting:
                other.set()


class _Handler(web.RequestHandler):
    def initialize(self, demo: Demo, line: Line, worker: ThreadPoolExecutor) -> None:
        self.demo, self.line, self.worker = demo, line, worker

    async def in_turn(self, function: Callable, *arguments):
        """Return what a function of the demo returns, computed by the one thread that the models have."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, partial(function, *arguments))

    async def answer(self, kind: str, function: Callable, *arguments, thread: bool = False) -> None:
        """Answer with what a function returns, or with the fault that it tells."""
        try:
            run = asyncio.to_thread if thread else self.in_turn
            found = await run(function, *arguments)
        except ValueError as error:
            self.set_status(404 if isinstance(error, UnknownPhoto) else 400)
            self.set_header("Content-Type", "application/json")
            found = json.dumps({"fault": str(error)})
        else:
            self.set_header("Content-Type", kind)
            if kind.startswith("image/"):
                self.set_header("Cache-Control", "private, max-age=600")
            else:
                found = json.dumps(found)
        self.finish(found)


class _Page(_Handler):
    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish(self.demo.page(LARGEST_UPLOAD))


class _Alive(_Handler):
    def get(self) -> None:
        self.set_status(204)


class _Upload(_Handler):
    async def post(self) -> None:
        name = self.get_query_argument("name", "")
        await self.answer("application/json", self.demo.upload, name, self.request.body)


class _Example(_Handler):
    async def get(self, row: str) -> None:
        await self.answer("application/json", self.demo.example, int(row), thread=True)


class _Picture(_Handler):
    async def get(self, photo: str) -> None:
        await self.answer("image/jpeg", self.demo.picture, photo, thread=True)


class _Thumbnail(_Handler):
    async def get(self, row: str) -> None:
        await self.answer("image/jpeg", self.demo.thumbnail, int(row), thread=True)


class _Pair(_Handler):
    async def get(self) -> None:
        photo, box = self.get_query_argument("photo"), self.get_query_argument("box")
        box = tuple(int(side) for side in box.split(",")) if box else None
        await self.answer("image/png", self.demo.compare, photo, box, int(self.get_query_argument("row")))


class _Search(_Handler):
    async def post(self) -> None:
        """Answer in lines of JSON: how many searches come before, then what was found."""
        self.set_header("Content-Type", "application/x-ndjson")
        self.set_header("X-Accel-Buffering", "no")  # a proxy shall pass each line on
        asked = json.loads(self.request.body)
        box = tuple(int(side) for side in asked["box"]) if asked["box"] else None
        try:
            async with self.line.turn(lambda before: self.tell({"before": before})):
                try:
                    found = await self.in_turn(self.demo.search, str(asked["photo"]), box)
                except UnknownPhoto as error:
                    found = {"unknown": True, "fault": str(error)}
                except ValueError as error:
                    found = {"fault": str(error)}
            await self.tell(found)
        except StreamClosedError:  # the visitor has gone, or asks something else by now
            pass

    async def tell(self, news: dict) -> None:
        self.write(json.dumps(news) + "\n")
        await self.flush()


def application(demo: Demo, base: str) -> web.Application:
    """Return the page's server below a path that begins and ends with "/"."""
    routes = {
        "": _Page,
        "alive": _Alive,
        "photo": _Upload,
        r"photo/([\w-]+)": _Picture,
        r"example/(\d+)": _Example,
        r"thumbnail/(\d+)": _Thumbnail,
        "pair": _Pair,
        "search": _Search,
    }
    shared = {"demo": demo, "line": Line(), "worker": ThreadPoolExecutor(1)}
    handlers = [(re.escape(base) + path, handler, shared) for path, handler in routes.items()]
    if base != "/":
        handlers += [(re.escape(base[:-1]), web.RedirectHandler, {"url": base})]
    return web.Application(handlers, compress_response=False)


def base_path(text: str) -> str:
    """Return a path as it stands in an address: with "/" at both ends.

    Raises:
        ValueError: it is no path.
    """
    if not re.fullmatch(r"[\w./~-]*", text) or ".." in text:
        raise ValueError(f"--base-url {text!r} is no path of an address: give one as /demo/")
    inner = text.strip("/")
    return f"/{inner}/" if inner else "/"


def listen(ip: str, first: int) -> socket.socket:
    """Return a socket that listens on the first free port from `first` on.

    Raises:
        ValueError: there is none, it needs rights, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    for port in range(first, min(first + PORTS, 65_536)) if first >= 0 else ():
        try:
            listening = socket.create_server((ip, port), family=family)
        except PermissionError:
            raise ValueError(f"port {port} needs rights that you lack: choose one from 1024 on") from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ValueError(
                    f"--ip {ip!r} is no address of this machine: give one that is, or 0.0.0.0 for all"
                ) from None
        else:
            listening.setblocking(False)
            return listening
    raise ValueError(f"no port from {first} on is free: choose another --port, up to 65535")


def default_study() -> Study:
    """Return the profile that a demo is of where none is named: of real photos if it was run here."""
    chosen = [name for name in (FIRST_CHOICE, FALLBACK) if name in PROFILES]
    trained = [name for name in chosen if (data_folder(PROFILES[name]) / "reranker" / "log.csv").exists()]
    return find_profile((trained or [FALLBACK])[0])


def open_demo(study: Study | None, folder: Path | None) -> Demo | int:
    """Return the demo of an index or of a profile, photos rendered or read first where the first notebook has
    not run; where that fails, its exit code.

    Raises:
        ValueError: the profile has no models that can search; as `demo.open_folder` and `demo.open_study`.
    """
    from waldo_utils.app import demo, index, searching

    if folder is not None:
        models = searching.open_models(index.profile_of(folder))
        print(f"index: {folder}\nmodels: {models.weights}", flush=True)
        return demo.open_folder(folder, models)
    study = study or default_study()
    models = searching.open_models(study)  # refused here, in one line, before anything is rendered
    print(f"models: {models.weights}", flush=True)
    if not (data_folder(study) / "data" / "manifest.csv").exists():
        first = pipeline.STAGES[0].stem
        print(
            f"profile {study.name!r} has no photos here yet: notebook {first} makes them first, which "
            "takes a minute or two for `mini` on two cores. The page then opens at once, with these models; "
            f"`make study PROFILE={study.name}` runs the whole study, and the page then has what it trained.",
            flush=True,
        )
        code = pipeline.run(study, only=first)
        if code:
            return code
    return demo.open_study(study, models)


def serve(study: Study | None, folder: Path | None, ip: str, port: int, base_url: str, browser: bool) -> int:
    """Serve the page until interrupted and return the exit code.

    Args:
        study: whose photos and models; None: as `default_study`.
        folder: of an index to search instead.
        ip: address to listen on.
        port: the first to try.
        base_url: the path of the page.
        browser: whether to open it.

    Raises:
        ValueError: an address that cannot be; as `open_demo`.
    """
    base = base_path(base_url)
    listen(ip, port).close()  # what cannot be is refused before anything is computed
    opened = open_demo(study, folder)
    if isinstance(opened, int):
        return opened
    try:
        asyncio.run(serve_demo(opened, ip, port, base, browser))
    except KeyboardInterrupt:
        print("\nthe demo has ended", flush=True)
    return 0


async def serve_demo(demo: Demo, ip: str, port: int, base: str, browser: bool) -> None:
    """Serve a demo for ever; prints the address once it answers."""
    import matplotlib

    matplotlib.use("agg")  # drawn beside the main thread
    server = HTTPServer(application(demo, base), max_body_size=LARGEST_UPLOAD, max_buffer_size=LARGEST_UPLOAD)
    if demo.examples:  # what is prepared at the first search
        await asyncio.to_thread(demo.search, str(demo.examples[0]), None)
    listening = listen(ip, port)
    server.add_socket(listening)
    found = listening.getsockname()[1]
    try:
        host = "127.0.0.1" if ip in ("", "0.0.0.0", "::") else f"[{ip}]" if ":" in ip else ip
        taken = "" if port in (0, found) else f"port {port} is taken by another program; "
        others = ", and at every other address of this machine" if ip in ("", "0.0.0.0", "::") else ""
        address = f"http://{host}:{found}{base}"
        print(f"{taken}the demo is at {address}{others}; Ctrl+C ends it", flush=True)
        if browser:
            await asyncio.to_thread(webbrowser.open, address)
        await asyncio.Event().wait()
    finally:
        server.stop()
