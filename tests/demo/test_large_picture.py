"""The large picture of the demo: rows of a subject together, the first picture of each method, one photo a row."""

import numpy as np
from likeness.demo.picture import BASELINE, COLUMNS, REFERENCES
from likeness.demo.sheet import GAP, LINE, MARGIN, SHOWN, SIDE, compose

MEANS = {column.title: {"identity": 0.5, "prompt": 1.0, "layout": 0.2} for column in COLUMNS}


def plain(*levels):
    return np.stack([np.full((128, 128, 3), level, np.uint8) for level in levels])


def row(subject, level):
    pictures = {column: plain(level, 255) for column in COLUMNS} | {REFERENCES: plain(10, 20, 30)}
    return {"subject": subject, "title": '"a fish"', "pictures": pictures}


def test_every_row_shows_the_first_picture_and_another_photo():
    rows = [row("nemo", 100), row("nemo", 110), row("taxi", 120), row("taxi", 130)]
    sheet = np.asarray(compose(rows, MEANS).convert("L"))
    assert sheet.shape[1] == 2 * MARGIN + len(SHOWN) * (SIDE + GAP) - GAP
    middles = [MARGIN + index * (SIDE + GAP) + SIDE // 2 for index in range(len(SHOWN))]
    tops, seen = [MARGIN + 28 + LINE], []
    for number in range(1, 4):
        tops.append(tops[-1] + SIDE + LINE + GAP + (14 if number == 2 else 0))
    for top in tops:
        seen.append([int(sheet[top + SIDE // 2, middle]) for middle in middles])
    photos = [line[0] for line in seen]
    assert photos == [10, 20, 10, 20]
    assert [line[1:] for line in seen] == [[level] * (len(SHOWN) - 1) for level in (100, 110, 120, 130)]
    assert (sheet[tops[-1] + SIDE + 8 :, middles[1]] < 200).any()  # the numbers


def test_the_columns_are_the_photos_the_model_alone_and_one_of_each_paper():
    assert SHOWN[:2] == (REFERENCES, BASELINE)
    assert [column.workflow for column in SHOWN[2:]] == ["layout_and_retouch", "pick_and_draw", "jedi"]
