// The chat page: puts its parts together. Talks to the server that it came from and to no other.

import { health, model } from "./api.js";
import { Conversation, describe } from "./conversation.js";
import { chats, newChat } from "./history.js";
import { copy, grow, sendOnEnter } from "./message.js";
import { apiKey, openSettings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { figure, otherLanguage, say, translate } from "./words.js";

const THEME = "alpaca2.theme";
const OPEN = "alpaca2.open"; // the id of the conversation of this tab
const AGAIN = 1000; // ms between two looks at a server that is not ready
const root = document.documentElement;
const at = (id) => document.getElementById(id);
const [prompt, composer] = [at("prompt"), at("composer")];

const conversation = new Conversation(
  { log: at("messages"), welcome: at("welcome"), send: at("send"), stop: at("stop"), told: at("told") },
  { asked, changed: () => sidebar.draw(), locked: settings },
);
const sidebar = new Sidebar(
  { list: at("chats"), field: at("search"), empty: at("no-chats") },
  { open, openId: () => conversation.chat.id },
);

function open(chat) {
  conversation.open(chat ?? newChat());
  sessionStorage.setItem(OPEN, conversation.chat.id);
  showSide(false);
  sidebar.draw();
  focus();
}

function asked() {
  sessionStorage.setItem(OPEN, conversation.chat.id);
  focus();
}

/** Goes to the field for messages, unless a phone would then show its keyboard. */
function focus() {
  if (!matchMedia("(pointer: coarse)").matches) prompt.focus();
}

function showSide(shown) {
  at("side").classList.toggle("open", shown);
  at("menu").setAttribute("aria-expanded", String(shown));
}

/** Says what the server does until it answers; one that wants a key is asked again with a key. */
let timer;
async function watch() {
  clearTimeout(timer);
  let text = "";
  try {
    text = await look();
    if (text) timer = setTimeout(watch, AGAIN);
  } catch (error) {
    text = error.status ? describe(error) : say("unreachable");
    if (error.status !== 401) timer = setTimeout(watch, AGAIN);
  }
  at("state").textContent = text;
  at("state").hidden = !text;
}

/** What keeps the server from answering; nothing when the model is known. */
async function look() {
  const { status, step, progress } = await health();
  if (status === "failed") return say("failed");
  if (status !== "ready") return say("loading", { step: `${step ?? status} ${percent(progress)}` });
  const { id, max_model_len: length } = await model(apiKey());
  at("model").textContent = id;
  conversation.contextLength = length;
  return "";
}

function percent(part) {
  return part === null ? "" : `${figure(100 * part)} %`;
}

function settings() {
  openSettings(at("settings"), watch);
}

function setTheme(theme) {
  if (theme) root.dataset.theme = theme;
}

function otherTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme ?? (dark ? "dark" : "light");
  setTheme(now === "dark" ? "light" : "dark");
  localStorage.setItem(THEME, root.dataset.theme);
}

function speak() {
  const name = at("model").textContent;
  translate();
  at("language").textContent = say("switch");
  if (conversation.contextLength) at("model").textContent = name;
  conversation.redraw();
  sidebar.draw();
}

composer.onsubmit = (event) => {
  event.preventDefault();
  const text = prompt.value;
  if (!text.trim() || conversation.coming) return;
  prompt.value = "";
  grow(prompt);
  conversation.say(text);
};
prompt.onkeydown = (event) => sendOnEnter(event, composer);
prompt.oninput = () => grow(prompt);
at("messages").onclick = ({ target }) => {
  if ("copyCode" in target.dataset) copy(target.closest(".code").querySelector("code").textContent, target);
};
at("stop").onclick = () => conversation.halt();
at("new").onclick = () => open(null);
at("menu").onclick = () => showSide(true);
at("close-side").onclick = () => showSide(false);
at("export").onclick = () => sidebar.download();
at("import").onclick = () => at("file").click();
at("file").onchange = async ({ target }) => {
  conversation.tell(await sidebar.upload(target.files[0]));
  target.value = "";
};
at("open-settings").onclick = settings;
at("theme").onclick = otherTheme;
at("language").onclick = () => {
  otherLanguage();
  speak();
};
addEventListener("pagehide", () => conversation.halt());
addEventListener("storage", () => sidebar.draw()); // another tab has kept something

setTheme(localStorage.getItem(THEME));
speak();
open(chats().find((chat) => chat.id === sessionStorage.getItem(OPEN)));
watch();
