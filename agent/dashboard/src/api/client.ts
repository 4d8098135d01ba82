/** Requests to the agent, which serves this page. */
import { signal } from "@preact/signals";
import type { Session } from "./types.ts";

/** Undefined: not asked yet. Null: not logged in. */
export const session = signal<Session | null | undefined>(undefined);

/** What the agent refused, in its own words. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
    this.name = "Refused";
  }
}

export type Query = Record<string, string | number | boolean | undefined>;

const BASE = "/api/v1/";
const LIMIT_MS = 30_000;

export function path(name: string, query: Query = {}): string {
  const words = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") words.set(key, String(value));
  }
  const tail = words.toString();
  return BASE + name + (tail === "" ? "" : `?${tail}`);
}

async function request<T>(method: string, url: string, body?: object): Promise<T> {
  const headers: Record<string, string> = { accept: "application/json" };
  if (method !== "GET") headers["x-weir-csrf"] = session.value?.csrf ?? "";
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer: Response;
  try {
    answer = await fetch(url, {
      method,
      headers,
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(LIMIT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (e) {
    const slow = e instanceof DOMException && e.name === "TimeoutError";
    throw new Refused(0, "unavailable", slow ? `no answer within ${LIMIT_MS / 1000} s` : "the agent cannot be reached");
  }
  const text = await answer.text();
  let json: unknown;
  try {
    json = text === "" ? {} : JSON.parse(text);
  } catch {
    json = undefined;
  }
  if (answer.ok && json !== undefined) return json as T;
  if (answer.status === 401) session.value = null;
  const error = (json as { error?: { code?: unknown; message?: unknown } } | undefined)?.error;
  const said = typeof error?.message === "string" && error.message !== "" ? error.message : `HTTP status ${answer.status}`;
  throw new Refused(answer.status, typeof error?.code === "string" ? error.code : "unknown", said);
}

export const get = <T>(name: string, query?: Query): Promise<T> => request<T>("GET", path(name, query));
export const post = <T>(name: string, body: object = {}): Promise<T> => request<T>("POST", path(name), body);
export const del = <T>(name: string, query?: Query): Promise<T> => request<T>("DELETE", path(name, query));

/** Asks who we are. */
export async function login(): Promise<void> {
  try {
    session.value = await get<Session>("session");
  } catch (e) {
    if (e instanceof Refused && e.status === 401) session.value = null;
    else throw e;
  }
}

export async function logout(): Promise<void> {
  await del("session");
  session.value = null;
}

/** An error in words. */
export function words(e: unknown): string {
  return e instanceof Error ? e.message : String(e);
}
