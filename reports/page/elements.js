// Creation of HTML and SVG elements. Text from results only becomes text nodes: nothing here parses HTML.

export const byId = (id) => document.getElementById(id);

export function make(tag, attributes, parent, text) {
  const svg = parent instanceof SVGElement || tag === "svg";
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

export function colored(tag, color, attributes, parent, text) {
  const element = make(tag, attributes, parent, text);
  element.classList.add("colored");
  element.style.setProperty("--family", color);
  return element;
}

/** An empty picture as wide as its canvas: inside `box` the data are drawn, the axes' texts around it. */
export function makePicture(canvas, name, box) {
  const view = { viewBox: `0 0 ${canvasWidth(canvas)} ${box.bottom + 46}`, role: "group", "aria-label": name };
  return make("svg", view, canvas);
}

export function canvasWidth(canvas) {
  return Math.max(300, canvas.clientWidth);
}

const pen = document.createElement("canvas").getContext("2d");
pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
export function textWidth(text) {
  return pen.measureText(text).width;
}

export function shorten(text, width) {
  let kept = text;
  while (kept.length > 1 && textWidth(kept) > width) kept = `${kept.slice(0, -2)}…`;
  return kept;
}
