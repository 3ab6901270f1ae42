def test_try(place):
    assert place.call("6") == 0
    import shutil

    shutil.copytree(place.folder / "pages", "/tmp/w/try6", dirs_exist_ok=True)
