"""`lightning_zoo faces`: what it refuses, in one line and before anything is served."""

import socket
import subprocess
import sys

import pytest


@pytest.fixture
def conditional(project, conditional_toy):
    """The path of a toy's checkpoint."""
    return str(conditional_toy.save(conditional_toy.ConditionalToy(), project))


def one_error(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    return lines[0].removeprefix("error: ")


def test_a_method_without_attributes(zoo, project, generative_toy, conditional_toy, capsys):
    path = str(conditional_toy.save(generative_toy.LinearToy(), project))
    assert zoo("faces", "--ckpt_path", path, "--device", "cpu") == 2
    message = one_error(capsys)
    assert message.startswith(f"{path} holds LinearToy, which draws without attributes")
    assert "--ckpt_path" in message


def test_no_checkpoint(zoo, capsys):
    assert zoo("faces", "--ckpt_path", "nothing.ckpt") == 2
    assert one_error(capsys) == "No checkpoint nothing.ckpt."


@pytest.mark.parametrize("kind", ["folder", "text", "empty"])
def test_a_path_that_is_no_checkpoint(zoo, project, capsys, kind):
    path = project / "model.ckpt"
    path.mkdir() if kind == "folder" else path.write_text("no weights" * (kind == "text"))
    assert zoo("faces", "--ckpt_path", str(path), "--device", "cpu") == 2
    assert "model.ckpt" in one_error(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "--port must be between 1 and 65535, got 70000"),
        (["--seed", "-1"], "--seed must not be negative, got -1"),
        (["--output", "a_file"], "--output a_file is a file: name a folder"),
    ],
)
def test_wrong_values(zoo, conditional, project, capsys, words, message):
    (project / "a_file").write_text("")
    assert zoo("faces", "--ckpt_path", conditional, *words) == 2
    assert one_error(capsys) == message


def test_a_port_that_is_taken(zoo, conditional, capsys):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert zoo("faces", "--ckpt_path", conditional, "--port", str(port)) == 2
    assert one_error(capsys).startswith(f"--port: {port} is taken or not allowed; name another one")


def test_a_port_that_is_taken_while_the_method_is_loaded(zoo, conditional, monkeypatch, free_port, capsys):
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'lightning_zoo[app]'")
    from lightning_zoo.cli import faces_session

    port, make = free_port(), faces_session.FaceMaker
    with socket.socket() as listener:

        def slowly(*arguments):
            listener.bind(("127.0.0.1", port))
            listener.listen()
            return make(*arguments)

        monkeypatch.setattr(faces_session, "FaceMaker", slowly)
        assert zoo("faces", "--ckpt_path", conditional, "--device", "cpu", "--port", str(port)) == 2
    assert one_error(capsys).startswith(f"--port: {port} is taken or not allowed; name another one")


def test_an_untrained_checkpoint(zoo, project, conditional_toy, capsys, free_port):
    model = conditional_toy.ConditionalToy()
    model.attribute_bank.zero_()
    path = str(conditional_toy.save(model, project))
    assert zoo("faces", "--ckpt_path", path, "--device", "cpu", "--port", str(free_port())) == 2
    assert "train the method first" in one_error(capsys)


def test_without_gradio_the_command_that_installs_it(zoo, conditional, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert zoo("faces", "--ckpt_path", conditional, "--device", "cpu") == 2
    message = "This needs 'gradio', which is not installed: pip install 'lightning_zoo[app]'"
    assert one_error(capsys) == message


def test_nothing_but_the_command_itself_imports_gradio():
    code = (
        "import sys, lightning_zoo.cli.faces, lightning_zoo.cli.faces_session, lightning_zoo.cli.main as m; m.usage();"
    )
    found = subprocess.run(
        [sys.executable, "-c", code + "print('gradio' in sys.modules)"], capture_output=True, text=True
    )
    assert found.stdout.strip() == "False"
