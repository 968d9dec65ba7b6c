"""The faces page as people meet it: the command in a process of its own, its page in a headless Chromium."""

import base64
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_zoo.cli.attribute_labels import GROUPS

pytestmark = pytest.mark.browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
CONTROLS = ("clear", "spread", "show", "undo", "save", "open", "notice", "block", "share", "number", "vary")
ALL_DRAWN = """(number) => {
    const images = [...document.querySelectorAll('#faces img')];
    return images.length == number && images.every((image) => !image.dataset.old && image.naturalWidth);
}"""


SERVER = """
import os, sys

def note(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        asked.write(f"name {arguments[0]}\\n")
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        asked.write("address {}:{}\\n".format(*arguments[1]))

asked = open(os.environ["ASKED"], "a", buffering=1)
sys.addaudithook(note)
from lightning_zoo.cli.main import main
main()
"""
"""The command, noting every name that it looks up and every address that it connects to."""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser on the path ({', '.join(BROWSERS)}): apt-get install chromium")
    with playwright.sync_playwright() as driver:
        window = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield window
        window.close()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An acVAE-GAN of 64x64 of the published widths, untrained: as fast as a trained one."""
    toys = str(Path(__file__).parents[1] / "toys")
    sys.path.insert(0, toys)
    import conditional_toy

    from lightning_zoo.generative.acvae_gan import ACVAEGAN

    sys.path.remove(toys)
    torch.manual_seed(0)
    model = ACVAEGAN()
    model.attribute_bank.copy_((torch.rand(1024, 40) < 0.3) * 2 - 1)
    with torch.no_grad():
        for weight in model.parameters():
            # As they are initialised, all pictures are grey.
            weight.mul_(2.5 if weight.dim() > 1 else 1)
    return conditional_toy.save(model, tmp_path_factory.mktemp("acvae"))


@pytest.fixture
def serve(tmp_path, free_port):
    """Start `lightning_zoo faces`; its process and address."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'lightning_zoo[app]'")
    processes = []

    def start(path, *words):
        port, temporary = free_port(), tmp_path / "temporary"
        temporary.mkdir(exist_ok=True)
        # A proxy that nobody answers: nothing may be asked of the network.
        environment = os.environ | {
            "TMPDIR": str(temporary),
            "HTTP_PROXY": "http://127.0.0.1:9",
            "PYTHONUNBUFFERED": "1",
            "ASKED": str(tmp_path / "asked.txt"),
        }
        environment |= {"http_proxy": environment["HTTP_PROXY"], "https_proxy": environment["HTTP_PROXY"]}
        environment.pop("OMP_NUM_THREADS", None)
        environment["PYTHONPATH"] = str(Path(__file__).parents[1] / "toys")
        options = [
            "--ckpt_path",
            str(path),
            "--port",
            str(port),
            "--device",
            "cpu",
            "--output",
            str(tmp_path / "saved"),
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, "faces", *options, *words],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell that starts the tests in the background has them ignore Ctrl-C, and their children too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        processes.append(process)
        told = ""
        for line in process.stdout:
            told += line
            if "http://" in line:
                break
        assert f"http://127.0.0.1:{port} " in told, told
        return process, f"http://127.0.0.1:{port}"

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def visit(browser):
    """Open an address; the page, and all that the browser asked for."""
    contexts = []

    def go(address):
        context = browser.new_context(viewport={"width": 1440, "height": 1000})
        contexts.append(context)
        page, asked = context.new_page(), []
        context.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.set_default_timeout(30_000)
        page.goto(address)
        page.wait_for_selector("#show")
        return page, asked

    yield go
    for context in contexts:
        context.close()


def pictures_after(page, button, number=16):
    """Click and wait until so many new pictures are drawn; their addresses and the seconds it took."""
    page.evaluate("() => document.querySelectorAll('#faces img').forEach((image) => { image.dataset.old = 'yes'; })")
    start = time.perf_counter()
    page.click(button)
    page.wait_for_function(ALL_DRAWN, arg=number, polling="raf")
    return addresses(page), time.perf_counter() - start


def addresses(page):
    return page.eval_on_selector_all("#faces img", "images => images.map((image) => image.src)")


def pixels(address):
    content = base64.b64decode(address.partition("base64,")[2])
    return np.asarray(Image.open(io.BytesIO(content)), dtype=int)


def current(page):
    return page.get_attribute("#current img", "src")


def choose(page, attribute, state):
    label = page.locator(f"#attribute_{attribute} label", has_text=re.compile(f"^\\s*{state}\\s*$"))
    if not label.is_visible():
        group = next(title for title, members in GROUPS.items() if attribute in members)
        page.locator(".group button", has_text=group).first.click()
    label.click()


def pick(page, place):
    wanted = addresses(page)[place]
    page.click(f"#faces [data-index='{place}']")
    page.wait_for_function("(source) => document.querySelector('#current img')?.src == source", arg=wanted)
    return wanted


def open_code(page, file):
    with page.expect_file_chooser() as chooser:
        page.click("#open")
    chooser.value.set_files(file)


def asked_by_the_server(tmp_path, address):
    """Names and addresses that the server's process asked, other than its own."""
    host, _, port = address.removeprefix("http://").partition(":")
    noted = set((tmp_path / "asked.txt").read_text().splitlines())
    # Gradio asks its own server whether it has started: notes are taken.
    assert f"address {host}:{port}" in noted
    return noted - {f"name {host}", f"address {host}:{port}"}


