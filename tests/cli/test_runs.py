import pytest

from lightning_zoo.cli.errors import UsageError
from lightning_zoo.cli.explain import explain
from lightning_zoo.cli.find_config import CONFIGS, find_config
from lightning_zoo.cli.runs import Run, reserve, run_name


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("stem", "stated", "game", "name"),
    [
        ("stdim_pong", "pong", "pong", "stdim_pong"),
        ("stdim_pong", "pong", "boxing", "stdim_boxing"),
        ("pong_stdim_pong2", "pong", "ms_pacman", "ms_pacman_stdim_pong2"),
        ("mine", "pong", "boxing", "mine_boxing"),
        ("mine", "pong", "pong", "mine"),
        ("mine", None, "boxing", "mine_boxing"),
        ("stdim_pong", None, "pong", "stdim_pong"),
        ("features", None, None, "features"),
    ],
)
def test_names(here, stem, stated, game, name):
    config = here / f"{stem}.yaml"
    config.write_text(f"data: {{init_args: {{game: {stated}}}}}" if stated else "trainer: {}")
    assert run_name([config], "STDIM", game) == name
    assert run_name([config, here / "quick.yaml", here / "mine.yaml"], "STDIM", game) == f"{name}_quick_mine"


def test_the_name_without_a_config_and_of_a_run_s_own_config(here):
    assert run_name([], "STDIM", "pong") == "stdim"
    config = here / "runs/stdim_pong/version_3/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("data: {init_args: {game: pong}}")
    assert run_name([config], "STDIM", "pong") == "stdim_pong"
    assert run_name([config], "STDIM", "boxing") == "stdim_boxing"
    quick = here / "runs/stdim_pong_quick/version_0/config.yaml"
    quick.parent.mkdir(parents=True)
    quick.write_text("data: {init_args: {game: pong}}")
    assert run_name([quick], "STDIM", "boxing") == "stdim_boxing_quick"


def test_two_processes_get_two_folders(here):
    run = Run("a", here / "a/version_0")
    assert reserve(run).folder.name == "version_0"
    assert reserve(run).folder.name == "version_1"
    (here / "a/version_9").mkdir()
    assert reserve(run).folder.name == "version_10"
    resumed = Run("a", here / "a/version_0", "x.ckpt", 5)
    assert reserve(resumed) == resumed


def test_configs_are_found_here_first_then_in_the_package(here, capsys):
    assert find_config("quick.yaml") == find_config("quick") == CONFIGS / "quick.yaml"
    assert capsys.readouterr().err == ""
    (here / "quick.yaml").write_text("trainer: {}")
    assert find_config("quick.yaml").read_text() == "trainer: {}"
    assert f"packaged config of that name is {CONFIGS / 'quick.yaml'}" in capsys.readouterr().err
    assert find_config("quick") == CONFIGS / "quick.yaml"
    (here / "sub").mkdir()
    (here / "sub/own.yaml").write_text("")
    assert find_config("sub/own.yaml").read_text() == ""
    with pytest.raises(UsageError, match=r"No config 'quik\.yaml'.*Did you mean 'quick\.yaml'"):
        find_config("quik.yaml")
    with pytest.raises(UsageError, match="lightning_zoo list"):
        find_config("zzzzzzz")


def test_a_message_nobody_foresaw_stays_one_short_line():
    text = explain("Something\n  new:\n    - of many lines " + "and words " * 100)
    assert "\n" not in text
    assert len(text) <= 400
    assert text.startswith("Something new:")
