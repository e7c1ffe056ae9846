// Sets the chosen colours before anything is painted; without a choice they are the system's.
(() => {
  const root = document.documentElement;
  const kept = () => {
    try { return localStorage.getItem("pilotage-theme"); } catch { return null; }
  };
  const set = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme; else delete root.dataset.theme;
  };
  set(kept());
  globalThis.toggleTheme = () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = root.dataset.theme ?? (dark ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    set(next);
    try { localStorage.setItem("pilotage-theme", next); } catch { /* it holds for this page */ }
    return next;
  };
})();
