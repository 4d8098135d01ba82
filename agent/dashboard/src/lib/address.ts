/** What a person types into a filter, held against addresses, ports and words. */

/** Bits of an address: 4 or 16 bytes; undefined where it is none. */
export function bytesOf(address: string): number[] | undefined {
  if (!address.includes(":")) {
    const parts = address.split(".");
    const bytes = parts.map((p) => (/^\d{1,3}$/.test(p) ? Number(p) : 256));
    return bytes.length === 4 && bytes.every((b) => b < 256) ? bytes : undefined;
  }
  const [head = "", tail, more] = address.split("::");
  if (more !== undefined) return undefined;
  const words = (text: string): number[] =>
    text === "" ? [] : text.split(":").map((w) => (/^[0-9a-f]{1,4}$/i.test(w) ? parseInt(w, 16) : -1));
  const front = words(head);
  const back = tail === undefined ? [] : words(tail);
  const missing = 8 - front.length - back.length;
  if (tail === undefined ? missing !== 0 : missing < 1) return undefined;
  const all = [...front, ...Array<number>(missing).fill(0), ...back];
  return all.some((w) => w < 0) ? undefined : all.flatMap((w) => [w >> 8, w & 255]);
}

/** Whether an address lies in an address or prefix. */
export function covers(prefix: string, address: string): boolean {
  const [base = "", length] = prefix.split("/");
  const [net, host] = [bytesOf(base), bytesOf(address)];
  if (net === undefined || host === undefined || net.length !== host.length) return false;
  const bits = length === undefined ? net.length * 8 : Number(length);
  if (!Number.isInteger(bits) || bits < 0 || bits > net.length * 8) return false;
  for (let at = 0; at < bits; at += 8) {
    const mask = bits - at >= 8 ? 255 : 256 - 2 ** (8 - (bits - at));
    if (((net[at / 8] ?? 0) & mask) !== ((host[at / 8] ?? 0) & mask)) return false;
  }
  return true;
}

/** The address that a decision's target begins with, for links; undefined where it is a network or a flow. */
export function hostOf(target: string): string | undefined {
  const plain = target.split("/")[0] ?? "";
  const rest = target.slice(plain.length);
  if (bytesOf(plain) === undefined || /^\/\d/.test(rest)) return undefined;
  return plain;
}
