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
HELP = """# Faces

Choose what the faces have, and what not; what stays at *any* is filled in from combinations seen in training. Then show
faces, **click** the one you like, and draw one block of its latent code again to get variants of it."""

CSS = """
.gradio-container {max-width: 1440px !important; margin: 0 auto !important}
.choices {max-height: 80vh; overflow-y: auto; overflow-x: hidden; flex-wrap: nowrap; gap: 8px}
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
.blocks .wrap:not(.default) {flex-direction: column; gap: 3px}
.blocks label {padding: 1px 8px; width: 100%; font-size: 0.9em}
.faces .grid {display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px}
.faces .grid .none {grid-column: 1 / -1}
.faces button {padding: 0; border-radius: 8px; overflow: hidden; aspect-ratio: 1; cursor: pointer}
.faces button:hover {outline: 2px solid var(--border-color-accent)}
.faces button.selected {outline: 3px solid var(--color-accent)}
.faces img {width: 100%; height: 100%; display: block}
.notice {min-height: 1.6em; color: var(--color-accent)}
.current img {width: 208px; height: 208px; border-radius: 10px; display: block; margin: 0 auto 8px}
.current p {margin: 2px 0; font-size: 0.9em}
.none {color: var(--body-text-color-subdued); padding: 92px 0; text-align: center}
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
        gr.Markdown(f"{HELP} <small>{escape(title)}</small>")
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=330):
                states, clear = _choices(maker)
            with gr.Column(scale=5, min_width=420):
                with gr.Row():
                    show = gr.Button(f"Show {NUMBER} faces", variant="primary", elem_id="show")
                    undo = gr.Button("Undo", elem_id="undo")
                notice = gr.Markdown(elem_id="notice", elem_classes="notice")
                gallery = gr.HTML(_faces(Session()), js_on_load=SELECT, elem_id="faces", elem_classes="faces")
                caption = gr.Markdown(elem_id="shown")
                spread = gr.Slider(
                    0,
                    1.5,
                    1.0,
                    step=0.05,
                    label="Spread",
                    info="Of the faces that are shown next: below 1 more typical, above 1 more unusual.",
                    elem_id="spread",
                )
            with gr.Column(scale=3, min_width=320):
                current = gr.HTML(_current(maker, None), elem_id="current", elem_classes="current")
                with gr.Row():
                    save = gr.Button("Save picture and code", size="sm", min_width=120, elem_id="save")
                    reopen = gr.UploadButton(
                        f"Open a code ({SUFFIX})", file_types=[SUFFIX], size="sm", min_width=120, elem_id="open"
                    )
                block, share, number, vary = _refinement(maker)
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
        on(vary.click, lambda before, *values: _vary(maker, before, *values), [block, share, number])
        on(save.click, maker.save, [])
        on(reopen.upload, lambda before, file: maker.open(before, Path(file)), [reopen])
        gallery.select(
            pick, [session], shown, concurrency_id="method", show_progress="hidden", api_visibility="private"
        )
        clear.click(
            lambda: ["any"] * len(states), None, list(states.values()), show_progress="hidden", api_visibility="private"
        )
    return page


def _choices(maker: FaceMaker) -> tuple[dict[int, gr.Radio], gr.Button]:
    """A choice of three for each attribute, by its column, and the button that sets all back."""
    names = maker.origin.attribute_names
    states: dict[int, gr.Radio] = {}
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
    return states, clear


def _refinement(maker: FaceMaker) -> tuple[gr.Radio, gr.Slider, gr.Slider, gr.Button]:
    """Which block, how far, how many, and the button."""
    named = [(name, step) for step, name in enumerate(maker.block_names(), start=1)]
    block = gr.Radio(
        named,
        value=maker.gentle_block(),
        label="Block to draw again",
        info="How much the picture changes by it on average (of 255 levels), and what attends to it most. "
        "Far, at 1, the block is a new one; near 0 it is the old one.",
        elem_id="block",
        elem_classes="blocks",
    )
    with gr.Row():
        share = gr.Slider(0.05, 1, 0.6, step=0.05, label="How far", min_width=120, elem_id="share")
        number = gr.Slider(4, 32, NUMBER, step=4, label="How many", min_width=120, elem_id="number")
    return block, share, number, gr.Button("Show variants", variant="primary", elem_id="vary")


def _vary(maker: FaceMaker, before: Session, block: int, share: float, number: float) -> Session:
    return maker.resample(before, int(block), share=float(share), number=int(number))


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
    return f'<div class="grid">{"".join(buttons)}</div>'


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
    return f'<img alt="The picked face" src="{_picture(face.image)}"><p><b>Drawn with:</b> {attributes}</p>'


def _picture(image: Tensor) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"
