from PIL import Image


def test_make_faces_writes_the_layout_of_celeba(zoo, project, capsys):
    words = ("make_faces", "--root", "faces", "--num_images", "14", "--preview", "faces.png")
    assert zoo(*words) == 0
    assert "faces/celeba: 14 synthetic faces" in capsys.readouterr().out
    assert (project / "faces" / "celeba" / "SYNTHETIC").is_file()
    assert len(list((project / "faces" / "celeba" / "img_align_celeba").glob("*.jpg"))) == 14
    with Image.open("faces.png") as sheet:
        assert sheet.size == (12 * 89, 2 * 109)
    assert zoo(*words) == 0
    assert "were there already" in capsys.readouterr().out


def test_mistakes_are_one_line(zoo, project, capsys):
    assert zoo("make_faces", "--num_images", "3") == 2
    assert capsys.readouterr().err == "error: num_images must be from 10 to 999999, got 3\n"
