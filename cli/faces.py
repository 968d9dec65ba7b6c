"""`lightning_zoo faces`: a local page that draws faces by attributes and refines the one that is picked."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import UsageError

if TYPE_CHECKING:
    import gradio as gr

HOST = "127.0.0.1"
FIRST_PORT = 7860
OFFLINE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def faces(
    ckpt_path: str,
    *,
    port: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    seed: int = 0,
    open_browser: bool = False,
    output: str | None = None,
) -> None:
    """Open a page on this machine: choose attributes, pick a face, draw one latent block again, save.

    The page is served to this machine alone and needs no network. Ctrl-C ends it.

    Args:
        ckpt_path: a checkpoint of a method that draws by attributes, or `last` or `best` for the newest run's.
        port: of the address; null for the first free one from 7860.
        device: where to compute.
        seed: of all that is drawn.
        open_browser: show the page in the browser at once.
        output: folder of saved pictures and codes; null for faces/ in the checkpoint's run.
    """
    from lightning_zoo.extras import require

    from .quiet import quiet
    from .trained import check_numbers, find_checkpoint, run_folder

    quiet()
    check_numbers(seed)
    path = find_checkpoint(ckpt_path)
    if output is not None and Path(output).exists() and not Path(output).is_dir():
        raise UsageError(f"--output {output} is a file: name a folder")
    free_port(port)
    model = load_conditional(path, device)
    with _ended_by_termination(), tempfile.TemporaryDirectory(prefix="lightning_zoo_faces_") as temporary:
        _stay_local(temporary)
        require("gradio")
        _serve(model, path, Path(output or run_folder(path) / "faces"), seed, port, open_browser)


def load_conditional(path: Path, device: str) -> Any:
    """The method of a checkpoint that draws by attributes, in evaluation mode, on `device`.

    Raises:
        CheckpointError: if the file cannot be used, or holds a method without attributes.
        UsageError: for a device that is not there.
    """
    from lightning_zoo.checkpoints import CheckpointError, load
    from lightning_zoo.generative.conditional_model import is_conditional

    from .trained import pick_device

    where = pick_device(device)
    model = load(path)
    if not is_conditional(model):
        raise CheckpointError(
            f"{path} holds {type(model).__name__}, which draws without attributes: faces needs a method such as "
            "ACVAEGAN; name its checkpoint with --ckpt_path"
        )
    return model.to(where)


def free_port(port: int | None) -> int:
    """The port, or the first from 7860 that nobody listens on.

    Raises:
        UsageError: if the port is no port, or taken, or there is no free one.
    """
    if port is not None and not 1 <= port <= 65535:
        raise UsageError(f"--port must be between 1 and 65535, got {port}")
    for candidate in range(FIRST_PORT, FIRST_PORT + 100) if port is None else (port,):
        with socket.socket() as listener, suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, candidate))
            return candidate
    taken = f"{FIRST_PORT} to {FIRST_PORT + 99} are all" if port is None else f"{port} is"
    raise UsageError(f"--port: {taken} taken or not allowed; name another one, or leave it out for a free one")


@contextmanager
def _ended_by_termination() -> Iterator[None]:
    """A termination is an ordinary end too: what was started is closed, and no folder stays behind."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stay_local(temporary: str) -> None:
    """Nothing is asked of the network, and what Gradio keeps is in a folder that goes away."""
    os.environ.update(OFFLINE, GRADIO_TEMP_DIR=temporary)
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST]))


def _serve(model: Any, path: Path, folder: Path, seed: int, port: int | None, open_browser: bool) -> None:
    from .face_codes import origin_of
    from .faces_page import CSS, build
    from .faces_session import FaceMaker
    from .trained import mistakes

    with mistakes():
        maker = FaceMaker(model, origin_of(model, path), folder, seed)
    page = build(maker, f"{type(model).__name__}, {path}")
    try:
        address = _launch(page, CSS, port, open_browser)
        print(f"Faces of {type(model).__name__} from {path}: {address} (Ctrl-C ends it)", flush=True)
        _wait()
    finally:
        page.close(verbose=False)


def _launch(page: gr.Blocks, css: str, port: int | None, open_browser: bool) -> str:
    """The address that the page is then served at."""
    # Not before: while a method is loaded, another page may take the first free port.
    place = free_port(port)
    try:
        page.launch(
            server_name=HOST,
            server_port=place,
            share=False,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size="64mb",
            theme=_theme(),
            css=css,
        )
    except OSError as error:
        raise UsageError(f"--port: {place} cannot be served ({error}); name another one") from error
    return f"http://{HOST}:{place}"


def _theme() -> gr.themes.Base:
    import gradio as gr

    # Fonts of the system: those of Gradio's themes would be asked of a server.
    theme: gr.themes.Base = gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    return theme.set(
        block_title_background_fill="transparent", block_title_padding="0", block_title_text_color="*body_text_color"
    )


def _wait() -> None:
    """Until Ctrl-C, which is the ordinary end."""
    with suppress(KeyboardInterrupt):
        while True:
            signal.pause()
