// One message of a conversation as elements.

import { render } from "./markdown.js";
import { figure, say } from "./words.js";

/** The element of a message. */
export function drawMessage(message) {
  const article = make("article", message.role);
  article.setAttribute("aria-label", say(message.role === "user" ? "you" : "model"));
  article.append(make("div", "text"), make("footer"));
  return article;
}

/** Shows what a message says now. */
export function update(article, message) {
  const [text] = article.children;
  if (message.role === "user") text.textContent = message.content;
  else render(text, message.content);
}

/** Shows what can be done with a message: `edit` and `regenerate` where they are functions. */
export function offer(article, message, { edit, regenerate }) {
  const copies = button("copy", (event) => copy(message.content, event.currentTarget));
  const buttons = [copies];
  if (edit) buttons.push(button("edit", () => change(article, message, edit)));
  if (regenerate) buttons.push(button("regenerate", regenerate));
  article.querySelector("footer").replaceChildren(make("span", "faint"), ...buttons);
  tellFacts(article, facts(message));
}

/** Writes below a message what there is to say about it. */
export function tellFacts(article, text) {
  article.querySelector("footer").firstChild.textContent = text;
}

function facts({ note, stats }) {
  const parts = note ? [say(note)] : [];
  if (stats) parts.push(say("tokens", { tokens: figure(stats.tokens) }));
  if (stats?.rate) parts.push(say("speed", { rate: figure(stats.rate, 1) }));
  if (stats?.most) {
    const percent = figure((100 * stats.used) / stats.most);
    parts.push(say("context", { used: figure(stats.used), most: figure(stats.most), percent }));
  }
  return parts.join(" · ");
}

/** Puts a field in the place of a message. */
function change(article, message, edited) {
  const field = document.createElement("textarea");
  field.value = message.content;
  field.rows = 1;
  field.setAttribute("aria-label", say("edit_prompt"));
  const form = document.createElement("form");
  const send = button("send", () => {});
  send.type = "submit";
  send.classList.add("strong");
  const back = () => form.replaceWith(article);
  const row = make("div", "row end");
  row.append(button("cancel", back), send);
  form.append(field, row);
  form.onsubmit = (event) => {
    event.preventDefault();
    if (field.value.trim()) edited(field.value);
  };
  field.onkeydown = (event) => {
    if (event.key === "Escape" && !event.isComposing) back();
    else sendOnEnter(event, form);
  };
  article.replaceWith(form);
  grow(field);
  field.oninput = () => grow(field);
  field.focus();
}

/** Enter sends a form, but not where it ends the choice of a character (229 is Safari's sign). */
export function sendOnEnter(event, form) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  form.requestSubmit();
}

/** Makes a field as high as what is in it. */
export function grow(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

/** Copies a text; a page without TLS has no navigator.clipboard. */
export async function copy(text, pressed) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
  } else {
    const field = make("textarea", "unseen");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    pressed.focus();
  }
  pressed.textContent = say("copied");
  setTimeout(() => (pressed.textContent = say("copy")), 1500);
}

function button(name, pressed) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = say(name);
  made.onclick = pressed;
  return made;
}

function make(name, style = "") {
  const element = document.createElement(name);
  element.className = style;
  return element;
}
