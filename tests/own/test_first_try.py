"""The walk through the tools for one's own photos: the folders that it makes, and what it gathers."""

from types import SimpleNamespace

import pandas as pd

from waldo_utils.own import first_try


def manifest(products, photos):
    rows = [
        {"path": f"{product}_{photo}.jpg", "label": product, "category": "ab"[product % 2], "split": "test"}
        for product in range(products)
        for photo in range(photos)
    ]
    return pd.DataFrame(rows)


def test_the_first_products_of_all_categories_give_their_first_photos(monkeypatch):
    monkeypatch.setattr(first_try, "PRODUCTS", 3)
    monkeypatch.setattr(first_try, "PER_PRODUCT", 2)
    kept = first_try.choose(manifest(10, 4).sort_values(["category", "label"], kind="stable"))
    assert sorted(set(kept.label)) == [0, 1, 2]  # by category: a has 0 and 2, b has 1
    assert kept.path.tolist() == ["0_0.jpg", "0_1.jpg", "2_0.jpg", "2_1.jpg", "1_0.jpg", "1_1.jpg"]


def test_folders_hold_categories_and_products_and_the_photos_times(tmp_path, monkeypatch):
    root = tmp_path / "root"
    root.mkdir()
    listed = manifest(3, 2).assign(category="a/b")
    for path in listed.path:
        (root / path).write_bytes(path.encode())
    trained_on = listed.assign(split="train")
    whole = pd.concat([listed, trained_on.assign(label=trained_on.label + 3)], ignore_index=True)
    monkeypatch.setattr(first_try.sources, "open_source", lambda settings, data: (whole, root))
    monkeypatch.setattr(first_try.sources, "open_transfer", lambda settings, data: (listed[:2], root))
    old = tmp_path / "out" / "test" / "left.jpg"
    old.parent.mkdir(parents=True)
    old.touch()
    settings = SimpleNamespace(source="rendered")  # whose lists count from 1, not so those of transfer sets
    folders = first_try.write_folders(settings, tmp_path, tmp_path / "out")
    names = {
        name: sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
        for name, folder in folders.items()
    }
    assert names["test"] == [f"a b/{i + 1}/{i}_{j}.jpg" for i in range(3) for j in range(2)]
    assert names["transfer"] == ["a b/0/0_0.jpg", "a b/0/0_1.jpg"]
    copy = folders["test"] / "a b" / "2" / "1_1.jpg"
    assert copy.read_bytes() == b"1_1.jpg"
    assert copy.stat().st_mtime_ns == (root / "1_1.jpg").stat().st_mtime_ns
    whole["product"] = "chair/" + whole.label.astype(str)  # its list's own word for it
    folders = first_try.write_folders(settings, tmp_path, tmp_path / "out")
    assert (folders["test"] / "a b" / "chair 1" / "1_1.jpg").exists()


def test_a_verdict_per_folder_is_printed_and_an_older_training_of_the_name_is_removed(monkeypatch, capsys):
    calls = []

    def train(folder, name, minutes, say, most_steps):
        calls.append((folder, name, most_steps))
        say("about 7 minutes on this machine")
        say(f"verdict on {folder}")
        return pd.DataFrame({"metric": ["R@1"], "difference": [0.1]})

    monkeypatch.setattr(first_try.adapting, "train", train)
    monkeypatch.setattr(first_try.runs, "forget", lambda name: calls.append(name))
    table = first_try.train({"test": "A", "transfer": "B"}, "smoke")
    assert calls == ["smoke_test", ("A", "smoke_test", 10), "smoke_transfer", ("B", "smoke_transfer", 10)]
    assert table.folder.tolist() == ["test", "transfer"]
    assert capsys.readouterr().out == "test: verdict on A\n\ntransfer: verdict on B\n\n"
