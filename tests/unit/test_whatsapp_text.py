"""The admin shows a text as WhatsApp would, and never as live markup."""

from __future__ import annotations

import pytest

from django_kpwa.admin.bubble import wa_html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("*bold* _italic_ ~struck~", "<strong>bold</strong> <em>italic</em> <s>struck</s>"),
        ("*_both_*", "<strong><em>both</em></strong>"),
        ("`code *plain*`", "<code>code *plain*</code>"),
        ("```a  b\nc```", "<pre>a  b\nc</pre>"),
        ("Struk\n```\na\n```\nTerima kasih", "Struk<pre>a</pre>Terima kasih"),
        ("2*3*4 snake_case_name", "2*3*4 snake_case_name"),
        ("* not bold * and *not\nbold*", "* not bold * and *not\nbold*"),
        ("```open", "```open"),
        ("(*bold*).", "(<strong>bold</strong>)."),
        ("*<b>*", "<strong>&lt;b&gt;</strong>"),
        ("javascript:alert(1)", "javascript:alert(1)"),
        ("{} {0} %s", "{} {0} %s"),
    ],
)
def test_formatting_is_whatsapps(text, html):
    assert wa_html(text) == html


def test_links_are_links_to_http_alone_and_tell_nothing_of_the_page():
    html = wa_html('Lihat https://toko.example/p?a=1&b="2. Terima kasih')

    assert 'href="https://toko.example/p?a=1&amp;b=" target="_blank" rel="noopener noreferrer nofollow"' in html
    assert "&quot;2. Terima kasih" in html


@pytest.mark.parametrize("marker", ["*", "_", "~", "`", "*_", "*a", "a*", "*x ", "*_~x "])
@pytest.mark.timeout(20)
def test_a_hostile_text_is_drawn_in_time(marker):
    assert wa_html(marker * (65_536 // len(marker)))
