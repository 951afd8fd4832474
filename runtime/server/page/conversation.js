// The conversation that is shown: asks for answers, shows them as they come, keeps them.

import { chat as ask } from "./api.js";
import { isKept, keep, newChat } from "./history.js";
import { drawMessage, offer, tellFacts, update } from "./message.js";
import { apiKey, request } from "./settings.js";
import { say } from "./words.js";

const SHORT = 100; // ms
const NEAR_END = 60; // px; a reader who is so near to the end stays there

export class Conversation {
  /**
   * asked: called when an answer is asked for, changed when what is kept has changed, locked when
   * the server wants a key.
   */
  constructor({ log, welcome, send, stop, told }, { asked, changed, locked }) {
    Object.assign(this, { log, welcome, send, stop, told, asked, changed, locked });
    this.chat = newChat();
    this.articles = new WeakMap(); // message -> its element
    this.coming = null; // {reply, controller, chat} while an answer comes
    this.problem = "";
    this.contextLength = 0; // tokens
  }

  open(chat) {
    this.halt();
    this.chat = chat;
    this.tell("");
  }

  /** Shows a problem below the messages. */
  tell(problem) {
    this.problem = problem;
    this.draw();
  }

  draw() {
    const { messages } = this.chat;
    const idle = !this.coming;
    const drawn = messages.map((message, i) => {
      const mine = message.role === "user";
      const edit = idle && mine && ((text) => this.say(text, i));
      const last = i === messages.length - 1;
      const regenerate = idle && !mine && last && i > 0 && (() => this.say(messages[i - 1].content, i - 1));
      const article = this.article(message);
      offer(article, message, { edit, regenerate });
      return article;
    });
    if (this.problem) drawn.push(element("p", "problem", this.problem, { role: "alert" }));
    if (idle && messages.at(-1)?.role === "user") drawn.push(this.drawRetry());
    replaceChildren(this.log, drawn);
    this.log.setAttribute("aria-busy", String(!idle));
    this.log.scrollTop = this.log.scrollHeight;
    this.welcome.hidden = messages.length > 0;
    this.send.hidden = !idle;
    this.stop.hidden = idle;
  }

  /** The element of a message; one that is there stays, with what is selected in it. */
  article(message) {
    const article = this.articles.get(message) ?? drawMessage(message);
    this.articles.set(message, article);
    update(article, message);
    return article;
  }

  /** Makes every element anew, as after a change of the language. */
  redraw() {
    this.articles = new WeakMap();
    this.draw();
  }

  drawRetry() {
    const button = element("button", "retry", say("ask_again"), { type: "button" });
    button.onclick = () => this.answer();
    return button;
  }

  /** Says something as the i-th message, in the place of what was said from there on. */
  say(text, i = this.chat.messages.length) {
    this.chat.messages.length = i;
    this.chat.messages.push({ role: "user", content: text });
    return this.answer();
  }

  /** Ends the answer that comes; what is there of it stays. */
  halt() {
    this.coming?.controller.abort();
    this.finish("stopped");
  }

  async answer() {
    const coming = { chat: this.chat, controller: new AbortController() };
    coming.reply = { role: "assistant", content: "" };
    const body = request(this.chat.messages);
    this.chat.messages.push(coming.reply);
    this.coming = coming;
    this.tell("");
    this.asked();
    this.keep(this.chat);
    const shown = this.articles.get(coming.reply);
    shown.classList.add("waiting");
    tellFacts(shown, say("thinking"));
    try {
      await this.receive(ask(body, apiKey(), coming.controller.signal), coming.reply, shown);
      if (this.coming !== coming) return;
      this.told.textContent = say("complete");
      this.finish();
    } catch (error) {
      if (this.coming !== coming) return; // it was halted, which was the error
      this.finish("incomplete");
      this.tell(describe(error));
      if (error.status === 401) this.locked();
    }
  }

  /** Takes an answer as it is; one without a word is taken away. */
  finish(note) {
    if (!this.coming) return;
    const { chat, reply } = this.coming;
    this.coming = null;
    if (note) reply.note = note;
    if (!reply.content) chat.messages.pop();
    this.articles.get(reply).classList.remove("waiting");
    if (isKept(chat)) this.keep(chat);
    this.draw();
  }

  keep(chat) {
    chat.updated = Date.now();
    if (!keep(chat)) this.tell(say("storage_full"));
    this.changed();
  }

  async receive(parts, reply, shown) {
    let [first, last, frame] = [0, 0, 0];
    for await (const { text, finish, usage } of parts) {
      if (text) {
        last = performance.now();
        first ||= last;
        reply.content += text;
        frame ||= requestAnimationFrame(() => {
          frame = 0;
          this.follow(() => update(shown, reply));
          if (shown.classList.replace("waiting", "coming")) tellFacts(shown, "");
        });
      }
      if (finish === "length") reply.note = "cut";
      if (usage) reply.stats = statistics(usage, last - first, this.contextLength);
    }
  }

  /** Changes the log; a reader at its end stays there. */
  follow(change) {
    const { scrollHeight, scrollTop, clientHeight } = this.log;
    const atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END;
    change();
    if (atEnd) this.log.scrollTop = this.log.scrollHeight;
  }
}

/** The rate is that of the tokens after the first one; a browser cannot tell it of short times. */
function statistics(usage, milliseconds, most) {
  const tokens = usage.completion_tokens;
  const rate = milliseconds >= SHORT ? (1000 * (tokens - 1)) / milliseconds : 0;
  return { tokens, rate, used: usage.total_tokens, most };
}

/** What an ApiError says to the reader. */
export function describe({ status, message, retryAfter }) {
  if (status === 0) return say("lost");
  if (status === 200) return say("ended", { message });
  if (status === 401) return say(apiKey() ? "wrong_key" : "need_key");
  if (retryAfter) return say("busy", { seconds: retryAfter, message });
  return say("error", { message });
}

/** Gives an element these children; those that are there already are not touched. */
function replaceChildren(parent, children) {
  children.forEach((child, i) => {
    if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] ?? null);
  });
  while (parent.children.length > children.length) parent.lastChild.remove();
}

function element(name, style, text, attributes) {
  const made = document.createElement(name);
  made.className = style;
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
