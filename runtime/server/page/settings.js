// Settings: the key of the API for as long as the tab is open, the others for good.

const KEY = "alpaca2.key";
const SETTINGS = "alpaca2.settings";
const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];

export function apiKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

/** {system, temperature, top_p, max_tokens, seed}: texts, empty for the server's default. */
function settings() {
  return JSON.parse(localStorage.getItem(SETTINGS) ?? "{}");
}

/** The body of a request that asks for an answer to messages. */
export function request(messages) {
  const { system, ...texts } = settings();
  const given = NUMBERS.filter((name) => texts[name]);
  const first = system?.trim() ? [{ role: "system", content: system }] : [];
  const said = messages.map(({ role, content }) => ({ role, content }));
  return { messages: [...first, ...said], ...Object.fromEntries(given.map((name) => [name, Number(texts[name])])) };
}

/** Shows the settings, and calls `saved` when they have been changed. */
export function openSettings(dialog, saved) {
  const fields = dialog.querySelector("form").elements;
  const now = settings();
  for (const name of ["system", ...NUMBERS]) fields[name].value = now[name] ?? "";
  fields.key.value = apiKey();
  dialog.returnValue = "cancel"; // what Escape leaves
  dialog.onclose = () => {
    if (dialog.returnValue !== "save") return;
    sessionStorage.setItem(KEY, fields.key.value.trim());
    const next = Object.fromEntries(["system", ...NUMBERS].map((name) => [name, fields[name].value]));
    localStorage.setItem(SETTINGS, JSON.stringify(next));
    saved();
  };
  dialog.showModal();
}
