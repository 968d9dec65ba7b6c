"""The faces page in Gradio: what is where, and which action a click is."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from .attribute_labels import grouped, readable
from .face_codes import SUFFIX
from .faces_session import Face, FaceMaker, Session, png

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

NUMBER = 16
STATES = {"any": 0, "yes": 1, "no": -1}

CSS = """
.gradio-container {width: 100% !important; max-width: 1720px !important; margin: 0 auto !important}
.gradio-container > main {padding-top: 12px !important; padding-bottom: 12px !important}
.title h1 {margin: 0; font-size: 1.35em}
.title small {margin-left: 0.7em; font-weight: 400; font-size: 0.6em; color: var(--body-text-color-subdued);
    overflow-wrap: anywhere}
.step h2 {margin: 0; font-size: 1.05em}
.step p {margin: 2px 0 0; font-size: 0.88em; line-height: 1.35; color: var(--body-text-color-subdued)}
.step, .title {padding: 0 !important}
.page {flex-wrap: wrap; width: 100%}
.page > .column {gap: 10px}
.tight {gap: 10px}
.tight button, #clear {border: 1px solid var(--border-color-primary)}
.gradio-container .slider {padding: 6px 8px !important; overflow: hidden}
.slider .head {flex-wrap: nowrap; margin-bottom: 0}
.slider .head label, .slider .head label span {margin: 0; white-space: nowrap}
.slider .head input {width: 60px; border: 1px solid var(--border-color-primary)}
.choices {max-height: max(260px, calc(100vh - 300px)); overflow-y: auto; overflow-x: hidden; flex-wrap: nowrap;
    gap: 6px}
.choices > * {flex-shrink: 0 !important}
.choices .column, .choices .form {gap: 0 !important}
.choices .attribute {display: flex; flex-direction: row; align-items: center; flex-wrap: nowrap;
    padding: 1px 2px !important; border-width: 0 !important; background: none; box-shadow: none;
    overflow: hidden !important}
.choices .form {background: none; border: none; box-shadow: none}
.choices .attribute > span {margin: 0; flex-grow: 1; font-weight: 400; font-size: 0.95em}
.choices .attribute .wrap:not(.default) {flex-wrap: nowrap; gap: 4px; width: auto}
.choices .attribute label {padding: 1px 9px; border-radius: 6px}
.choices .attribute label input {display: none}
.choices .attribute label span {margin: 0}
.gradio-container .blocks {padding: 6px !important}
.blocks .wrap:not(.default) {flex-direction: column; flex-wrap: nowrap; gap: 3px; overflow-y: auto;
    max-height: max(200px, calc(100vh - 500px))}
.blocks label {padding: 3px 8px; width: 100%; font-size: 0.88em; line-height: 1.3; flex-shrink: 0;
    text-wrap: pretty; border: 1px solid var(--border-color-primary)}
.gradio-container .faces, .gradio-container .current, .faces .html-container, .current .html-container {
    padding: 1px !important}
.faces .grid {display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px; margin: 0 auto;
    max-width: max(320px, calc(100vh - 262px))}
