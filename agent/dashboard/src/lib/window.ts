/** Which rows of a long list are drawn, and how much room the others take. Lengths in CSS pixels. */
export interface Window {
  /** The first row that is drawn. */
  from: number;
  /** One behind the last row that is drawn. */
  to: number;
  /** Room above the drawn rows. */
  before: number;
  /** Room below them. */
  after: number;
}

/** Rows of equal height; `overscan` rows more are drawn at either end, so that scrolling shows no gap. */
export function visible(count: number, row: number, top: number, height: number, overscan = 6): Window {
  const rows = Math.max(0, Math.floor(count));
  const first = Math.floor(Math.max(0, top) / row);
  const from = Math.min(Math.max(0, first - overscan), rows);
  const to = Math.min(rows, first + Math.ceil(Math.max(0, height) / row) + overscan);
  const end = Math.max(from, to);
  return { from, to: end, before: from * row, after: (rows - end) * row };
}

/**
 * Where to scroll after `added` rows came in on top, so that what a person reads stays where it is. At the very top the
 * list follows what is new.
 */
export function anchored(top: number, row: number, added: number): number {
  return top <= 0 || added <= 0 ? top : top + added * row;
}

/** Scroll position that shows a row, moving as little as possible. */
export function revealing(index: number, row: number, top: number, height: number): number {
  const start = index * row;
  if (start < top) return start;
  if (start + row > top + height) return start + row - height;
  return top;
}
