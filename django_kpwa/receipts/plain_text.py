"""Renders a receipt's template as plain text with any supported engine: no HTML entity may reach the customer.

An engine that escapes would send "Kopi &amp; Roti". To unescape the result would be wrong, because a customer may have
typed an entity. So escaping is switched off in the engine. An engine for which that is not known to work is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.template import Context
from django.template.base import Template
from django.template.loader import get_template


@dataclass
class LateNotice:
    """The line in a receipt that is written late. `is_written`: True if the template has included it."""

    line: str
    is_written: bool = False


_late_notice: ContextVar[LateNotice | None] = ContextVar("kpwa_late_notice", default=None)


@contextmanager
def written_late(line: str) -> Iterator[LateNotice]:
    """Make `take_late_notice()` return `line` within the block. `line` is empty if the text is not late."""
    notice = LateNotice(line)
    token = _late_notice.set(notice)
    try:
        yield notice
    finally:
        _late_notice.reset(token)


def take_late_notice() -> str:
    """Return the late notice to include at this place in the template; empty if the text is not late."""
    notice = _late_notice.get()
    if notice is None:
        return ""
    notice.is_written = True
    return notice.line


class PlainContext(Context):
    """A context that never escapes, not even inside `{% autoescape on %}`, which a template shared with a page may
    have.

    It also records the names for which the template asks, because Django renders an unknown name as an empty string.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        # Template tags copy the context. The copies share these sets.
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
    """Render a template without escaping, and return the text.

    Args:
        template_name: The template's name, which any configured engine may know.
        values: The template's variables.
        reads: The names of those values that are about the object.

    Raises:
        ImproperlyConfigured: The template's engine may escape.
        ValueError: A template for Django's engine asks for unknown names and for none of `reads`. Its text would have
            labels without values. (Jinja2 raises an error itself if a template reads an attribute of an unknown name.)
    """
    wrapped = get_template(template_name)
    # Engines of other packages wrap the same templates.
    template: Any = getattr(wrapped, "template", None)
    if isinstance(template, Template):
        context = PlainContext(values)
        text = str(template.render(context))
        if context.missing and not context.found.intersection(reads):
            asked, known = ", ".join(sorted(context.missing)), ", ".join(sorted(values))
            raise ValueError(
                f"{template_name} uses {asked}, which do not exist, and nothing of the object; available names: "
                f"{known}."
            )
        return text
    if _is_jinja2(template):
        return str(_plain(template.environment).get_template(template.name).render(values))
    raise ImproperlyConfigured(refusal(wrapped))


def is_plain(wrapped: Any) -> bool:
    """True if `render_plain()` can render this template; `wrapped`: the result of `get_template()`."""
    template = getattr(wrapped, "template", None)
    return isinstance(template, Template) or _is_jinja2(template)


def refusal(wrapped: Any) -> str:
    """Return the error message that says why a template of this engine is not rendered."""
    return (
        f"{type(wrapped).__module__} may write HTML entities into a text message (Kopi &amp; Roti). Write the "
        "receipt's template for Django's engine or Jinja2, or define render() in its class."
    )


def _is_jinja2(template: Any) -> bool:
    # If there is a template of Jinja2, Jinja2 was imported already. It need not be imported here.
    jinja2 = sys.modules.get("jinja2")
    return jinja2 is not None and isinstance(template, jinja2.Template)


@lru_cache(maxsize=8)
def _plain(environment: Any) -> Any:
    """Return a copy of the environment with the same loader, filters and globals, but without escaping.

    It does not use the bytecode cache, because escaping is compiled into the code, but is not part of the cache's keys.
    """
    plain = environment.overlay(autoescape=False, bytecode_cache=None)
    plain.code_generator_class = _without_escaping(environment.code_generator_class)
    plain.filters = {**environment.filters, "e": str, "escape": str, "forceescape": str}
    return plain


def _without_escaping(code_generator: Any) -> Any:
    """Return a subclass of the code generator that ignores `{% autoescape true %}`."""
    from jinja2 import nodes

    class Plain(code_generator):  # type: ignore[misc]
        def visit_EvalContextModifier(self, node: Any, frame: Any) -> None:  # noqa: N802 - its visitors are named so
            for option in node.options:
                if option.key == "autoescape":
                    option.value = nodes.Const(False)
            super().visit_EvalContextModifier(node, frame)

    return Plain