.faces .many {grid-template-columns: repeat(6, 1fr)}
.faces button {padding: 0; border-radius: 8px; overflow: hidden; aspect-ratio: 1; cursor: pointer}
.faces button:hover {outline: 2px solid var(--border-color-accent)}
.faces button.selected {outline: 3px solid var(--color-accent)}
.faces img {width: 100%; height: 100%; display: block}
.faces .none {padding: 180px 0}
.shown {min-height: 36px}
.notice {min-height: 1.6em; padding: 0 !important}
.notice p {overflow-wrap: anywhere; color: var(--primary-600)}
.dark .notice p {color: var(--primary-300)}
.current .picked {display: flex; gap: 12px; height: 148px}
.current img {width: 148px; height: 148px; border-radius: 10px; display: block; flex-shrink: 0}
.current p {margin: 0; font-size: 0.86em; line-height: 1.35; overflow-y: auto}
.current .none {height: 148px; padding-top: 60px}
.none {color: var(--body-text-color-subdued); text-align: center}
"""

SELECT = """
element.addEventListener('click', (event) => {
    const face = event.target.closest('[data-index]');
    if (face) trigger('select', {index: Number(face.dataset.index), value: null});
});
"""
"""A click on a face as the event `select`. `gr.Gallery` would write a file for each picture and ask for each."""


def build(maker: FaceMaker, title: str) -> gr.Blocks:
    """The page of a method; `title` says of which checkpoint."""
    with gr.Blocks(title="Faces", analytics_enabled=False) as page:
        session = gr.State(Session())
        gr.Markdown(f"# Faces <small>{escape(title)}</small>", elem_classes="title")
        with gr.Row(equal_height=False, elem_classes="page"):
            with gr.Column(scale=3, min_width=310):
                states, clear, spread, show = _choices(maker)
            with gr.Column(scale=5, min_width=420):
                gallery, caption, notice, undo, save, reopen = _gallery()
            with gr.Column(scale=4, min_width=350):
                current, block, share, number, vary = _refinement(maker)
        shown = [session, gallery, caption, notice, current]

        def on(event: Callable[..., Any], action: Callable[..., Session], inputs: list[Any]) -> None:
            def run(before: Session, *values: Any) -> list[Any]:
                return _updates(maker, before, action(before, *values))

            # One at a time: the method's modes are changed while it draws.
            event(
                run,
                [session, *inputs],
                shown,
                concurrency_id="method",
                show_progress="hidden",
                api_visibility="private",
            )

        def propose(before: Session, width: float, *chosen: str) -> Session:
            wanted = {column: STATES[state] for column, state in zip(states, chosen, strict=True) if STATES[state]}
            return maker.propose(before, wanted, number=NUMBER, spread=width)

        def pick(before: Session, event: gr.SelectData) -> list[Any]:
            return _updates(maker, before, maker.pick(before, int(event.index)))

        on(show.click, propose, [spread, *states.values()])
        on(undo.click, lambda before: before.back(), [])
        on(vary.click, lambda before, *values: _vary(maker, before, *values), [block, share, number, spread])
        on(save.click, maker.save, [])
        on(reopen.upload, lambda before, file: maker.open(before, Path(file)), [reopen])
        gallery.select(
            pick, [session], shown, concurrency_id="method", show_progress="hidden", api_visibility="private"
        )
        clear.click(
            lambda: ["any"] * len(states), None, list(states.values()), show_progress="hidden", api_visibility="private"
        )
    return page


def _step(title: str, text: str = "") -> None:
    gr.Markdown(f"## {title}\n\n{text}", elem_classes="step")


def _slider(least: float, most: float, value: float, step: float, label: str, name: str) -> gr.Slider:
    return gr.Slider(
        least, most, value, step=step, label=label, min_width=120, buttons=[], elem_id=name, elem_classes="slider"
    )


def _choices(maker: FaceMaker) -> tuple[dict[int, gr.Radio], gr.Button, gr.Slider, gr.Button]:
    """A choice of three for each attribute, by its column; the button that sets all back; spread; the button."""
    names = maker.origin.attribute_names
    states: dict[int, gr.Radio] = {}
    _step("1. Choose attributes", "What stays at *any* is filled in from combinations seen in training.")
    clear = gr.Button("Set all to any", size="sm", elem_id="clear")
    with gr.Column(elem_classes="choices"):
        for place, (title, columns) in enumerate(grouped(names).items()):
            with gr.Accordion(title, open=place < 2 or len(names) <= 16, elem_classes="group"):
                for column in columns:
                    states[column] = gr.Radio(
                        list(STATES),
                        value="any",
                        label=readable(names[column]),
                        elem_id=f"attribute_{names[column]}",
                        elem_classes="attribute",
                    )
    spread = _slider(0, 1.5, 1, 0.05, "Spread: low is typical", "spread")
    return states, clear, spread, gr.Button(f"Show {NUMBER} faces", variant="primary", elem_id="show")


def _gallery() -> tuple[gr.HTML, gr.Markdown, gr.Markdown, gr.Button, gr.Button, gr.UploadButton]:
    """The faces, what they are, what there is to say, and what is done with them but drawing."""
    _step("2. Pick a face")
    caption = gr.Markdown(elem_id="shown", elem_classes=["step", "shown"])
    gallery = gr.HTML(_faces(Session()), js_on_load=SELECT, elem_id="faces", elem_classes="faces")
    with gr.Row(elem_classes="tight"):
        undo = gr.Button("Undo", size="sm", min_width=80, elem_id="undo")
        save = gr.Button("Save picture and code", size="sm", min_width=150, elem_id="save")
        reopen = gr.UploadButton(
            f"Open a code ({SUFFIX})", file_types=[SUFFIX], size="sm", min_width=150, elem_id="open"
        )
    notice = gr.Markdown(elem_id="notice", elem_classes="notice")
    return gallery, caption, notice, undo, save, reopen


def _refinement(maker: FaceMaker) -> tuple[gr.HTML, gr.Radio, gr.Slider, gr.Slider, gr.Button]:
    """The picked face, which block, how far, how many, and the button."""
    _step("3. Vary the picked face", "One block of its latent code is drawn again; all others stay.")
    current = gr.HTML(_current(maker, None), elem_id="current", elem_classes="current")
    block = gr.Radio(
        [(name, step) for step, name in enumerate(maker.block_names(), start=1)],
        value=maker.gentle_block(),
        label="Block to draw again",
        info="In brackets by how many of 255 levels the picture changes; then what attends to the block most.",
        elem_id="block",
        elem_classes="blocks",
    )
    with gr.Row(elem_classes="tight"):
        share = _slider(0.05, 1, 0.6, 0.05, "How far", "share")
        number = _slider(4, 32, NUMBER, 4, "How many", "number")
    return current, block, share, number, gr.Button("Show variants", variant="primary", elem_id="vary")


def _vary(maker: FaceMaker, before: Session, block: int, share: float, number: float, spread: float) -> Session:
    return maker.resample(before, int(block), share=float(share), number=int(number), spread=float(spread))


def _updates(maker: FaceMaker, before: Session, after: Session) -> list[Any]:
    """What the page shows of a session; pictures that did not change are not sent again."""
    same = after.candidates is before.candidates and after.picked == before.picked
    gallery = gr.skip() if same else _faces(after)
    current = gr.skip() if after.current is before.current else _current(maker, after.current)
    return [after, gallery, after.shown, escape(after.notice), current]


def _faces(session: Session) -> str:
    """The candidates as buttons; the pictures are part of the page."""
    if not session.candidates:
        return '<div class="none">No faces yet</div>'
    buttons = [_button(index, face, index == session.picked) for index, face in enumerate(session.candidates)]
    many = " many" * (len(buttons) > NUMBER)
    return f'<div class="grid{many}">{"".join(buttons)}</div>'


def _button(index: int, face: Face, picked: bool) -> str:
    name = f"Face {index + 1}"
    chosen = ' class="selected"' * picked
    image = f'<img alt="{name}" src="{_picture(face.image)}">'
    return f'<button data-index="{index}" aria-label="{name}"{chosen}>{image}</button>'


def _current(maker: FaceMaker, face: Face | None) -> str:
    """The picked face, large, and the attributes that it has."""
    if face is None:
        return '<div class="none">No face picked yet</div>'
    has = [
        readable(name) for name, value in zip(maker.origin.attribute_names, face.attributes, strict=True) if value > 0
    ]
    attributes = escape(", ".join(has)) or "none of the attributes"
    image = f'<img alt="The picked face" src="{_picture(face.image)}">'
    return f'<div class="picked">{image}<p><b>Drawn with:</b> {attributes}</p></div>'


def _picture(image: Tensor) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"
