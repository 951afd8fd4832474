// What the page says, in English and Chinese.

const WORDS = {
  en: {
    api_key: "API key",
    api_key_hint: "Forgotten when this tab is closed.",
    ask_again: "Try again",
    busy: "The server cannot answer now. Try again in {seconds} s. ({message})",
    cancel: "Cancel",
    chat: "Chat",
    close_history: "Close history",
    complete: "The answer is complete.",
    context: "context {used} of {most} ({percent} %)",
    conversations: "Conversations",
    copied: "Copied",
    copy: "Copy",
    copy_code: "Copy code",
    cut: "cut off at the most tokens allowed",
    default: "default of the server",
    delete_chat: "Delete “{title}”",
    delete_sure: "Delete “{title}”?",
    edit: "Edit",
    edit_prompt: "Change your message",
    ended: "The server ended this answer: {message}",
    error: "The server answered with an error: {message}",
    export: "Export",
    failed: "The server cannot load its model. Its log says why.",
    file_bad: "This file holds no conversations.",
    history: "History",
    import: "Import",
    incomplete: "incomplete",
    loading: "The model is loading: {step}",
    lost: "The connection was lost.",
    max_tokens: "Max tokens",
    messages: "Messages",
    model: "Model",
    need_key: "This server asks for an API key.",
    new: "New chat",
    no_chats: "Nothing yet",
    no_match: "No match",
    note: "Answers can be wrong. The history stays in this browser.",
    open_history: "Open history",
    prompt: "Message",
    random: "random",
    regenerate: "Regenerate",
    save: "Save",
    search: "Search",
    seed: "Seed",
    send: "Send",
    settings: "Settings",
    speed: "{rate} per second",
    stop: "Stop",
    stopped: "stopped",
    storage_full: "The browser keeps no more: export and delete old conversations.",
    switch: "中文",
    system: "System prompt",
    temperature: "Temperature",
    theme: "Dark or light",
    tokens: "{tokens} tokens",
    top_p: "Top-p",
    thinking: "Waiting for the first token",
    unreachable: "The server cannot be reached.",
    welcome: "What would you like to know?",
    welcome_more: "Enter sends, Shift + Enter begins a new line.",
    wrong_key: "The server does not accept this API key.",
    you: "You",
  },
  zh: {
    api_key: "API 密钥",
    api_key_hint: "关闭此标签页后不再保留。",
    ask_again: "重试",
    busy: "服务器暂时无法回答，请在 {seconds} 秒后重试。（{message}）",
    cancel: "取消",
    chat: "对话",
    close_history: "关闭历史记录",
    complete: "回答完毕。",
    context: "上下文 {used} / {most}（{percent} %）",
    conversations: "历史对话",
    copied: "已复制",
    copy: "复制",
    copy_code: "复制代码",
    cut: "已达最大长度，回答被截断",
    default: "服务器默认值",
    delete_chat: "删除“{title}”",
    delete_sure: "确定删除“{title}”？",
    edit: "编辑",
    edit_prompt: "修改消息",
    ended: "服务器中断了此回答：{message}",
    error: "服务器返回错误：{message}",
    export: "导出",
    failed: "服务器无法加载模型，原因见其日志。",
    file_bad: "此文件中没有对话。",
    history: "历史记录",
    import: "导入",
    incomplete: "不完整",
    loading: "模型正在加载：{step}",
    lost: "连接已断开。",
    max_tokens: "最大长度",
    messages: "消息",
    model: "模型",
    need_key: "此服务器需要 API 密钥。",
    new: "新对话",
    no_chats: "暂无对话",
    no_match: "没有匹配的对话",
    note: "回答可能有误。历史记录仅保存在此浏览器中。",
    open_history: "打开历史记录",
    prompt: "输入消息",
    random: "随机",
    regenerate: "重新生成",
    save: "保存",
    search: "搜索",
    seed: "随机种子",
    send: "发送",
    settings: "设置",
    speed: "每秒 {rate} 个",
    stop: "停止",
    stopped: "已停止",
    storage_full: "浏览器存储已满：请导出并删除旧对话。",
    switch: "English",
    system: "系统提示词",
    temperature: "温度",
    theme: "深色或浅色",
    tokens: "{tokens} 个词元",
    top_p: "Top-p",
    thinking: "正在等待第一个词元",
    unreachable: "无法连接服务器。",
    welcome: "想了解什么？",
    welcome_more: "Enter 发送，Shift + Enter 换行。",
    wrong_key: "服务器不接受此 API 密钥。",
    you: "你",
  },
};
const KEY = "alpaca2.language";

let language = localStorage.getItem(KEY) ?? (navigator.language.startsWith("zh") ? "zh" : "en");

/** A text in the reader's language; {name} stands for a value. */
export function say(name, values = {}) {
  return WORDS[language][name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

/** A number as the reader writes it. */
export function figure(value, digits = 0) {
  return value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function otherLanguage() {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem(KEY, language);
}

/** Fills in the texts of the document. */
export function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const each of document.querySelectorAll("[data-say]")) each.textContent = say(each.dataset.say);
  for (const each of document.querySelectorAll("[data-hint]")) each.placeholder = say(each.dataset.hint);
  for (const each of document.querySelectorAll("[data-label]")) {
    each.setAttribute("aria-label", say(each.dataset.label));
    if (each.tagName === "BUTTON") each.title = say(each.dataset.label);
  }
}
