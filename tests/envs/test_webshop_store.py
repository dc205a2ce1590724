"""Products as the original reads them, and the folder store that must answer like memory."""

import json
from pathlib import Path

import pytest

from agentrl.envs.webshop import disk, official
from agentrl.envs.webshop.products import parse_pricing, tag_of
from agentrl.envs.webshop.store import Shop
from agentrl.errors import DataError


def test_products_are_read_as_the_original_does(shop: Shop) -> None:
    assert len(shop) == 6
    hat, blue, scarf, lamp = (shop.product(i) for i in range(4))
    assert hat.options == {"size": ("small", "large"), "color": ("dark red", "navy | blue")}
    assert (hat.query, hat.price_tag, hat.price) == ("hats", "$19.99", 19.99)
    assert blue.price_tag == "$5.0 to $9.0"
    assert 5 <= blue.price <= 9
    assert (scarf.price_tag, scarf.price) == ("$100.0", 100.0)
    assert lamp.bullets == ("one bullet",)


def test_prices() -> None:
    assert parse_pricing("$1,299.50") == (1299.5,)
    assert parse_pricing("$5 - $9 - $12") == (5.0, 9.0)
    assert tag_of((5.0, 9.0)) == "$5.0 to $9.0"
    for text in ("free", "$"):
        with pytest.raises(DataError, match="pricing"):
            parse_pricing(text)


@pytest.fixture
def folder(tmp_path: Path, items, monkeypatch) -> Path:
    monkeypatch.setattr(disk, "CHUNK", 2)
    assert disk.build(tmp_path / "shop", items, name="six", human={"B000000002": []}) == 6
    return tmp_path / "shop"


def test_folder_answers_like_memory(shop: Shop, folder: Path) -> None:
    disk.verify(folder)
    opened = Shop.open(folder)
    assert list(opened.products) == list(shop.products)
    assert opened.rng().random() == shop.rng().random()
    for query in ("wool", "red wool hat", "oak table lamp", "zzz"):
        assert opened.index.search(query, 50) == shop.index.search(query, 50)
    for product in shop.products:
        assert opened.index_of(product.asin) == product.index
    assert opened.with_query("hats") == shop.with_query("hats") == (0, 1)
    assert opened.with_category("none") == ()
    assert [product.asin for product in opened.with_human_goals()] == ["B000000002"]
    with pytest.raises(KeyError):
        opened.index_of("B000000009")


def test_damaged_folders_are_refused(folder: Path, items) -> None:
    with pytest.raises(DataError, match="exists already"):
        disk.build(folder, items, name="six")
    data = folder / "products.bin"
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="bytes"):
        Shop.open(folder)
    data.write_bytes(whole.replace(b"Wool", b"Woll"))
    with pytest.raises(DataError, match="damaged"):
        disk.verify(folder)
    meta = json.loads((folder / "shop.json").read_text())
    (folder / "shop.json").write_text(json.dumps(meta | {"version": 99}))
    with pytest.raises(DataError, match="version"):
        Shop.open(folder)
    (folder / "shop.json").write_text("{")
    with pytest.raises(DataError, match="could not be read"):
        Shop.open(folder)


@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 20])
def test_streaming_a_list(tmp_path: Path, items, piece: int) -> None:
    path = tmp_path / "items_shuffle.json"
    path.write_text(json.dumps(items, indent=1))
    assert list(official.stream(path, piece)) == items
    path.write_text(json.dumps(items)[:-3])
    with pytest.raises(DataError, match="ends inside"):
        list(official.stream(path, piece))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Shop.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="items_shuffle"):
        Shop.load(tmp_path)
    (tmp_path / "items_shuffle.json").write_text("[]")
    with pytest.raises(DataError, match="items_ins_v2"):
        Shop.load(tmp_path)
    (tmp_path / "items_ins_v2.json").write_text("{")
    with pytest.raises(DataError, match="whole"):
        Shop.load(tmp_path)
