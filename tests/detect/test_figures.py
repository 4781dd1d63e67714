"""The figures of the explanations are drawn again by one command."""

from tools import figures


def test_the_figures_of_a_page_are_drawn(tmp_path, capsys):
    assert figures.main(["exactness", "--out", str(tmp_path)]) == 0
    drawn = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(drawn) == {"exactness_letterbox.webp", "exactness_inverse.webp"}
    assert all((figures.ASSETS / name).is_file() and size < 150_000 for name, size in drawn.items())
    assert figures.main(["exactnes"]) == 2 and "exactness" in capsys.readouterr().err
