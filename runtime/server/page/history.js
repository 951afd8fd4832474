// Conversations, each kept by itself in the browser, so that two tabs do not undo each other.
//
// A conversation: {id, updated, messages}. A message: {role, content, note, stats}, the last two
// of answers alone. updated is in ms since 1970.

const PREFIX = "alpaca2.chat.";
const ROLES = new Set(["user", "assistant"]);

export function newChat() {
  const id = Date.now().toString(36) + Math.random().toString(36).slice(2, 10);
  return { id, updated: Date.now(), messages: [] };
}

/** The title of a conversation: how it begins. */
export function title(chat) {
  const line = chat.messages[0].content.trim().split("\n", 1)[0];
  return line.length > 60 ? `${line.slice(0, 60)}…` : line;
}

/** All conversations, the newest first. */
export function chats() {
  const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  const all = keys.map((key) => JSON.parse(localStorage.getItem(key)));
  return all.sort((a, b) => b.updated - a.updated);
}

/** Those in which a text occurs, whatever its case. */
export function search(text) {
  const wanted = text.trim().toLowerCase();
  return chats().filter((chat) => chat.messages.some((each) => each.content.toLowerCase().includes(wanted)));
}

/** Whether the browser had room for it. */
export function keep(chat) {
  try {
    localStorage.setItem(PREFIX + chat.id, JSON.stringify(chat));
    return true;
  } catch {
    return false;
  }
}

export function isKept(chat) {
  return localStorage.getItem(PREFIX + chat.id) !== null;
}

export function forget(chat) {
  localStorage.removeItem(PREFIX + chat.id);
}

export function exported() {
  return JSON.stringify({ format: "alpaca2-chats", version: 1, chats: chats() }, null, 1);
}

/** The conversations of a file that `exported` made, as new ones; none for any other file. */
export function imported(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    return [];
  }
  if (!Array.isArray(data?.chats)) return [];
  return data.chats.filter(isChat).map((chat) => ({
    ...newChat(),
    updated: Number(chat.updated) || Date.now(),
    messages: chat.messages.map(({ role, content }) => ({ role, content })),
  }));
}

function isChat(chat) {
  const messages = chat?.messages;
  const good = (each) => ROLES.has(each?.role) && typeof each.content === "string";
  return Array.isArray(messages) && messages.length > 0 && messages.every(good);
}
