// Small helpers for the page's elements.

/**
 * Makes an element. A text child is text, never HTML.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, string>} [attributes] @param {(Node | string)[]} children
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * Makes an element of SVG.
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag @param {Record<string, string | number>} [attributes] @param {Node[]} children
 */
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(made, attributes);
  made.append(...children);
  return made;
}

/** @param {Element} on @param {Record<string, string | number>} attributes */
export function set(on, attributes) {
  for (const [name, value] of Object.entries(attributes)) on.setAttribute(name, String(value));
}

/** Sets a text if it is another, so that nothing is announced or drawn twice. @param {Element} on @param {string} text */
export function say(on, text) {
  if (on.textContent !== text) on.textContent = text;
}
