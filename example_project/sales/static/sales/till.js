// The cart: computed here, validated by the server.
"use strict";

const form = document.querySelector(".cart");
const tiles = new Map([...document.querySelectorAll(".tile")].map((tile) => [tile.dataset.product, tile]));
const quantities = new Map(Object.entries(JSON.parse(document.getElementById("cart").textContent)));
const MAX_QUANTITY = 99;

const rupiah = (amount) => `Rp ${amount.toLocaleString("id-ID")}`;

function change(product, by) {
  const quantity = Math.min(MAX_QUANTITY, Math.max(0, (quantities.get(product) || 0) + by));
  if (quantity) quantities.set(product, quantity);
  else quantities.delete(product);
  draw();
}

function draw() {
  const lines = form.querySelector(".lines");
  let total = 0;
  lines.replaceChildren();
  for (const [product, tile] of tiles) {
    const quantity = quantities.get(product) || 0;
    const count = tile.querySelector(".count");
    count.hidden = !quantity;
    count.textContent = quantity;
    if (!quantity) continue;
    total += quantity * Number(tile.dataset.price);
    lines.append(line(product, tile.dataset.name, Number(tile.dataset.price), quantity));
  }
  form.querySelector(".empty").hidden = total > 0;
  form.querySelector("output").textContent = rupiah(total);
  form.querySelector(".pay").disabled = !total;
}

function line(product, name, price, quantity) {
  const item = element("li");
  const steps = element("span", "steps");
  steps.append(
    step("−", `Kurangi ${name}`, product, -1),
    element("b", "", String(quantity)),
    step("+", `Tambah ${name}`, product, 1),
    element("span", "", `× ${rupiah(price)}`),
  );
  const field = element("input");
  Object.assign(field, { type: "hidden", name: `quantity-${product}`, value: quantity });
  item.append(element("span", "", name), element("span", "amount", rupiah(price * quantity)), steps, field);
  return item;
}

function step(text, label, product, by) {
  const button = element("button", "", text);
  button.type = "button";
  button.setAttribute("aria-label", label);
  button.addEventListener("click", () => {
    change(product, by);
    // The line was redrawn, so the keyboard focus has to be moved to its new button.
    const again = form.querySelector(`.lines button[aria-label="${CSS.escape(label)}"]`);
    (again || form.querySelector(".lines button") || tiles.get(product)).focus();
  });
  return button;
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

for (const [product, tile] of tiles) tile.addEventListener("click", () => change(product, 1));
form.addEventListener("submit", () => { form.querySelector(".pay").disabled = true; });
for (const button of document.querySelectorAll("[data-confirm]")) {
  button.addEventListener("click", (event) => { if (!confirm(button.dataset.confirm)) event.preventDefault(); });
}
// When the user comes back from another page, the browser restores this page with the button disabled.
window.addEventListener("pageshow", draw);
draw();
