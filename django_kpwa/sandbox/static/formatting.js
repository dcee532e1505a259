// WhatsApp's formatting as DOM nodes: *bold*, _italic_, ~struck~, `code`, ```monospace```, and links.
// Text only ever becomes a text node, so nothing that a shop or a customer writes can become markup.
"use strict";

const FORMATTED = /(^|[^\p{L}\p{N}])([*_~`])(\S|\S[^\n]*?\S)\2(?![\p{L}\p{N}])/u;
const LINK = /https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)]/;
const ELEMENTS = { "*": "strong", "_": "em", "~": "s", "`": "code" };

function formatted(text) {
  const fragment = document.createDocumentFragment();
  text.split("```").forEach((part, index, parts) => {
    const isClosed = index < parts.length - 1;
    if (index % 2 === 1 && isClosed) {
      const block = document.createElement("pre");
      block.textContent = part.replace(/^\n|\n$/g, "");
      fragment.append(block);
    } else {
      appendInline(fragment, index % 2 === 1 ? "```" + part : trimmedBesideBlocks(part, index > 0, isClosed));
    }
  });
  return fragment;
}

// A block stands on lines of its own, so the line breaks beside it would show as empty lines.
function trimmedBesideBlocks(text, afterBlock, beforeBlock) {
  if (afterBlock) text = text.replace(/^\n/, "");
  return beforeBlock ? text.replace(/\n$/, "") : text;
}

function appendInline(parent, text) {
  for (let found; (found = FORMATTED.exec(text)); ) {
    const [whole, before, marker, inside] = found;
    appendLinked(parent, text.slice(0, found.index) + before);
    const element = document.createElement(ELEMENTS[marker]);
    if (marker === "`") element.textContent = inside;
    else appendInline(element, inside);
    parent.append(element);
    text = text.slice(found.index + whole.length);
  }
  appendLinked(parent, text);
}

function appendLinked(parent, text) {
  for (let found; (found = LINK.exec(text)); ) {
    parent.append(text.slice(0, found.index));
    const link = document.createElement("a");
    Object.assign(link, { href: found[0], textContent: found[0], target: "_blank", rel: "noopener noreferrer" });
    parent.append(link);
    text = text.slice(found.index + found[0].length);
  }
  parent.append(text);
}

function plain(text) {
  return text.replace(/```/g, "").replace(/\s+/g, " ").replace(/(^|\s)([*_~])(\S[^*_~]*?)\2(?=\s|$)/g, "$1$3").trim();
}