def out_of_sight(page, width, height):
    """Controls that a window of this size does not show whole without scrolling."""
    page.set_viewport_size({"width": width, "height": height})
    page.evaluate("() => scrollTo(0, 0)")
    boxes = {name: page.locator(f"#{name}").bounding_box() for name in CONTROLS}
    cut = """name => [document.querySelector('#' + name), ...document.querySelectorAll('#' + name + ' *')]
        .some((part) => part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).overflowX == 'hidden')"""
    return [
        name
        for name, box in boxes.items()
        if min(box["x"], box["y"]) < 0
        or box["x"] + box["width"] > width
        or box["y"] + box["height"] > height
        or page.evaluate(cut, name)
    ]


def wait_for_notice(page, words):
    page.wait_for_function("(words) => document.querySelector('#notice').innerText.includes(words)", arg=words)
    return page.inner_text("#notice")


def test_choose_pick_vary_undo_save_and_open(serve, visit, checkpoint, tmp_path, capsys):
    process, address = serve(checkpoint)
    page, asked = visit(address)
    for attribute, state in (("Smiling", "yes"), ("Male", "no"), ("Eyeglasses", "yes")):
        choose(page, attribute, state)
    first, _ = pictures_after(page, "#show")
    assert len(set(first)) == 16
    times = [pictures_after(page, "#show")[1] for _ in range(5)]
    shown = addresses(page)
    assert not set(shown) & set(first)

    chosen = pick(page, 5)
    assert page.get_attribute("#faces [data-index='5']", "class") == "selected"
    drawn_with = page.inner_text("#current").split("Drawn with:")[1]
    assert "Smiling" in drawn_with
    assert "Eyeglasses" in drawn_with
    assert "Male" not in drawn_with

    page.locator("#block label").nth(7).click()
    varied, seconds = pictures_after(page, "#vary")
    assert len(set(varied)) == 16
    assert "block 8 moved by 60%" in page.inner_text("#shown")
    other = pick(page, 2)
    assert other != chosen
    for size in ((1280, 900), (1440, 1000), (1920, 1080)):
        assert out_of_sight(page, *size) == []
    page.screenshot(path=tmp_path / "faces_page.png", full_page=True)

    page.click("#save")
    wait_for_notice(page, "face_001.png")
    picture = np.asarray(Image.open(tmp_path / "saved" / "face_001.png"))
    assert picture.shape == (64, 64, 3)

    page.click("#undo")
    page.wait_for_function("(source) => document.querySelector('#current img').src == source", arg=chosen)
    assert addresses(page) == varied
    page.click("#undo")
    page.wait_for_function("(source) => document.querySelector('#faces img').src == source", arg=shown[0])
    assert addresses(page) == shown

    open_code(page, tmp_path / "saved" / "face_001.npz")
    assert wait_for_notice(page, "Opened") == "Opened face_001.npz."
    # Drawn alone and not among sixteen: rounding may differ.
    page.wait_for_function("(source) => document.querySelector('#current img').src != source", arg=chosen)
    assert np.abs(pixels(current(page)) - pixels(other)).max() <= 1
    assert np.abs(pixels(current(page)) - pixels(chosen)).max() > 1
    hosts = {urlparse(url).hostname for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    assert asked_by_the_server(tmp_path, address) == set()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert "Traceback" not in process.stdout.read()
    assert not list((tmp_path / "temporary").glob("lightning_zoo_faces_*"))
    with capsys.disabled():
        line = ", ".join(f"{taken:.2f}" for taken in times)
        print(f"\nfrom click to 16 faces of 64x64: {line} s; to 16 variants: {seconds:.2f} s ({os.cpu_count()} cores)")
    assert min(times) < 5


def test_notices_and_a_code_of_another_model(serve, visit, conditional_toy, tmp_path):
    from lightning_zoo.cli.face_codes import Origin, write_code

    names = ("Bald", "Bangs", "Male", "Smiling", "Young")
    path = conditional_toy.save(conditional_toy.ConditionalToy(attribute_names=names, num_steps=1), tmp_path)
    _, address = serve(path)
    page, _ = visit(address)
    page.click("#vary")
    wait_for_notice(page, "Pick a face first")
    page.click("#save")
    wait_for_notice(page, "There is no face to save")
    page.click("#undo")
    wait_for_notice(page, "There is nothing to undo")
    choose(page, "Bald", "yes")
    choose(page, "Bangs", "yes")
    pictures_after(page, "#show")
    wait_for_notice(page, "Contradictory attributes, drawn all the same: Bald with Bangs.")
    assert "The whole latent tensor" in page.inner_text("#block")
    pick(page, 0)
    number = page.locator("#number input[type=number]")
    number.fill("8")
    number.press("Enter")
    varied, _ = pictures_after(page, "#vary", 8)
    assert len(set(varied)) == 8
    other = Origin("ACVAEGAN", names, (8, 2, 2), (3, 16, 16), "")
    write_code(tmp_path / "other.npz", torch.zeros(8, 2, 2), torch.ones(5), other)
    open_code(page, tmp_path / "other.npz")
    wait_for_notice(page, "other.npz is of ACVAEGAN, the checkpoint of ConditionalToy")


def test_a_termination_ends_it_and_leaves_nothing(serve, conditional_toy, tmp_path):
    process, _ = serve(conditional_toy.save(conditional_toy.ConditionalToy(), tmp_path))
    assert list((tmp_path / "temporary").glob("lightning_zoo_faces_*"))
    process.terminate()
    assert process.wait(20) == 0
    assert not list((tmp_path / "temporary").glob("lightning_zoo_faces_*"))


def test_it_listens_on_this_machine_alone(serve, conditional_toy, tmp_path):
    psutil = pytest.importorskip("psutil")
    process, address = serve(conditional_toy.save(conditional_toy.ConditionalToy(), tmp_path))
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    listening = {
        (open_.laddr.ip, open_.laddr.port)
        for member in family
        for open_ in member.net_connections()
        if open_.status == "LISTEN"
    }
    assert listening == {("127.0.0.1", int(address.rpartition(":")[2]))}
