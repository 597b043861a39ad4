"""The page's server: its addresses, the queue, what it answers; a real browser is in test_demo_browser."""

import asyncio
import io
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from PIL import Image
from small import drawn_photo, page_served, small_gallery, small_models

from waldo_utils.__main__ import main
from waldo_utils.app import demo, page, searching
from waldo_utils.run import pipeline
from waldo_utils.study import PROFILES


class Slow(demo.Demo):
    """A demo whose searches wait for `go`."""

    go = threading.Event()
    begun = 0

    def search(self, photo, box):
        Slow.begun += 1
        Slow.go.wait(20)
        return super().search(photo, box)


@pytest.fixture(scope="module")
def slow():
    models = small_models()
    with page_served(Slow(models, small_gallery(models), None), "/a-b/") as address:
        yield address


@pytest.fixture
def address(slow):
    Slow.go.set()
    return slow


def ask(address, body=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body), timeout=30) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


def search(address, photo, box=None, each=lambda line: None):
    """Return the lines of a search; `each` is called as they come."""
    body = json.dumps({"photo": photo, "box": box}).encode()
    lines = []
    with urllib.request.urlopen(urllib.request.Request(address + "search", body), timeout=60) as answer:
        for line in answer:
            lines.append(json.loads(line))
            each(lines[-1])
    return lines


def test_a_visitor_opens_uploads_searches_and_compares(address):
    status, kind, content = ask(address)
    assert (status, kind) == (200, "text/html; charset=UTF-8")
    text = content.decode()
    assert "6 photos are searched" in text
    assert not re.search(
        r"""(src|href|fetch\()=?["'`](https?:|/)""", text
    )  # nothing of others, and below any path
    buffer = io.BytesIO()
    drawn_photo(3, (600, 400)).save(buffer, "PNG")
    name = urllib.parse.quote("größe.png")
    given = json.loads(ask(f"{address}photo?name={name}", buffer.getvalue())[2])
    assert (given["width"], given["height"]) == (600, 400)
    assert ask(f"{address}photo/{given['photo']}")[1] == "image/jpeg"
    lines = search(address, given["photo"], [10, 20, 300, 900])
    assert lines[0] == {"before": 0}
    assert lines[-1]["box"] == [10, 20, 300, 380]
    assert "thumbnail/" in lines[-1]["html"]
    assert Image.open(io.BytesIO(ask(f"{address}thumbnail/2")[2])).format == "JPEG"
    pair = f"{address}pair?photo={given['photo']}&box=10,20,300,380&row=2"
    assert Image.open(io.BytesIO(ask(pair)[2])).format == "PNG"
    assert json.loads(ask(f"{address}example/2")[2]) == {"photo": "2", "width": 48, "height": 40}
    assert ask(f"{address}alive")[0] == 204


def test_faults_are_told_and_leave_the_server_alive(address):
    status, kind, content = ask(f"{address}photo?name=notes.txt", b"not a photo")
    assert (status, kind) == (400, "application/json")
    assert "notes.txt cannot be read as a photo" in json.loads(content)["fault"]
    assert "holds nothing" in search(address, "0", [500, 0, 10, 10])[-1]["fault"]
    unknown = search(address, "unknown")[-1]
    assert unknown["unknown"] and "choose it again" in unknown["fault"]
    assert ask(f"{address}photo/unknown")[0] == 404
    assert ask(f"{address}thumbnail/99")[0] == 404
    assert "html" in search(address, "0")[-1]


def test_the_page_has_a_path_of_its_own(address):
    assert ask(address.rstrip("/"))[0] == 200  # led to the path that ends with "/"
    assert ask(address.replace("/a-b/", "/"))[0] == 404


def test_searches_are_answered_in_turn_and_told_how_many_are_before(slow):
    Slow.go.clear()
    Slow.begun = 0
    told = [[] for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = []
        for i in range(4):
            answers.append(pool.submit(search, slow, "0", None, told[i].append))
            until = time.monotonic() + 20
            while not told[i] and time.monotonic() < until:
                time.sleep(0.01)
        assert [lines[-1] for lines in told] == [{"before": i} for i in range(4)]
        assert Slow.begun == 1  # one at a time
        Slow.go.set()
        for answer in answers:
            assert "html" in answer.result(60)[-1]
    assert [line.get("before") for line in told[3]] == [3, 2, 1, 0, None]


def test_who_has_gone_is_not_searched_for(slow):
    Slow.go.clear()
    Slow.begun = 0
    seen = []
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(search, slow, "0", None, seen.append)
        while not seen:
            time.sleep(0.01)
        host, port = re.search(r"//(.+):(\d+)/", slow).groups()
        body = b'{"photo": "0", "box": null}'
        head = f"POST /a-b/search HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection((host, int(port))) as visitor:
            visitor.sendall(head + body)
            heard = b""
            while b'"before": 1' not in heard:
                heard += visitor.recv(4096)
        time.sleep(0.2)
        Slow.go.set()
        first.result(60)
        search(slow, "0")
    assert Slow.begun == 2


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "text, path",
    [("/", "/"), ("", "/"), ("demo", "/demo/"), ("/a/b", "/a/b/"), ("/user/x~1/proxy/80/", None)],
)
def test_a_base_path_has_slashes_at_both_ends(text, path):
    assert page.base_path(text) == (path or text)


