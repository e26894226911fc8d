"""Folders of results."""

from eigencode.reports import claimed, remove_at_once


def test_what_is_removed_at_once_is_cleared_away_by_the_next_run(tmp_path, monkeypatch):
    """A kill in the middle of removing leaves nothing that looks like it was there before."""
    place = tmp_path / "states"
    (place / "members").mkdir(parents=True)
    (place / "run.json").touch()
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda *_, **__: None)  # as if killed
        remove_at_once(place)
    assert not place.exists()
    assert [path.name.startswith(".") for path in tmp_path.iterdir()] == [True]
    with claimed(tmp_path, overwrite=False):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    remove_at_once(place)
