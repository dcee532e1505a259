// The phone: follows /sandbox/api/state, which answers as soon as something has changed, and draws what it says.
// Elements of messages are kept by id, so that a tick that changes does not load a picture again.
"use strict";

const byId = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const isEmbedded = parameters.has("embed");
const shown = { license: parameters.get("license") || "", chat: "", state: null };
const bubbles = new Map();
let following = null;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function icon(name, className = "") {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${name}`);
  svg.setAttribute("class", className);
  svg.append(use);
  return svg;
}

async function change(action, content = {}, method = "POST") {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(`/sandbox/api/${action}`, { method, headers, body: JSON.stringify(content) });
  if (!answer.ok) toast((await answer.json()).message);
  return answer.ok;
}

// Following the state

async function follow() {
  for (;;) {
    following = new AbortController();
    const query = new URLSearchParams({ license: shown.license, chat: shown.chat });
    if (shown.state) {
      query.set("since", shown.state.version);
      query.set("wait", "20");
    }
    try {
      const answer = await fetch(`/sandbox/api/state?${query}`, { signal: following.signal });
      if (!answer.ok) throw new Error(answer.status);
      draw(await answer.json());
      byId("screen").classList.remove("offline");
      await pause(80); // a busy shop changes more often than eyes can follow
    } catch (error) {
      if (error.name === "AbortError") continue;
      byId("screen").classList.add("offline");
      toast("The sandbox does not answer");
      await pause(1500);
      shown.state = null;
    }
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function show(chosen) {
  Object.assign(shown, chosen, { state: null });
  following?.abort();
}

function draw(state) {
  const before = shown.state;
  shown.state = state;
  const license = state.licenses.find((each) => each.name === state.license);
  if (!license.linked) shown.chat = "";
  byId("screen").dataset.view = license.linked ? (shown.chat ? "chat" : "chats") : "linking";
  if (!license.linked && byId("qr").getAttribute("src") !== license.qr_url) byId("qr").src = license.qr_url;
  byId("account").textContent = `${license.name} · +${license.number}`;
  drawChats(state.chats);
  if (shown.chat) drawChat(state.chat);
  if (isEmbedded && before) openNewest(before, state);
  document.dispatchEvent(new CustomEvent("sandbox-state", { detail: { state, license } }));
}

// Beside a till, the phone opens a receipt that has just come, as its owner would.
function openNewest(before, state) {
  const newest = state.chats[0];
  const known = before.chats.find((chat) => chat.id === newest?.id);
  if (!newest?.unread || (known && known.changed_at === newest.changed_at) || newest.id === shown.chat) return;
  if (!shown.chat || !byId("answer").value) openChat(newest.id);
}

// The list of chats

function drawChats(chats) {
  byId("no-chats").hidden = chats.length > 0;
  byId("chats").replaceChildren(...chats.map(chatRow));
}

function chatRow(chat) {
  const last = chat.last;
  const preview = element("span", { className: "preview" });
  if (last?.ticks) preview.append(ticks(last.ticks));
  preview.append(last ? (last.image_url && !last.text ? "Photo" : plain(last.text)) : "No messages yet");
  const row = element(
    "button",
    { type: "button", className: "chat-row", onclick: () => openChat(chat.id) },
    avatar(chat),
    element("span", { className: "name" }, displayName(chat)),
    element("time", {}, last ? clock(last.at) : ""),
    preview,
  );
  if (chat.unread) row.append(element("span", { className: "badge" }, String(chat.unread)));
  return element("li", { className: chat.unread ? "unread" : "" }, row);
}

function avatar(chat) {
  const shade = [...chat.id].reduce((sum, character) => sum + character.charCodeAt(0), 0) % 6;
  return element("span", { className: `avatar shade-${shade}` }, icon(chat.is_group ? "icon-group" : "icon-person"));
}

function displayName(chat) {
  return chat.is_group ? chat.name : spaced(chat.id);
}

function spaced(number) {
  const parts = /^62(\d{3})(\d{4})(\d+)$/.exec(number);
  return parts ? `+62 ${parts[1]}-${parts[2]}-${parts[3]}` : `+${number}`;
}

function clock(at) {
  return new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}

// One chat

function openChat(id) {
  bubbles.clear();
  byId("messages").replaceChildren();
  byId("chat-name").textContent = "";
  show({ chat: id });
}

function drawChat(chat) {
  const head = chat || { id: shown.chat, name: shown.chat, is_group: false, messages: [], unread: 0 };
  byId("chat-name").textContent = displayName(head);
  byId("chat-about").textContent = head.is_group ? "Group" : "Customer";
  byId("chat-avatar").replaceWith(Object.assign(avatar(head), { id: "chat-avatar" }));
  drawMessages(head);
  if (head.unread && !document.hidden) change("read", { chat: head.id, license: shown.license });
}

function drawMessages(chat) {
  const list = byId("messages");
  const wasAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  const isFirst = bubbles.size === 0;
  const ids = new Set(chat.messages.map((message) => message.id));
  for (const [id, bubble] of bubbles) {
    if (!ids.has(id)) {
      bubble.remove();
      bubbles.delete(id);
    }
  }
  for (const message of chat.messages) {
    if (!bubbles.has(message.id)) {
      bubbles.set(message.id, bubble(message, chat));
      list.append(bubbles.get(message.id));
    }
    if (message.ticks) bubbles.get(message.id).querySelector(".ticks").replaceWith(ticks(message.ticks));
  }
  if (wasAtEnd || isFirst) list.scrollTop = list.scrollHeight;
}

function bubble(message, chat) {
  const isOurs = !message.sender;
  const made = element("li", { className: isOurs ? "bubble ours" : "bubble theirs" });
  if (chat.is_group && !isOurs) made.append(element("span", { className: "sender" }, spaced(message.sender)));
  if (message.image_url) made.append(picture(message.image_url));
  if (message.text) made.append(element("div", { className: "text" }, formatted(message.text)));
  const meta = element("span", { className: "meta" }, element("time", {}, clock(message.at)));
  if (isOurs) meta.append(ticks(message.ticks));
  made.append(meta);
  return made;
}

function picture(url) {
  const list = byId("messages");
  const image = element("img", { src: url, alt: "Picture", loading: "eager", referrerPolicy: "no-referrer" });
  image.onload = () => (list.scrollTop = list.scrollHeight);
  image.onerror = () => image.replaceWith(element("span", { className: "no-picture" }, "The picture cannot be loaded"));
  return image;
}

function ticks(state) {
  const labels = { sent: "Sent", delivered: "Delivered", read: "Read" };
  const svg = icon(state === "sent" ? "tick-sent" : "tick-delivered", `ticks ${state}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", labels[state]);
  return svg;
}

