// Keeps an open page up to date: reads it again, and replaces its content unless a person works in it. Every action works
// without this script.
"use strict";
(() => {
  const PERIOD = 10_000;
  const live = document.getElementById("live");
  const content = () => document.getElementById("content");
  const sentence = (root) => root.querySelector(".sentence")?.textContent.replace(/\s+/g, " ").trim() ?? "";
  // Keys of forms differ in each response.
  const comparable = (main) => main.innerHTML.replace(/name="form_key" value="[^"]*"/g, "");
  let edited = false;
  let shown = content() && comparable(content());

  document.addEventListener("input", () => { edited = true; });

  const address = () => {
    const url = new URL(location.href);
    url.searchParams.delete("notice");
    return url;
  };

  // Where the focus is: the number of the element among those that can have it, and its name. The name of a button has the
  // address of its form: the buttons of all rows have one text, and the focus would pass to another row's.
  const FOCUSABLE = "a[href], button, input:not([type=hidden]), select";
  const focused = (main) => {
    const all = [...main.querySelectorAll(FOCUSABLE)];
    const index = all.indexOf(document.activeElement);
    return index < 0 ? null : { index, name: name(all[index]) };
  };
  const name = (element) => element.getAttribute("href")
    ?? [element.form?.getAttribute("action"), element.textContent, element.name, element.value].join(" ");
  const refocus = (main, place) => {
    const all = [...main.querySelectorAll(FOCUSABLE)];
    const same = name(all[place.index] ?? main) === place.name ? all[place.index] : null;
    const target = same ?? all.find((element) => name(element) === place.name) ?? main;
    target.focus({ preventScroll: true });
  };

  const works = () => edited || document.hidden || !getSelection().isCollapsed || document.querySelector("dialog[open]")
    || document.activeElement?.matches("input, select");

  const replace = (text) => {
    const next = new DOMParser().parseFromString(text, "text/html").getElementById("content");
    if (!next || comparable(next) === shown) return;
    const main = content();
    const place = focused(main);
    const before = sentence(main);
    shown = comparable(next);
    main.replaceChildren(...next.childNodes);
    if (place) refocus(main, place);
    const after = sentence(main);
    if (after !== before) live.textContent = after;
  };

  const stop = (reason) => {
    clearInterval(timer);
    live.textContent = reason;
  };

  const timer = setInterval(async () => {
    if (works()) return;
    try {
      const response = await fetch(address(), { headers: { "x-console-live": "1" }, redirect: "manual" });
      if (response.type === "opaqueredirect") stop("You are signed out. Open the page again to sign in.");
      if (!response.ok) return;
      const text = await response.text();
      if (!works()) replace(text);
    } catch {
      // The next try may succeed.
    }
  }, PERIOD);
})();
