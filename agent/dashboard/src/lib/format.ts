/** Numbers, times and names as people read them. */

const SI = ["", "k", "M", "G", "T", "P"];

/** 1234567 -> "1.23 M"; with a unit: "1.23 MB/s". */
export function si(value: number, unit = ""): string {
  if (!Number.isFinite(value)) return "–";
  let n = Math.abs(value);
  let at = 0;
  while (n >= 999.5 && at < SI.length - 1) {
    n /= 1000;
    at += 1;
  }
  const digits = at === 0 ? (Number.isInteger(n) || n >= 100 ? 0 : n >= 10 ? 1 : 2) : n >= 99.95 ? 0 : n >= 9.995 ? 1 : 2;
  const text = `${value < 0 ? "−" : ""}${n.toFixed(digits)}`;
  const tail = `${SI[at] ?? ""}${unit}`;
  return tail === "" ? text : `${text} ${tail}`;
}

/** 1234567 -> "1,234,567" */
export function grouped(value: number): string {
  return Number.isFinite(value) ? Math.round(value).toLocaleString("en-US") : "–";
}

/** "1 flow", "2 flows", "1 entry", "2 entries" */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${grouped(n)} ${n === 1 ? one : many}`;
}

/** A length of time in its two largest units: "4 h 5 min", "12 s", "350 ms". */
export function span(us: number): string {
  if (!Number.isFinite(us) || us < 0) return "–";
  if (us < 1_000) return `${Math.round(us)} µs`;
  if (us < 999_500) return `${Math.round(us / 1_000)} ms`;
  let left = Math.round(us / 1_000_000);
  const parts: string[] = [];
  for (const [unit, seconds] of [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]] as const) {
    const n = Math.floor(left / seconds);
    left -= n * seconds;
    if (n > 0) parts.push(`${n} ${unit}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(" ") || "0 s";
}

/** "3 min ago", "in 4 h"; within two seconds "now". */
export function relative(us: number, now_us: number): string {
  const d = now_us - us;
  if (Math.abs(d) < 2_000_000) return "now";
  const text = coarse(Math.abs(d));
  return d > 0 ? `${text} ago` : `in ${text}`;
}

/** A length of time in its largest unit. */
export function coarse(us: number): string {
  const s = us / 1_000_000;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5_400) return `${Math.round(s / 60)} min`;
  if (s < 129_600) return `${Math.round(s / 3_600)} h`;
  return `${Math.round(s / 86_400)} d`;
}

const two = (n: number): string => String(n).padStart(2, "0");

/** Local time: "14:03:22"; on another day "11-27 14:03:22"; in another year with it. */
export function clock(us: number, now_us: number): string {
  if (us === 0) return "–";
  const t = new Date(us / 1000);
  const now = new Date(now_us / 1000);
  const time = `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
  const day = `${two(t.getMonth() + 1)}-${two(t.getDate())}`;
  if (t.getFullYear() !== now.getFullYear()) return `${t.getFullYear()}-${day} ${time}`;
  return t.toDateString() === now.toDateString() ? time : `${day} ${time}`;
}

/** A p-value as a rate: "1 in 4,000". */
export function odds(p: number): string {
  if (!(p > 0)) return "never seen";
  if (p >= 0.5) return "ordinary";
  const n = 1 / p;
  const scale = 10 ** Math.max(0, Math.floor(Math.log10(n)) - 1);
  return `1 in ${grouped(Math.round(n / scale) * scale)}`;
}

/** A number of unknown size in few digits: "0.00012", "3.4", "12,300". */
export function number(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const n = Math.abs(value);
  if (n === 0) return "0";
  if (n >= 1000) return value.toLocaleString("en-US", { maximumSignificantDigits: 4 });
  if (n < 0.0001) return value.toExponential(1);
  return value.toLocaleString("en-US", { maximumSignificantDigits: 3 });
}

/** 0.0123 -> "1.2%" */
export function percent(share: number, digits = 1): string {
  return Number.isFinite(share) ? `${(share * 100).toFixed(digits)}%` : "–";
}

const PROTOCOLS: Readonly<Record<number, string>> = { 1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 47: "GRE", 50: "ESP", 58: "ICMPv6", 132: "SCTP" };

export function protocol(number: number): string {
  return PROTOCOLS[number] ?? `IP ${number}`;
}

/** "192.0.2.1:443", "[2001:db8::1]:443" */
export function endpoint(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** An enum's proto name as a word: "ACTION_DROP" -> "drop". */
export function word(name: string, prefix: string): string {
  const rest = name.startsWith(prefix) ? name.slice(prefix.length) : name;
  return rest === "UNSPECIFIED" ? "" : rest.toLowerCase().replaceAll("_", " ");
}

/** "10m", "4h", "2 d", "90s" to microseconds; undefined where it is no length of time. */
export function parseSpan(text: string): number | undefined {
  const found = /^\s*(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|d)\s*$/i.exec(text);
  const [, n, unit] = found ?? [];
  if (n === undefined || unit === undefined) return undefined;
  const seconds = { s: 1, m: 60, h: 3_600, d: 86_400 }[unit[0]?.toLowerCase() ?? ""];
  const us = seconds === undefined ? NaN : Number(n) * seconds * 1_000_000;
  return us > 0 ? Math.round(us) : undefined;
}