@pytest.mark.parametrize("text", ["http://x/", "/a b/", "/a?b", "/../", "/a#b"])
def test_what_is_no_path_is_refused(text):
    with pytest.raises(ValueError, match="is no path of an address"):
        page.base_path(text)


def listened(ip, port):
    with page.listen(ip, port) as listening:
        return listening.getsockname()[1]


def test_a_port_that_is_taken_is_passed_over(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert taken < listened("127.0.0.1", taken) < taken + page.PORTS
        monkeypatch.setattr(page, "PORTS", 1)
        with pytest.raises(ValueError, match=f"no port from {taken} on is free"):
            page.listen("127.0.0.1", taken)
    assert listened("127.0.0.1", 0) > 0
    for port in (70_000, -5):
        with pytest.raises(ValueError, match="up to 65535"):
            page.listen("127.0.0.1", port)


@pytest.mark.parametrize("ip", ["192.0.2.7", "1.2.3.x."])
def test_an_address_of_another_machine_is_refused_before_anything_is_computed(ip, capsys):
    assert main(["demo", "--ip", ip, "--no-browser"]) == 2
    error = capsys.readouterr().err
    assert f"--ip '{ip}' is no address of this machine" in error and error.count("\n") == 1


def test_the_printed_address_is_the_one_that_answers(capsys):
    models = small_models()
    opened = demo.Demo(models, small_gallery(models), None)
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        taken = other.getsockname()[1]

        async def visit():
            task = asyncio.create_task(page.serve_demo(opened, "0.0.0.0", taken, "/x/", browser=False))
            said = ""
            while "Ctrl+C" not in said:
                await asyncio.sleep(0.05)
                assert not task.done()
                said += capsys.readouterr().out
            address = re.search(r"http://\S+/", said)[0]
            found = await asyncio.to_thread(ask, address + "alive")
            task.cancel()
            return said, address, found

        said, address, found = asyncio.run(visit())
    assert f"port {taken} is taken by another program" in said
    assert "every other address of this machine" in said
    assert address.startswith("http://127.0.0.1:") and address.endswith("/x/")
    assert found[0] == 204


# ---------------------------------------------------------------- what is opened


def test_a_demo_without_photos_says_what_is_run_first_and_on_what_it_will_search(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(page, "data_folder", lambda study: tmp_path)
    monkeypatch.setattr(searching, "open_models", lambda study: small_models())
    monkeypatch.setattr(pipeline, "run", lambda study, only: print(f"[1/9] {only} ...") or 3)
    assert page.serve(PROFILES["smoke"], None, "127.0.0.1", 0, "/", False) == 3
    said, run = capsys.readouterr().out.split("[1/9] ")
    assert run.startswith(pipeline.STAGES[0].stem)
    assert "models: random" in said
    assert f"notebook {pipeline.STAGES[0].stem} makes them first" in said
    assert "a minute or two" in said and "`make study PROFILE=smoke` runs the whole study" in said


def test_real_photos_are_shown_where_they_were_run(monkeypatch, tmp_path):
    monkeypatch.setattr(page, "data_folder", lambda study: tmp_path / study.name)
    real = replace(PROFILES["mini"], name="photos")
    monkeypatch.setitem(PROFILES, "photos", real)
    assert page.default_study().name == "mini"
    for name in ("mini", "photos"):
        (tmp_path / name / "reranker").mkdir(parents=True)
        (tmp_path / name / "reranker" / "log.csv").touch()
        assert page.default_study().name == name


def test_an_index_that_is_not_there_is_told(tmp_path, capsys):
    assert main(["demo", "--index", str(tmp_path / "none"), "--no-browser", "--port", "0"]) == 2
    assert "holds no index: make one with" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["demo", "--index", str(tmp_path), "--profile", "mini"])
    assert "not allowed with" in capsys.readouterr().err
