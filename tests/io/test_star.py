"""STAR text comes back as it was, to the byte."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_disentangle.errors import InputError
from napari_disentangle.io.star import StarFile, quote

LIST = """
# version 50001

data_optics

loop_
_rlnOpticsGroup #1
_rlnImagePixelSize #2
1 1.35

# version 50001

data_particles

loop_
_rlnTomoName #1
_rlnCoordinateX #2
_rlnImageName #3
# a comment that stays
0012  -7.04404e-04   "a file.mrcs"
0013\t1.0\t'b c.mrcs'  # why

0014  2.50  d.mrcs\x20
"""

plain = st.text(string.ascii_letters + string.digits + ".-+@/é[],", min_size=1, max_size=12).filter(
    lambda v: not v.lower().startswith(("data_", "loop_")) and v[0] not in "["
)
spaced = st.text(string.ascii_letters + " '\"#", max_size=12).filter(lambda v: not ("'" in v and '"' in v))


@st.composite
def star_texts(draw: st.DrawFn) -> str:
    """Lists with odd spaces, comments, quotes, blank lines, numbered or plain labels, and either kind of line end."""
    eol = draw(st.sampled_from(["\n", "\r\n"]))
    lines: list[str] = draw(st.lists(st.sampled_from(["", "# version 30001", "   "]), max_size=2))
    for name in draw(st.lists(st.sampled_from(["", "optics", "particles"]), min_size=1, max_size=3)):
        count = draw(st.integers(1, 4))
        numbered = draw(st.booleans())
        lines += [f"data_{name}", "", "loop_ "]
        lines += [f"_col{k} #{k + 1}" if numbered else f"_col{k}" for k in range(count)]
        for row in draw(st.lists(st.lists(st.one_of(plain, spaced), min_size=count, max_size=count), max_size=4)):
            gap = draw(st.sampled_from([" ", "\t", "    "]))
            indent, end = draw(st.sampled_from(["", "  "])), draw(st.sampled_from(["", " ", "  # odd"]))
            lines.append(indent + gap.join(quote(v) for v in row) + end)
            lines += draw(st.lists(st.sampled_from(["", " ", "# between"]), max_size=1))
        lines.append("")
    return eol.join(lines) + draw(st.sampled_from(["", eol]))


@given(star_texts())
@settings(deadline=None, max_examples=60)
def test_keeping_all_rows_changes_no_byte(text: str) -> None:
    star = StarFile.parse(text)
    assert star.text == text
    for block in star.blocks:
        assert star.with_rows(block, range(len(block))).text == text


@given(star_texts(), st.data())
@settings(deadline=None, max_examples=60)
def test_filtered_rows_are_the_originals(text: str, data: st.DataObject) -> None:
    star = StarFile.parse(text)
    at = data.draw(st.integers(0, len(star.blocks) - 1))
    block = star.blocks[at]
    keep = [k for k in range(len(block)) if data.draw(st.booleans())]
    less = star.with_rows(block, reversed(keep))
    assert less.blocks[at].rows == [block.rows[k] for k in keep]
    assert [b.rows for b in less.blocks if b is not less.blocks[at]] == [b.rows for b in star.blocks if b is not block]
    gone = len(text.splitlines()) - len(less.text.splitlines())
    assert gone == len(block) - len(keep)


@given(star_texts(), st.data())
@settings(deadline=None, max_examples=60)
def test_appended_columns_leave_the_others_alone(text: str, data: st.DataObject) -> None:
    star = StarFile.parse(text)
    at = data.draw(st.integers(0, len(star.blocks) - 1))
    block = star.blocks[at]
    values = [data.draw(st.one_of(plain, spaced)) for _ in range(len(block))]
    more = star.with_columns(block, {"new": values, "two": ["2"] * len(block)}).blocks[at]
    assert more.columns == [*block.columns, "new", "two"]
    assert more.rows == [[*row, value, "2"] for row, value in zip(block.rows, values, strict=True)]


@given(st.one_of(plain, spaced))
def test_quoted_values_are_read_back(value: str) -> None:
    block = StarFile.parse(f"data_\nloop_\n_a\n_b\n{quote(value)} 1\n").blocks[0]
    assert block.rows == [[value, "1"]]


@pytest.mark.shared_data
def test_every_real_file_comes_back(shared_data: Path) -> None:
    paths = [*(shared_data / "coords").rglob("*.star"), *(shared_data / "real").rglob("*.star")]
    assert len(paths) > 80
    for path in paths:
        star = StarFile.read(path)
        assert star.text.encode() == path.read_bytes()
        for at, block in enumerate(star.blocks):
            assert star.with_rows(block, range(len(block))).text == star.text
            if block.loop and len(block) > 1:
                odd = star.with_rows(block, range(1, len(block), 2))
                assert odd.blocks[at].rows == block.rows[1::2]
                original = star.text.splitlines(keepends=True)
                kept = iter(original)
                assert all(line in kept for line in odd.text.splitlines(keepends=True)), "a line was changed or moved"


@pytest.mark.shared_data
def test_values_agree_with_the_starfile_package(shared_data: Path) -> None:
    starfile = pytest.importorskip("starfile")
    for name in ("starfile_tests/loop_double_quote", "starfile_tests/one_loop", "relion/relion31", "chlamy/hsp60"):
        path = shared_data / "coords" / f"{name}.star"
        for block, table in zip(
            StarFile.read(path).blocks, starfile.read(path, always_dict=True).values(), strict=True
        ):
            assert block.columns == list(table.columns)
            assert len(block) == len(table)
            for column in ("rlnCoordinateX", "rlnAngleRot", "number"):
                if column in block:
                    assert block.numbers(column).tolist() == table[column].tolist()


def test_tokens_keep_their_spelling() -> None:
    block = StarFile.parse(LIST).block("particles")
    assert block.column("rlnTomoName") == ["0012", "0013", "0014"]
    assert block.column("rlnCoordinateX")[0] == "-7.04404e-04"
    assert block.column("rlnImageName") == ["a file.mrcs", "b c.mrcs", "d.mrcs"]


def test_filtering_one_block_leaves_comments_and_other_blocks() -> None:
    text = StarFile.parse(LIST).with_rows("particles", [1]).text
    assert text == LIST.replace('0012  -7.04404e-04   "a file.mrcs"\n', "").replace("0014  2.50  d.mrcs \n", "")


def test_a_column_goes_before_a_comment_and_is_numbered() -> None:
    text = StarFile.parse(LIST).with_columns("particles", {"rlnClassNumber": ["1", "2 3", "4"]}).text
    assert "_rlnImageName #3\n_rlnClassNumber #4\n" in text
    assert "0013\t1.0\t'b c.mrcs'\t\"2 3\"  # why\n" in text
    assert "0014  2.50  d.mrcs  4\n" in text


def test_a_column_of_a_file_without_a_last_line_end() -> None:
    assert StarFile.parse("data_\nloop_\n_a\n1").with_columns("", {"b": ["2"]}).text == "data_\nloop_\n_a\n_b\n1 2"
    assert StarFile.parse("data_\nloop_\n_a").with_columns("", {"b": []}).text == "data_\nloop_\n_a\n_b\n"
    assert StarFile.parse("data_\r\n_a 1\r\n").with_columns("", {"b": ["x y"]}).text == 'data_\r\n_a 1\r\n_b  "x y"\r\n'


def test_blocks_of_the_same_name_are_kept_apart() -> None:
    star = StarFile.parse("data_x\nloop_\n_a\n1\n2\n\ndata_x\nloop_\n_a\n3\n4\n")
    assert [b.name for b in star.blocks] == ["x", "x"]
    assert star.with_rows(star.blocks[1], [0]).text == "data_x\nloop_\n_a\n1\n2\n\ndata_x\nloop_\n_a\n3\n"
    assert star.with_rows("x", [0]).text == "data_x\nloop_\n_a\n1\n\ndata_x\nloop_\n_a\n3\n4\n"


def test_pairs_and_a_loop_in_one_block() -> None:
    star = StarFile.parse("data_x\n_p 1\n_q 'a b'\nloop_\n_a\n3\n\ndata_empty\n")
    assert [(b.columns, b.rows) for b in star.blocks[:2]] == [(["p", "q"], [["1", "a b"]]), (["a"], [["3"]])]
    assert (star.blocks[2].name, star.blocks[2].columns, len(star.blocks[2])) == ("empty", [], 0)


def test_a_row_that_begins_like_a_block_is_a_row() -> None:
    text = "data_particles\nloop_\n_rlnImageName\n_rlnClassNumber\na.mrc 1\ndata_2/b.mrc 2\nDATA_3.mrc 3\n\ndata_last\n_a 1\n"
    star = StarFile.parse(text, None)
    assert star.block("particles").column("rlnImageName") == ["a.mrc", "data_2/b.mrc", "DATA_3.mrc"]
    assert star.block("last").rows == [["1"]]


def test_a_row_over_two_lines() -> None:
    star = StarFile.parse("data_\nloop_\n_a\n_b\n_c\n1 2\n3\n4 5 6\n")
    assert star.blocks[0].rows == [["1", "2", "3"], ["4", "5", "6"]]
    assert star.with_rows("", [1]).text == "data_\nloop_\n_a\n_b\n_c\n4 5 6\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no data_ block"),
        ("\n# nothing\n", "no data_ block"),
        ("x,y,z\n1,2,3\n", "not STAR"),
        ("data_\n1 2 3\n", "without a label"),
        ("data_\nloop_\ndata_b\n", "without labels"),
        ("data_\nloop_\n_a\n_b\n1 2\n3 4 5\n", "line 6: the row has 3 values for 2 columns"),
        ("data_\nloop_\n_a\n_b\n1 2\n3\n", "line 6: the row has 1 values for 2 columns"),
        ("data_\nloop_\n_a\n_b\n_c\n1 2\n3 4 5\n", "line 6: the row has 2 values for 3 columns"),
        ("data_\n_a 1 2\n", "2 values, not one"),
        ("data_\nloop_\n_a\n;\ntext\n;\n", "several lines"),
    ],
)
def test_what_is_not_star_is_told(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        StarFile.parse(text, Path("list.star"))


def test_numbers_name_the_row_that_has_none() -> None:
    block = StarFile.parse("data_\nloop_\n_a\n1\nnan\nx\n", Path("list.star")).blocks[0]
    with pytest.raises(InputError, match=r'list\.star.*_a at row 2 \(line 5\): "nan", and 1 more'):
        block.numbers("a")
    with pytest.raises(InputError, match="no column _b"):
        block.column("b")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        StarFile.read(tmp_path / "no.star")
    with pytest.raises(InputError, match="is a folder"):
        StarFile.read(tmp_path)
    (tmp_path / "binary.star").write_bytes(b"data_\n\0\1")
    with pytest.raises(InputError, match="not a text file"):
        StarFile.read(tmp_path / "binary.star")


def test_bytes_that_are_not_utf8_survive(tmp_path: Path) -> None:
    path = tmp_path / "latin.star"
    path.write_bytes(b"data_\nloop_\n_a\nM\xfcller\n2\n")
    star = StarFile.read(path).with_rows("", [0])
    assert star.text.encode("utf-8", "surrogateescape") == b"data_\nloop_\n_a\nM\xfcller\n"


def test_refused_changes() -> None:
    star = StarFile.parse(LIST)
    with pytest.raises(InputError, match="_rlnTomoName already"):
        star.with_columns("particles", {"rlnTomoName": ["1", "2", "3"]})
    with pytest.raises(ValueError, match="2 values of b for 3 rows"):
        star.with_columns("particles", {"b": ["1", "2"]})
    with pytest.raises(ValueError, match="line end"):
        star.with_columns("particles", {"b": ["1", "2\n", "3"]})
    with pytest.raises(IndexError):
        star.with_rows("particles", [3])
    with pytest.raises(InputError, match="no block data_images"):
        star.block("images")
