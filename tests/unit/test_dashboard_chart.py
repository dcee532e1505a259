"""The dashboard's chart: bars are in place, each number is also given in words, and no style is inline."""

from __future__ import annotations

import itertools
import math
from datetime import date, datetime, timedelta
from datetime import timezone as datetime_timezone
from xml.etree import ElementTree

import pytest
from django.template.loader import render_to_string
from django.utils import translation

from django_kpwa.admin.dashboard_charts import (
    HEIGHT,
    Counts,
    Figures,
    chart_of_days,
    chart_of_hours,
    percentile,
    top_of_scale,
)
from django_kpwa.models import HISTOGRAM_SECONDS

BUCKETS = len(HISTOGRAM_SECONDS) + 1


def hours(*counts, median=None, percentile_95=None):
    first = datetime(2026, 3, 4, 0, tzinfo=datetime_timezone.utc)
    by_hour = {first + timedelta(hours=index): Counts(*each) for index, each in enumerate(counts)}
    return Figures(by_hour, median, percentile_95)


def drawn(chart):
    """Return the chart's SVG, parsed as a browser would parse it."""
    page = render_to_string("admin/django_kpwa/dashboard/chart.html", {"chart": chart})
    start = page.index('<svg width="100%"')
    return page, ElementTree.fromstring(page[start : page.index("</svg>", start) + len("</svg>")])


def test_bars_fill_the_width_side_by_side_and_stack_upwards_without_a_gap():
    chart = chart_of_hours(hours((8, 1, 1), (0, 0, 0), (4, 0, 0), (10, 0, 0)))
    edges = [(float(bar.x.rstrip("%")), float(bar.width.rstrip("%"))) for bar in chart.bars]
    assert all(x + width <= following for (x, width), (following, _) in itertools.pairwise(edges))
    assert edges[0][0] > 0
    assert sum(edges[-1]) < 100
    kinds, tops, heights = zip(*chart.bars[0].pieces, strict=True)
    assert kinds == ("sent", "failed", "unknown")
    assert float(tops[0]) == float(tops[1]) + float(heights[1])
    assert float(tops[1]) == float(tops[2]) + float(heights[2])
    [(_, _, of_four)], [(_, _, of_ten)] = chart.bars[2].pieces, chart.bars[3].pieces
    assert float(of_ten) == pytest.approx(2.5 * float(of_four), rel=0.01)
    assert chart.bars[1].pieces == []


def test_one_failure_among_thousands_is_seen_and_stays_within_the_picture():
    [bar] = chart_of_hours(hours((5000, 1, 1))).bars
    assert len(bar.pieces) == 3
    assert all(float(height) >= 3 and 0 <= float(y) < HEIGHT for _, y, height in bar.pieces)


@pytest.mark.parametrize(
    ("most", "top"), [(0, 2), (1, 2), (3, 4), (8, 8), (9, 10), (11, 12), (24, 30), (101, 120), (5001, 6000)]
)
def test_the_scale_ends_at_a_round_number_that_halves(most, top):
    assert top_of_scale(most) == top
    assert top % 2 == 0


def test_every_bar_is_told_in_words_and_in_the_table():
    with translation.override("id"):
        page, svg = drawn(chart_of_hours(hours((1200, 3, 0), (1, 0, 2))))
    titles = [title.text for title in svg.iter("title")]
    assert len(titles) == 2
    # 00.00 UTC is 07.00 in the site's zone.
    assert titles[0].startswith("7.00: 1.200 ")
    assert svg.get("role") == "img"
    assert "1.201" in svg.get("aria-label")
    assert page.count('<th scope="row">') == 2
    assert "<td>1.200</td><td>3</td><td>0</td>" in page


def test_kinds_differ_without_colour_and_without_inline_styles():
    page, svg = drawn(chart_of_hours(hours((5, 2, 2))))
    fills = [rect.get("fill") for rect in svg.iter("rect") if rect.get("fill")]
    assert fills == ["url(#kpwa-hours-failed)", "url(#kpwa-hours-unknown)"]
    assert {pattern.get("id") for pattern in svg.iter("pattern")} == {"kpwa-hours-failed", "kpwa-hours-unknown"}
    assert "style=" not in page


def test_days_are_marked_a_week_apart_back_from_today():
    first = date(2026, 2, 3)
    chart = chart_of_days(Figures({first + timedelta(days=day): Counts() for day in range(30)}, None, None))
    assert [words for _, words in chart.ticks] == ["4 Feb", "11 Feb", "18 Feb", "25 Feb", "4 Mar"]
    assert chart.bars[-1].name == "4 Mar"


def test_the_delay_is_said_in_units_that_fit():
    chart = chart_of_hours(hours((1, 0, 0), median=0.4, percentile_95=math.inf))
    assert chart.delay == "Time to send: half within 1 s, 95% within more than 24 h."
    assert chart_of_hours(hours((0, 1, 0))).delay == ""


def test_a_percentile_is_found_within_its_bucket():
    histogram = [0] * BUCKETS
    assert percentile(histogram, 0.5) is None
    histogram[2] = 10  # the bucket from 2 to 5 seconds
    assert percentile(histogram, 0.5) == 3.5
    assert percentile(histogram, 1.0) == 5
    histogram[-1] = 90
    assert percentile(histogram, 0.95) == math.inf
    assert percentile([0] * (BUCKETS - 1) + [1], 0.5) == math.inf
    assert percentile([1] + [0] * (BUCKETS - 1), 0.5) == 0.5
