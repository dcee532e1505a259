"""Renders a receipt's template as plain text, whichever engine it is for: no HTML entity may reach the customer.

An engine that escapes would send "Kopi &amp; Roti". Taking entities back afterwards is no way: a customer may have
written one. So the engine is kept from escaping, and one that is not known to let itself be kept is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.template import Context
from django.template.base import Template
from django.template.loader import get_template


class PlainContext(Context):
    """A context that `{% autoescape on %}`, as in a template that a page shares, does not make escape.

    It notes which names a template asks for: one that it does not have is rendered as nothing at all.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        # Shared by the copies that tags make of it.
        self.found: set[str] = set()
        self.missing: set[str] = set()

    def __getitem__(self, name: Any) -> Any:
        try:
            value = super().__getitem__(name)
        except KeyError:
            self.missing.add(str(name))
            raise
        self.found.add(name)
        return value

    def get(self, name: Any, otherwise: Any = None) -> Any:
        if name in self:
            self.found.add(name)
        return super().get(name, otherwise)

    def flatten(self) -> dict[Any, Any]:
        flat = super().flatten()
        self.found.update(map(str, flat))
        return flat

    @property
    def autoescape(self) -> bool:
        return False

    @autoescape.setter
    def autoescape(self, value: bool) -> None:
        pass


def render_plain(template_name: str, values: dict[str, Any], *, reads: Collection[str]) -> str:
    """The text of the template called so. Raises `ImproperlyConfigured` for an engine that may escape.

    `reads`: names that say something of what the text is about. `ValueError` where a template for Django's engine asks
    for unknown ones and for none of these: it would be of bare labels. (Jinja2 raises by itself: `sael` is undefined.)
    """
    wrapped = get_template(template_name)
    # Engines of other packages wrap the same templates.
    template: Any = getattr(wrapped, "template", None)
    if isinstance(template, Template):
        context = PlainContext(values)
        text = str(template.render(context))
        if context.missing and not context.found.intersection(reads):
            asked, known = ", ".join(sorted(context.missing)), ", ".join(sorted(values))
            raise ValueError(f"{template_name} asks for {asked}, and reads nothing of the object; there is: {known}.")
        return text
    if _is_jinja2(template):
        return str(_plain(template.environment).get_template(template.name).render(values))
    raise ImproperlyConfigured(refusal(wrapped))


def is_plain(wrapped: Any) -> bool:
    """Whether `render_plain()` can render this template, as `get_template()` returned it."""
    template = getattr(wrapped, "template", None)
    return isinstance(template, Template) or _is_jinja2(template)


def refusal(wrapped: Any) -> str:
    """Why a template of that engine is not rendered."""
    return (
        f"{type(wrapped).__module__} may write HTML entities into a text message (Kopi &amp; Roti). Write the "
        "receipt's template for Django's engine or Jinja2, or define render() in its class."
    )


def _is_jinja2(template: Any) -> bool:
    # Who has a template of it has imported it.
    jinja2 = sys.modules.get("jinja2")
    return jinja2 is not None and isinstance(template, jinja2.Template)


@lru_cache(maxsize=8)
def _plain(environment: Any) -> Any:
    """The environment with its loader, filters and globals, but without escaping, and with compiled code of its own.

    Whether to escape is compiled in, which the bytecode cache's keys do not tell.
    """
    plain = environment.overlay(autoescape=False, bytecode_cache=None)
    plain.code_generator_class = _without_escaping(environment.code_generator_class)
    plain.filters = {**environment.filters, "e": str, "escape": str, "forceescape": str}
    return plain


def _without_escaping(code_generator: Any) -> Any:
    """A code generator for which `{% autoescape true %}` says nothing."""
    from jinja2 import nodes

    class Plain(code_generator):  # type: ignore[misc]
        def visit_EvalContextModifier(self, node: Any, frame: Any) -> None:  # noqa: N802 - its visitors are named so
            for option in node.options:
                if option.key == "autoescape":
                    option.value = nodes.Const(False)
            super().visit_EvalContextModifier(node, frame)

    return Plain
