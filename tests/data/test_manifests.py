"""Manifests of each data set's exact form, and every kind of fault refused by name."""

import http.server
import threading
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from waldo_utils.data import checks, manifests, places


def write_photo(path, size=(12, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(str(path))).integers(0, 255, (*size, 3), np.uint8)).save(path)


@pytest.fixture
def sop(tmp_path):
    """A folder of exactly the form of Stanford Online Products: two categories, products 1 to 4."""
    root = tmp_path / "Stanford_Online_Products"
    rows = {"train": ["1 1 1 bicycle_final/1_0.JPG", "2 1 1 bicycle_final/1_1.JPG",
                      "3 2 4 coffee_maker_final/2_0.JPG", "4 2 4 coffee_maker_final/2_1.JPG"],
            "test": ["5 3 1 bicycle_final/3_0.JPG", "6 3 1 bicycle_final/3_1.JPG"]}  # fmt: skip
    for split, lines in rows.items():
        for line in lines:
            write_photo(root / line.split()[3])
        (root / f"Ebay_{split}.txt").write_text(
            "\n".join(["image_id class_id super_class_id path", *lines]) + "\n"
        )
    return root


def test_sop(sop):
    manifest = checks.check_manifest(manifests.sop_manifest(sop), sop, read=True)
    assert manifest.label.tolist() == [0, 0, 1, 1, 2, 2]
    assert manifest.category.tolist() == ["bicycle"] * 2 + ["coffee maker"] * 2 + ["bicycle"] * 2
    assert manifest.split.tolist() == ["train"] * 4 + ["test"] * 2


def test_sop_counts_are_compared_with_the_published_ones(sop):
    with pytest.raises(ValueError, match="4 photos of 2 products, published are 59551 of 11318"):
        checks.check_sop_counts(manifests.sop_manifest(sop))


def test_a_missing_list_and_a_malformed_line_are_named(sop):
    (sop / "Ebay_test.txt").write_text(
        "image_id class_id super_class_id path\n5 three 1 bicycle_final/3_0.JPG\n"
    )
    with pytest.raises(ValueError, match=r"Ebay_test.txt line 2: class_id is 'three'"):
        manifests.sop_manifest(sop)
    (sop / "Ebay_test.txt").write_text("image_id class_id super_class_id path\n5 3 1\n")
    with pytest.raises(ValueError, match=r"Ebay_test.txt line 2 is '5 3 1': expected 4 fields"):
        manifests.sop_manifest(sop)
    (sop / "Ebay_test.txt").unlink()
    with pytest.raises(FileNotFoundError, match="Ebay_test.txt is missing"):
        manifests.sop_manifest(sop)


def broken(change):
    table = {
        "path": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], "label": [0, 0, 1, 1], "category": ["x"] * 4,
        "split": ["train", "train", "test", "test"],
    }  # fmt: skip
    return pd.DataFrame(table | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": ["a.jpg", "a.jpg", "c.jpg", "d.jpg"]}, "listed twice: a.jpg"),
        ({"path": ["/etc/a.jpg", "b.jpg", "c.jpg", "d.jpg"]}, "outside the data set's folder: /etc/a.jpg"),
        ({"path": ["../a.jpg", "b.jpg", "c.jpg", "d.jpg"]}, r"outside the data set's folder: \.\./a.jpg"),
        ({"path": ["no.jpg", "b.jpg", "c.jpg", "d.jpg"]}, "1 photos are missing: no.jpg"),
        ({"split": ["train", "test", "test", "test"]}, "another split: b.jpg"),
        ({"category": ["x", "y", "x", "x"]}, "another category: b.jpg"),
        ({"label": [0, 0, 1, 2]}, "only photo of their product: c.jpg, d.jpg"),
    ],
)
def test_faults_of_a_manifest_are_named(tmp_path, change, message):
    for name in "abcd":
        write_photo(tmp_path / f"{name}.jpg")
    with pytest.raises(ValueError, match=message):
        checks.check_manifest(broken(change), tmp_path)


