"""Tags for a site's own pages: `{% load kpwa_counter %}`.

    {% kpwa_banner %}                problems with WhatsApp; nothing if all is well
    {% kpwa_prefetch sales %}        fetches the messages for the chips of all sales in one query
    {% kpwa_chip sale %}             the status of the sale's receipt, and buttons for users with the permissions

Permissions are those of `request.user`, or of `user` in a context without `request`; without both, of nobody.

Each tag imports what it shows when it is used: Django imports the tag modules of all apps with the first template of a
process, and the chips and the banner need half of this package.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django import template
from django.db.models import Model
from django.template import Context

if TYPE_CHECKING:
    from ..shop_counter.chips import Person

register = template.Library()


@register.inclusion_tag("django_kpwa/counter/banner.html", takes_context=True)
def kpwa_banner(context: Context) -> dict[str, Any]:
    """Render one line for each license with a problem."""
    from ..shop_counter.banner import banner

    lines, more = banner(_person(context))
    return {"lines": lines, "more": more}


@register.simple_tag
def kpwa_prefetch(objects: Iterable[Model]) -> str:
    """Fetch the messages about all `objects` at once. The chips of these instances then need no query."""
    from ..shop_counter.chips import prefetch_messages

    prefetch_messages(objects)
    return ""


@register.inclusion_tag("django_kpwa/counter/chip.html", takes_context=True)
def kpwa_chip(context: Context, obj: Model, next: str = "") -> dict[str, Any]:
    """Render the messages about `obj`.

    Args:
        next: URL that the buttons redirect to afterwards; by default the page with the button.
    """
    from ..shop_counter.chips import chip

    shown = chip(obj, _person(context))
    return {"shown": shown, "next": next, "part": f"{obj._meta.label_lower}-{obj.pk}"}


def _person(context: Context) -> Person:
    from ..shop_counter.chips import Person, person_of

    request = context.get("request")
    return person_of(request) if request is not None else Person(context.get("user"))
