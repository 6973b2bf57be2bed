// Elements. All text goes in as text: names come from clients' headers, and may be anything.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export const at = (id) => document.getElementById(id);

/** Puts children in the place of what was there. What has an id keeps the focus, and is open if it was. */
export function replace(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
  const open = [...element.querySelectorAll("details[id][open]")].map((each) => each.id);
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  for (const id of open) at(id)?.setAttribute("open", "");
  if (focused) at(focused)?.focus({ preventScroll: true });
}

/** An id that the same thing has each time it is drawn. */
export const idOf = (...parts) => parts.map((part) => encodeURIComponent(part ?? "")).join("-");

export function copyButton(text, what) {
  const button = h("button", { type: "button", class: "quiet", "aria-label": `Copy ${what}` }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(text);
    button.textContent = navigator.clipboard ? "Copied" : "Select it and copy";
  });
  return button;
}

/** A block of code with a button that copies it. */
export const snippet = (text, what) =>
  h("div", { class: "snippet" }, h("pre", { tabindex: 0 }, text), copyButton(text, what));
