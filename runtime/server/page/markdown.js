// Markdown as elements: headings, lists, quotes, code, bold, italics.
// Everything that the model says becomes a text node; nothing of it is read as HTML, and no
// address in it is fetched or linked.

import { say } from "./words.js";

const MAX_QUOTES = 8; // within each other

/** Shows a text in an element; blocks that are as before keep their elements. */
export function render(element, text) {
  const shown = element.shown ?? [];
  const blocks = parse(text);
  blocks.forEach((block, i) => {
    if (shown[i] === block.source) return;
    const made = block.draw(block.lines, 0);
    if (i < shown.length) element.children[i].replaceWith(made);
    else element.append(made);
  });
  while (element.children.length > blocks.length) element.lastChild.remove();
  element.shown = blocks.map((block) => block.source);
}

// No expression here takes more than linear time.
const FENCE = /^(\s*)(`{3,}|~{3,})\s*([^\s`]*)/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const ITEM = /^(\s*)([-*+•]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^>\s?/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;

/** Blocks of a text: [{draw, lines, source}]. */
function parse(text) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const blocks = [];
  for (let i = 0; i < lines.length; ) {
    if (!lines[i].trim()) {
      i += 1;
      continue;
    }
    const start = i;
    const block = KINDS.find((kind) => kind.opens(lines[i]));
    i = block.end(lines, i);
    const own = lines.slice(start, i);
    blocks.push({ draw: block.draw, lines: own, source: own.join("\n") });
  }
  return blocks;
}

/** The first line from i on that a test does not hold for. */
function whileTrue(lines, i, test) {
  while (i < lines.length && test(lines[i])) i += 1;
  return i;
}

function endOfFence(lines, i) {
  const [, , mark] = FENCE.exec(lines[i]);
  const closes = new RegExp(`^\\s*${mark[0]}{${mark.length},}\\s*$`);
  const end = whileTrue(lines, i + 1, (line) => !closes.test(line));
  return Math.min(end + 1, lines.length);
}

function drawFence(lines) {
  const [, indent, mark, language] = FENCE.exec(lines[0]);
  const closed = lines.length > 1 && lines.at(-1).trim().startsWith(mark);
  const inner = lines.slice(1, closed ? -1 : undefined);
  const outdented = inner.map((line) => (line.startsWith(indent) ? line.slice(indent.length) : line));
  const code = make("code", [outdented.join("\n")]);
  const copy = make("button", [say("copy")]);
  copy.type = "button";
  copy.dataset.copyCode = "";
  copy.setAttribute("aria-label", say("copy_code"));
  const bar = make("div", [make("span", [language]), copy]);
  const pre = make("pre", [code]);
  pre.tabIndex = 0; // so that the keyboard can scroll it
  const block = make("div", [bar, pre]);
  block.className = "code";
  return block;
}

function drawHeading([line]) {
  const [, marks, title] = HEADING.exec(line);
  return make(`h${Math.min(marks.length + 1, 6)}`, inline(title)); // below the page's own
}

function endOfList(lines, i) {
  let end = i + 1;
  for (let next = end; next < lines.length; next += 1) {
    if (FENCE.test(lines[next])) break;
    if (ITEM.test(lines[next]) || /^\s+\S/.test(lines[next])) end = next + 1;
    else if (lines[next].trim()) break;
  }
  return end;
}

function drawList(lines) {
  const open = []; // lists that an item may belong to, outermost first: {indent, list}
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (!item) {
      if (line.trim()) fill(open.at(-1).list.lastChild, [" ", ...inline(line.trim())]);
      continue;
    }
    const indent = item[1].replaceAll("\t", "    ").length;
    while (open.length > 1 && indent < open.at(-1).indent) open.pop();
    if (!open.length || indent > open.at(-1).indent + 1) {
      const list = make(/\d/.test(item[2]) ? "ol" : "ul", []);
      if (list.tagName === "OL") list.start = parseInt(item[2], 10);
      open.at(-1)?.list.lastChild.append(list);
      open.push({ indent, list });
    }
    open.at(-1).list.append(make("li", inline(item[3])));
  }
  return open[0].list;
}

function drawQuote(lines, depth) {
  const inner = lines.map((line) => line.replace(QUOTE, ""));
  if (depth === MAX_QUOTES) return drawParagraph(inner);
  return make("blockquote", parse(inner.join("\n")).map((block) => block.draw(block.lines, depth + 1)));
}

function drawParagraph(lines) {
  const paragraph = make("p", []);
  lines.forEach((line, i) => fill(paragraph, [...(i ? [make("br", [])] : []), ...inline(line.trim())]));
  return paragraph;
}

const oneLine = (_, i) => i + 1;
const KINDS = [
  { opens: (line) => FENCE.test(line), end: endOfFence, draw: drawFence },
  { opens: (line) => HEADING.test(line), end: oneLine, draw: drawHeading },
  { opens: (line) => RULE.test(line), end: oneLine, draw: () => make("hr", []) },
  { opens: (line) => ITEM.test(line), end: endOfList, draw: drawList },
  { opens: (line) => QUOTE.test(line), end: (lines, i) => whileTrue(lines, i, (line) => QUOTE.test(line)), draw: drawQuote },
];
const opensAnother = (line) => KINDS.slice(0, -1).some((kind) => kind.opens(line));
KINDS.push({
  opens: () => true,
  end: (lines, i) => whileTrue(lines, i + 1, (line) => line.trim() && !opensAnother(line)),
  draw: drawParagraph,
});

const MARKS = [
  ["**", "strong"],
  ["*", "em"],
];

/** The nodes of a line. A mark ends at the next one of its length, or nowhere: time is linear. */
function inline(text) {
  const nodes = [];
  let plain = 0;
  for (let i = 0; i < text.length; ) {
    const found = text[i] === "`" ? code(text, i) : emphasis(text, i);
    if (!found) {
      i += text[i] === "`" || text[i] === "*" ? run(text, i) : 1;
      continue;
    }
    if (plain < i) nodes.push(text.slice(plain, i));
    nodes.push(found.node);
    i = plain = found.end;
  }
  if (plain < text.length) nodes.push(text.slice(plain));
  return nodes;
}

/** How often the character at i is repeated. */
function run(text, i) {
  let end = i + 1;
  while (text[end] === text[i]) end += 1;
  return end - i;
}

function code(text, i) {
  const mark = "`".repeat(run(text, i));
  const start = i + mark.length;
  const end = ending(text, mark, start);
  if (end < 0) return null;
  const inner = text.slice(start, end);
  return { node: make("code", [inner.trim() || inner]), end: end + mark.length };
}

function emphasis(text, i) {
  for (const [mark, name] of MARKS) {
    const start = i + mark.length;
    if (text[i] !== "*" || run(text, i) !== mark.length || /\s/.test(text[start] ?? " ")) continue;
    const end = ending(text, mark, start);
    if (end <= start || /\s/.test(text[end - 1])) continue;
    return { node: make(name, inline(text.slice(start, end))), end: end + mark.length };
  }
  return null;
}

/** Where a mark stands next by itself, or -1. */
function ending(text, mark, from) {
  for (let i = text.indexOf(mark[0], from); i >= 0; i = text.indexOf(mark[0], i)) {
    const length = run(text, i);
    if (length === mark.length) return i;
    i += length;
  }
  return -1;
}

/** An element with elements and texts in it. */
function make(name, children) {
  return fill(document.createElement(name), children);
}

function fill(element, children) {
  for (const child of children) element.append(child); // there may be more than a call takes
  return element;
}
