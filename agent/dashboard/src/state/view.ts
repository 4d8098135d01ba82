/** What is shown, and how: route, theme, time, width. */
import { computed, effect, signal } from "@preact/signals";
import { session } from "../api/client.ts";

export interface Route {
  page: string;
  /** Empty: the page itself. */
  id: string;
  query: URLSearchParams;
}

function parse(hash: string): Route {
  const [path = "", tail = ""] = hash.replace(/^#?\/?/, "").split("?");
  const [page = "", id = ""] = path.split("/");
  let plain = id;
  try {
    plain = decodeURIComponent(id);
  } catch {
    // Then it is taken as it stands.
  }
  return { page: page === "" ? "now" : page, id: plain, query: new URLSearchParams(tail) };
}

export const route = signal(parse(location.hash));
addEventListener("hashchange", () => {
  route.value = parse(location.hash);
});

export function href(page: string, id: string | number = "", query: Record<string, string> = {}): string {
  const words = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== "")).toString();
  return `#/${page}${id === "" ? "" : `/${encodeURIComponent(String(id))}`}${words === "" ? "" : `?${words}`}`;
}

export function go(to: string): void {
  location.hash = to;
}

/** Changes the query without a new entry in the history. */
export function refine(query: Record<string, string>): void {
  const { page, id } = route.value;
  const to = href(page, id, query);
  history.replaceState(null, "", to);
  route.value = parse(to);
}

export type Theme = "system" | "light" | "dark";
const KEY = "weir-theme";

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system";
  }
}

export const theme = signal<Theme>(stored());
const dark = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(dark.matches);
dark.addEventListener("change", () => {
  systemDark.value = dark.matches;
});
/** What is drawn in the end; charts depend on it. */
export const shade = computed<"light" | "dark">(() =>
  theme.value === "system" ? (systemDark.value ? "dark" : "light") : theme.value,
);
effect(() => {
  document.documentElement.dataset["theme"] = shade.value;
  try {
    if (theme.value === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme.value);
  } catch {
    // It is only not remembered.
  }
});

const phone = matchMedia("(max-width: 760px)");
export const narrow = signal(phone.matches);
phone.addEventListener("change", () => {
  narrow.value = phone.matches;
});

/** Microseconds since the epoch, once a second. */
export const now = signal(Date.now() * 1000);
setInterval(() => {
  if (!document.hidden) now.value = Date.now() * 1000;
}, 1000);

/** Whether the buttons that change something are for this person. */
export const operator = computed(() => session.value?.role === "operator");