def test_broken_files_are_all_named(tmp_path):
    for name in "abcd":
        write_photo(tmp_path / f"{name}.jpg", (60, 60))
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:200])
    (tmp_path / "c.jpg").write_text("not a photo")
    with pytest.raises(ValueError, match="2 photos cannot be read as photos: a.jpg, c.jpg"):
        checks.check_manifest(broken({}), tmp_path, read=True)
    (tmp_path / "b.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="are empty files: b.jpg"):
        checks.check_manifest(broken({}), tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "secret.jpg"
    write_photo(outside)
    for name in "bcd":
        write_photo(inside / f"{name}.jpg")
    (inside / "a.jpg").symlink_to(outside)
    with pytest.raises(ValueError, match="links that lead out.*a.jpg"):
        checks.check_manifest(broken({}), inside)


def test_duplicates_are_found_by_content(tmp_path):
    for name in "abc":
        write_photo(tmp_path / f"{name}.jpg")
    (tmp_path / "b.jpg").write_bytes(
        (tmp_path / "d.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
        and (tmp_path / "c.jpg").read_bytes()
    )
    found = checks.duplicates(broken({}), tmp_path)
    assert ("d.jpg", "a.jpg") in found.itertuples(index=False, name=None)


def test_copies_share_a_number_even_where_the_first_is_in_another_split():
    manifest = pd.DataFrame({"path": ["train/a", "test/b", "test/c", "test/d"]})
    twins = pd.DataFrame({"path": ["test/b", "test/d"], "same_as": ["train/a", "train/a"]})
    groups = checks.copy_groups(manifest.iloc[1:], twins)
    assert groups[0] == groups[2] != groups[1]
    assert len(set(checks.copy_groups(manifest, twins.head(0)))) == 4


def test_hold_out_moves_whole_products_and_families():
    manifest = pd.DataFrame(
        {
            "path": range(60),
            "label": np.repeat(range(30), 2),
            "category": np.repeat(["x", "y"], 30),
            "split": "train",
        }
    )
    held = checks.hold_out(manifest, 0.2, seed=0)
    counts = held[held.split == "validation"].groupby("category").label.nunique()
    assert counts.to_dict() == {"x": 3, "y": 3}
    assert held.groupby("label").split.nunique().max() == 1
    by_family = checks.hold_out(manifest.assign(family=manifest.label // 3), 0.2, seed=0)
    assert by_family.groupby("family").split.nunique().max() == 1
    assert (checks.hold_out(manifest, 0.2, seed=0).split == held.split).all()


def test_hold_out_takes_as_many_products_of_sop_as_uned_does():
    products = [
        1000,
        941,
        300,
        1200,
        957,
        822,
        1010,
        1099,
        1187,
        888,
        1001,
        913,
    ]  # of twelve made-up categories
    category = np.repeat([f"category {i}" for i in range(12)], products)
    manifest = pd.DataFrame(
        {"path": range(11_318), "label": range(11_318), "category": category, "split": "train"}
    )
    held = checks.hold_out(manifest, 0.2, seed=0)
    assert held.split.value_counts().to_dict() == {"train": 9054, "validation": 2264}
    shares = held[held.split == "validation"].category.value_counts() / manifest.category.value_counts()
    assert shares.between(0.198, 0.202).all()


def test_hold_out_leaves_and_takes_at_least_one_of_each_category():
    category = np.repeat(["x", "y", "z"], [2, 3, 1])
    manifest = pd.DataFrame({"path": range(6), "label": range(6), "category": category, "split": "train"})
    for fraction in (0.01, 0.5, 0.99):
        counts = checks.hold_out(manifest, fraction, seed=0).groupby(["category", "split"]).size()
        assert counts["x"].to_dict() == {"train": 1, "validation": 1}
        assert set(counts["y"].index) == {"train", "validation"}
        assert counts["z"].to_dict() == {"train": 1}


def test_grocery(tmp_path):
    (tmp_path / "classes.csv").write_text(
        "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),"
        "Iconic Image Path (str)\n"
        "Golden,0,Apple,0,/i\nGranny,1,Apple,0,/i\nRoyal,6,Red-Grapefruit,1,/i\n"
    )
    (tmp_path / "train.txt").write_text("train/a_1.jpg, 0, 0\ntrain/a_2.jpg, 0, 0\ntrain/b, c.jpg, 1, 0\n")
    (tmp_path / "val.txt").write_text("val/d.jpg, 6, 1\n")
    manifest = manifests.grocery_manifest(tmp_path)
    assert manifest.split.tolist() == ["train", "train", "test", "validation"]
    assert manifest.category.tolist() == ["apple"] * 3 + ["red grapefruit"]
    assert manifest.path[2] == "train/b, c.jpg"
    (tmp_path / "val.txt").write_text("val/d.jpg, six, 1\n")
    with pytest.raises(ValueError, match="val.txt line 1 is 'val/d.jpg, six, 1'"):
        manifests.grocery_manifest(tmp_path)


def test_absent_data_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    monkeypatch.setenv("WALDO_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="download Stanford_Online_Products.zip .*set WALDO_DATA"):
        places.find_data("sop")


def test_data_are_found_in_a_folder_above_and_in_a_zip(sop, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    monkeypatch.setenv("WALDO_DATA", str(tmp_path))
    assert places.find_data("sop") == sop
    archive = tmp_path / "zipped" / "Stanford_Online_Products.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as out:
        for path in sop.rglob("*.*"):
            out.write(path, path.relative_to(sop.parent))
    monkeypatch.setenv("WALDO_DATA", str(archive))
    assert (places.find_data("sop") / "Ebay_train.txt").exists()
    assert (places.find_in("sop", archive) / "Ebay_train.txt").exists()


def test_the_transfer_set_is_found_beside_the_other(sop, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    monkeypatch.setenv("WALDO_DATA", str(sop))
    (tmp_path / "train.csv").touch()  # of something else
    with pytest.raises(FileNotFoundError, match="no products10k data"):
        places.find_data("products10k")
    (tmp_path / "Products-10k").mkdir()
    (tmp_path / "Products-10k" / "train.csv").touch()
    assert places.find_data("products10k") == tmp_path / "Products-10k"
    with pytest.raises(FileNotFoundError, match="no products10k data in .*Stanford_Online_Products"):
        places.find_in("products10k", sop)


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as out:
        out.writestr("../evil.txt", "x")
    with pytest.raises(ValueError, match="entry outside its folder"):
        places.unpack(tmp_path / "bad.zip")
    assert not (tmp_path / "bad").exists()
    (tmp_path / "cut.zip").write_bytes((tmp_path / "bad.zip").read_bytes()[:40])
    with pytest.raises(ValueError, match="is damaged"):
        places.unpack(tmp_path / "cut.zip")


def test_a_download_goes_on_where_it_stopped(tmp_path):
    source = tmp_path / "source.zip"
    with zipfile.ZipFile(source, "w") as out:
        out.writestr("dataset/classes.csv", "x" * 5000)
    content, asked = source.read_bytes(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            asked.append(start)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        folder = tmp_path / "target"
        folder.mkdir()
        (folder / "archive.zip.part").write_bytes(content[:100])
        unpacked = places.fetch(f"http://127.0.0.1:{server.server_port}/x.zip", folder, "by hand")
        server.shutdown()
    assert asked == [100]
    assert (unpacked / "dataset" / "classes.csv").read_text() == "x" * 5000


def test_no_network_is_one_line(tmp_path):
    with pytest.raises(ConnectionError, match="cannot download .* clone the repository"):
        places.fetch("http://127.0.0.1:1/x.zip", tmp_path, "clone the repository")


def test_products10k_needs_groups_for_all_test_products(tmp_path):
    (tmp_path / "train.csv").write_text("name,class,group\n0.jpg,0,7\n1.jpg,0,7\n")
    (tmp_path / "test_kaggletest.csv").write_text("name,class,Usage\n2.jpg,0,Public\n")
    manifest = manifests.products10k_manifest(tmp_path)
    assert manifest.path.tolist() == ["train/0.jpg", "train/1.jpg", "test/2.jpg"]
    assert manifest.category.unique().tolist() == ["7"]
    (tmp_path / "test_kaggletest.csv").write_text("name,class,Usage\n2.jpg,5,Public\n")
    with pytest.raises(ValueError, match="train.csv lacks, first 2.jpg"):
        manifests.products10k_manifest(tmp_path)


SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("quote", ["", '"'])
def test_lists_are_read_as_csv(tmp_path, separator, quote):
    def line(*fields):
        return SEPARATORS[separator].join(f"{quote}{field}{quote}" for field in fields) + "\n"

    (tmp_path / "train.csv").write_text(
        line("name", "class", "group") + line("a.jpg", 3, 1) + line("b.jpg", 3, 1)
    )
    (tmp_path / "test_kaggletest.csv").write_text(line("name", "class", "Usage") + line("c.jpg", 3, "Public"))
    manifest = manifests.products10k_manifest(tmp_path)
    assert manifest.path.tolist() == ["train/a.jpg", "train/b.jpg", "test/c.jpg"]
    assert manifest.label.tolist() == [3, 3, 3]


def test_quoted_names_hold_separators_and_quotes(tmp_path):
    (tmp_path / "train.csv").write_text('name,class,group\n"a, b.jpg",3,1\n"5"" mug;x.jpg", 3,1\n')
    (tmp_path / "test_kaggletest.csv").write_text('name,class,Usage\n5" c.jpg,3,Public\n')
    paths = manifests.products10k_manifest(tmp_path).path.tolist()
    assert paths == ["train/a, b.jpg", 'train/5" mug;x.jpg', 'test/5" c.jpg']
    (tmp_path / "train.csv").write_text('name,class,group\n"a, b.jpg,3,1\n')
    with pytest.raises(ValueError, match="train.csv line 2 is .*expected 3 fields .name, class, group."):
        manifests.products10k_manifest(tmp_path)
    (tmp_path / "train.csv").write_text("name|class|group\na.jpg|3|1\n")
    with pytest.raises(ValueError, match="expected the columns .* separated by commas, semicolons or tabs"):
        manifests.products10k_manifest(tmp_path)


def test_grocery_lists_may_be_quoted_or_with_semicolons(tmp_path):
    classes = (
        "Class Name (str);Class ID (int);Coarse Class Name (str);Coarse Class ID (int)\nGolden;0;Apple;0\n"
    )
    (tmp_path / "classes.csv").write_text(classes)
    (tmp_path / "train.txt").write_text(
        '"train/a, b.jpg", 0, 0\ntrain/c, d.jpg, 0, 0\ntrain/e.jpg;0;0\n"train/f;g.jpg";0;0\n'
    )
    manifest = manifests.grocery_manifest(tmp_path)
    assert manifest.path.tolist() == ["train/a, b.jpg", "train/c, d.jpg", "train/e.jpg", "train/f;g.jpg"]


def test_a_path_of_sop_is_the_rest_of_the_line(sop):
    (sop / "Ebay_test.txt").write_text(
        'image_id class_id super_class_id path\n5 3 1 mug final/IMG 5 (1).JPG\n6 3 1 "mug final/6.JPG"\n'
    )
    test = manifests.sop_manifest(sop).query("split == 'test'")
    assert test.path.tolist() == ["mug final/IMG 5 (1).JPG", "mug final/6.JPG"]
    (sop / "Ebay_test.txt").write_text(
        "image_id class_id super_class_id path note\n5 3 1 mug final/5 6.JPG x\n"
    )
    assert manifests.sop_manifest(sop).path.tolist()[-1] == "mug final/5 6.JPG"


# ---------------------------------------------------------------- archives and folders as people have them


def zip_of(sop, archive, below="Stanford_Online_Products", separator="/", method=zipfile.ZIP_DEFLATED):
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", method) as out:
        for path in sorted(sop.rglob("*.*")):
            name = f"{below}/{path.relative_to(sop).as_posix()}".lstrip("/").replace("/", separator)
            entry = zipfile.ZipInfo(name)
            entry.filename = name  # zipfile itself writes none with backslashes on Windows
            out.writestr(entry, path.read_bytes(), method)
    return archive


@pytest.mark.parametrize(
    "name",
    [
        "Stanford_Online_Products.ZIP", "Stanford_Online_Products (1).zip", "stanford_online_products.zip",
        "Stanford_Online_Products-2.Zip", "Stanford_Online_Products copy.zip",
    ],
)  # fmt: skip
@pytest.mark.parametrize("given", ["folder", "archive"])
def test_an_archive_is_found_under_names_that_browsers_give(sop, tmp_path, monkeypatch, name, given):
    archive = zip_of(sop, tmp_path / "downloads" / name)
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    monkeypatch.setenv("WALDO_DATA", str(archive.parent if given == "folder" else archive))
    assert places.locate("sop") == archive
    for _ in range(2):  # the second time it is unpacked
        found = places.find_data("sop")
        assert len(manifests.sop_manifest(found)) == 6
    checks.check_manifest(manifests.sop_manifest(found), found, read=True)


@pytest.mark.parametrize("below", ["", "Stanford_Online_Products", "data/Stanford_Online_Products"])
def test_an_archive_with_backslashes_is_unpacked_to_folders(sop, tmp_path, below):
    archive = zip_of(sop, tmp_path / "downloads" / "Stanford_Online_Products.zip", below, "\\")
    found = places.find_in("sop", archive)
    checks.check_manifest(manifests.sop_manifest(found), found, read=True)
    assert not [path for path in archive.parent.rglob("*") if "\\" in path.name]


def test_deflate64_is_told_by_name_and_leaves_nothing(sop, tmp_path):
    archive = zip_of(sop, tmp_path / "downloads" / "Stanford_Online_Products.zip")
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        place = content.find(signature)
        while place >= 0:
            content[place + offset] = 9
            place = content.find(signature, place + 1)
    archive.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"Stanford_Online_Products.zip is packed with deflate64, .*: unpack it your"
    ):
        places.find_in("sop", archive)
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_a_data_set_is_found_one_folder_deeper_and_in_other_capitals(sop, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    deeper = tmp_path / "place" / "unpacked" / "stanford_online_products"
    deeper.parent.mkdir(parents=True)
    sop.rename(deeper)
    for place in (tmp_path / "place", deeper.parent, deeper):
        monkeypatch.setenv("WALDO_DATA", str(place))
        assert places.find_data("sop") == deeper


def test_the_home_is_understood_in_WALDO_DATA(sop, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WALDO_DATA", "~/Stanford_Online_Products")
    assert places.find_data("sop") == sop
