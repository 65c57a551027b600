// The button that switches between light and dark.
import { byId } from "./elements.js";

export function makeTheme() {
  const root = document.documentElement;
  const preferred = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = (root.dataset.theme ?? preferred()) === "dark" ? "light" : "dark";
  });
}