// What a person does

byId("back").onclick = () => show({ chat: "" });
byId("scan").onclick = () => change("scan", { license: shown.license });
byId("open-menu").onclick = () => toggleMenu(byId("menu").hidden);
byId("log-out").onclick = () => {
  toggleMenu(false);
  change("logout", { license: shown.license });
};
byId("open-new").onclick = () => byId("new").showModal();
byId("close-new").onclick = () => byId("new").close();

byId("composer").onsubmit = async (event) => {
  event.preventDefault();
  const text = byId("answer").value;
  if (!text.trim()) return;
  byId("answer").value = "";
  const isSent = await change("answer", { chat: shown.chat, text, license: shown.license });
  if (!isSent) byId("answer").value = text;
  byId("messages").scrollTop = byId("messages").scrollHeight;
};

byId("new-chat").onsubmit = (event) => {
  event.preventDefault();
  // The gateway's own reading: digits alone, a leading 0 made 62.
  const number = byId("new-number").value.replace(/\D/g, "").replace(/^0/, "62");
  if (!number) return toast("A number has digits");
  byId("new").close();
  event.target.reset();
  openChat(number);
};

byId("new-group").onsubmit = async (event) => {
  event.preventDefault();
  const isAdded = await change("groups", { name: byId("new-group-name").value, license: shown.license });
  if (!isAdded) return;
  byId("new").close();
  event.target.reset();
};

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && shown.state && shown.chat) drawChat(shown.state.chat);
});

function toggleMenu(isOpen) {
  byId("menu").hidden = !isOpen;
  byId("open-menu").setAttribute("aria-expanded", String(isOpen));
}

let toastTimer = 0;
function toast(text) {
  byId("toast").textContent = text;
  byId("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (byId("toast").hidden = true), 3500);
}

function tellTime() {
  byId("clock").textContent = clock(Date.now());
}

tellTime();
setInterval(tellTime, 5000);
if (parameters.get("chat")) openChat(parameters.get("chat"));
follow();
