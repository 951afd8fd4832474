// The list of conversations: chooses, searches, deletes, exports and imports them.

import { exported, forget, imported, keep, search, title } from "./history.js";
import { say } from "./words.js";

export class Sidebar {
  /** open: shows a conversation, null for a new one; openId: of the one that is shown. */
  constructor({ list, field, empty }, { open, openId }) {
    Object.assign(this, { list, field, empty, open, openId });
    field.oninput = () => this.draw();
  }

  draw() {
    const wanted = this.field.value;
    const found = search(wanted);
    this.list.replaceChildren(...found.map((chat) => this.drawChat(chat)));
    this.empty.textContent = found.length ? "" : say(wanted ? "no_match" : "no_chats");
  }

  drawChat(chat) {
    const name = title(chat);
    const choose = button(name, () => this.open(chat));
    choose.className = "chat";
    if (chat.id === this.openId()) choose.setAttribute("aria-current", "true");
    const remove = button("×", () => this.remove(chat, name));
    remove.className = "icon";
    remove.setAttribute("aria-label", say("delete_chat", { title: name }));
    const item = document.createElement("li");
    item.append(choose, remove);
    return item;
  }

  remove(chat, name) {
    if (!confirm(say("delete_sure", { title: name }))) return;
    forget(chat);
    if (chat.id === this.openId()) this.open(null);
    this.draw();
  }

  download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([exported()], { type: "application/json" }));
    link.download = "chats.json";
    link.click();
    URL.revokeObjectURL(link.href);
  }

  /** Takes the conversations of a file; returns what there is to say about it. */
  async upload(file) {
    const found = imported(await file.text());
    const complete = found.every(keep);
    this.draw();
    if (!complete) return say("storage_full");
    return found.length ? "" : say("file_bad");
  }
}

function button(text, pressed) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.onclick = pressed;
  return made;
}
