// The server's API. Knows nothing of the page.

/** status 0: there was no answer, or it broke off; 200: it ended with an error. */
export class ApiError extends Error {
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** What the server does: {status, step, progress}. */
export async function health() {
  return await (await reach("health/ready", {})).json();
}

/** The model: {id, max_model_len}. */
export async function model(key) {
  return (await (await asked("v1/models", key, {})).json()).data[0];
}

/** Yields the parts of an answer: {text}, {finish}, {usage}. */
export async function* chat(body, key, signal) {
  const response = await asked("v1/chat/completions", key, {
    method: "POST",
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  for await (const data of events(response)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new ApiError(200, event.error.message);
    if (event.usage) yield { usage: event.usage };
    for (const choice of event.choices) {
      if (choice.delta.content) yield { text: choice.delta.content };
      if (choice.finish_reason) yield { finish: choice.finish_reason };
    }
  }
  throw new ApiError(0, "");
}

async function asked(path, key, options) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const response = await reach(path, { ...options, headers });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const seconds = Number(response.headers.get("Retry-After")) || null;
  throw new ApiError(response.status, body.error?.message ?? `HTTP ${response.status}`, seconds);
}

async function reach(path, options) {
  try {
    return await fetch(path, { ...options, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    throw lost(error);
  }
}

async function* events(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (let done = false; !done; ) {
    let value;
    try {
      ({ value, done } = await reader.read());
    } catch (error) {
      throw lost(error);
    }
    const lines = (rest + decoder.decode(value, { stream: !done })).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
  }
}

function lost(error) {
  return error.name === "AbortError" ? error : new ApiError(0, "");
}
