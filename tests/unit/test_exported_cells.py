"""No cell of the export starts a formula, whatever separator a spreadsheet uses."""

from __future__ import annotations

import time
from itertools import product

import pytest

from django_kpwa.admin.message_export import neutralised


@pytest.mark.parametrize("cell", ["=1+1", "+62", "-1", "@SUM(A1)", "\tx", "\r=1"])
def test_a_cell_that_could_be_a_formula_becomes_text(cell):
    assert neutralised(cell) == f"'{cell}"


MARKS = ["=", "+", "-", "@", "＝", "＋", "－", "＠", "﹦", "\u2212"]


@pytest.mark.parametrize("separator", [";", "\t", ",", "|", "\n", "\r\n", "\r", "\u2028", "；"], ids=ascii)
def test_no_separator_within_a_cell_begins_a_formula(separator):
    for before, mark in product(["", " ", '"', "\u00a0", "\ufeff", "\u200b", '" '], MARKS):
        cell = f"Budi{separator}{before}{mark}1+1"
        assert neutralised(cell) == f"Budi{separator}{before}'{mark}1+1"


@pytest.mark.parametrize("cell", ["Kopi - Susu", "a=b", "budi@toko.example", "2+2", "3 = 3; 4 = 4", "", "Rp 5, 6"])
def test_what_begins_no_formula_is_left_as_it_is(cell):
    assert neutralised(cell) == cell


def test_a_long_cell_is_neutralised_in_linear_time():
    began = time.process_time()
    for unit in (";", "\r", " ", "\n ", '"', "=", ";="):
        neutralised(unit * 65_536)
    assert time.process_time() - began < 2
