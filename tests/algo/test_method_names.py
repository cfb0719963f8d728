# SPDX-License-Identifier: Apache-2.0
"""How methods are written: names, places of functions, sums; and what cannot be read."""

import pytest

from co_rewarding.algo.method_names import Term, absolute_name, label_of, terms_of

OWN = "rewards/brevity.py:short"


@pytest.mark.parametrize(
    ("name", "terms", "label"),
    [
        ("majority_voting", [(1.0, "majority_voting")], "majority_voting"),
        (OWN, [(1.0, OWN)], "brevity.short"),
        ("my.lib.brevity:short", [(1.0, "my.lib.brevity:short")], "brevity.short"),
        (f"co_rewarding_I+0.1*{OWN}", [(1.0, "co_rewarding_I"), (0.1, OWN)], "co_rewarding_I+0.1*brevity.short"),
        (f"{OWN}+entropy", [(1.0, OWN), (1.0, "entropy")], "brevity.short+entropy"),
        (" 2 * entropy + -1e-2*random ", [(2.0, "entropy"), (-0.01, "random")], "2*entropy+-0.01*random"),
        ("0*format_only", [(0.0, "format_only")], "0*format_only"),
        # signs of a sum that are a folder's
        ("/home/c++/2*3/b.py:f+random", [(1.0, "/home/c++/2*3/b.py:f"), (1.0, "random")], "b.f+random"),
        ("my dir/größe (1).py:f", [(1.0, "my dir/größe (1).py:f")], "größe-1-.f"),
    ],
)
def test_terms_and_labels(name: str, terms: list, label: str) -> None:
    assert terms_of(name) == tuple(Term(*term) for term in terms)
    assert label_of(name) == label


@pytest.mark.parametrize("name", ["", "+", "majority_voting+", "0.1*", "a/b.py", "a.py:", "a.py:1f", "a b"])
def test_what_is_no_method(name: str) -> None:
    with pytest.raises(ValueError, match=r"is no method: write a name, path/to/file\.py:function"):
        terms_of(name)


@pytest.mark.parametrize("weight", ["1.2.3", "1e7", "-1e999", "."])
def test_what_is_no_weight(weight: str) -> None:
    with pytest.raises(ValueError, match=r"is no weight: write a number from -1e\+06 to 1e\+06"):
        terms_of(f"entropy+{weight}*random")


def test_another_folder_finds_the_same_files(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = "co_rewarding_I+0.25*b.py:f+my.b:g"
    assert absolute_name(given) == f"co_rewarding_I+0.25*{tmp_path}/b.py:f+my.b:g"
    assert absolute_name(absolute_name(given)) == absolute_name(given)
    (tmp_path / "c++").mkdir()
    monkeypatch.chdir(tmp_path / "c++")
    assert terms_of(absolute_name(given))[1] == Term(0.25, f"{tmp_path}/c++/b.py:f")
