"""Bundles of before are read under today's names."""

from isthmus.model.earlier_names import renamed


def test_generators_precision_is_their_dtype() -> None:
    generator = {
        "class_path": "isthmus.generators.ZeroScope",
        "init_args": {"precision": "float16", "fps": 8},
    }
    found = renamed({"output_side": {"init_args": {"generators": [generator]}}, "seed": 3})
    (own,) = found["output_side"]["init_args"]["generators"]
    assert own == {"class_path": generator["class_path"], "init_args": {"dtype": "float16", "fps": 8}}
    assert found["seed"] == 3 and "precision" in generator["init_args"]


def test_what_is_named_so_elsewhere_stays() -> None:
    other = {"class_path": "somebody.Generator", "init_args": {"precision": "double"}}
    assert renamed([other, {"precision": 2}]) == [other, {"precision": 2}]


def test_recompute_is_gone() -> None:
    options = {"checkpoint": "llm", "lora": {"rank": 4}}
    backbone = {"class_path": "isthmus.backbones.CausalBackbone", "init_args": options | {"recompute": False}}
    assert renamed({"language_model": backbone}) == {"language_model": backbone | {"init_args": options}}
    other = {"class_path": "somebody.Backbone", "init_args": {"recompute": True}}
    assert renamed(other) == other
