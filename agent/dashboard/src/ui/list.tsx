/** Long lists, of which only what is seen is drawn. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { narrow } from "../state/view.ts";
import { anchored, revealing, visible } from "../lib/window.ts";

export interface Column<T> {
  key: string;
  title: string;
  /** A track of the grid, such as `8rem` or `minmax(10rem, 2fr)`. */
  width: string;
  cell: (item: T) => ComponentChildren;
  numeric?: boolean;
}

export function Rows<T extends { id: number | string }>({
  items,
  columns,
  label,
  card,
  onOpen,
  chosen,
  empty,
  row = 34,
  tall = 84,
  live = true,
}: {
  items: readonly T[];
  columns: readonly Column<T>[];
  label: string;
  /** The same on a phone. */
  card: (item: T) => ComponentChildren;
  onOpen?: (item: T) => void;
  chosen?: T["id"] | undefined;
  empty: ComponentChildren;
  /** Height of a row, and of one on a phone, CSS pixels. */
  row?: number;
  tall?: number;
  /** New rows come in on top; what a person reads stays where it is. */
  live?: boolean;
}): JSX.Element {
  const ref = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const [active, setActive] = useState<T["id"] | undefined>(undefined);
  const phone = narrow.value;
  const size = phone ? tall : row;
  const first = useRef<T["id"] | undefined>(undefined);

  useLayoutEffect(() => {
    const box = ref.current;
    if (box === null) return;
    const measure = (): void => setHeight(box.clientHeight);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(box);
    return () => observer.disconnect();
  }, [items.length === 0]);

  useLayoutEffect(() => {
    const box = ref.current;
    const before = first.current;
    first.current = items[0]?.id;
    if (box === null || before === undefined || !live || before === first.current) return;
    const added = items.findIndex((item) => item.id === before);
    const to = anchored(box.scrollTop, size, added);
    if (to !== box.scrollTop) box.scrollTop = to;
  }, [items, size]);

  useEffect(() => { setActive(undefined); }, [phone]);

  if (items.length === 0) return <div class="rows-empty">{empty}</div>;
  const seen = visible(items.length, size, top, height);
  const tracks = columns.map((c) => c.width).join(" ");
  const at = active === undefined ? -1 : items.findIndex((i) => i.id === active);

  const move = (to: number): void => {
    const box = ref.current;
    const item = items[Math.min(items.length - 1, Math.max(0, to))];
    if (box === null || item === undefined) return;
    const index = items.indexOf(item);
    box.scrollTop = revealing(index, size, box.scrollTop, box.clientHeight - (phone ? 0 : row));
    setActive(item.id);
    requestAnimationFrame(() => {
      box.querySelector<HTMLElement>(`[data-row="${index}"]`)?.focus({ preventScroll: true });
    });
  };
  const page = Math.max(1, Math.floor(height / size) - 2);
  const onKey = (event: KeyboardEvent): void => {
    if (event.target instanceof HTMLElement && event.target.closest("button, a, input, select") !== null && event.key !== "Escape") {
      if (!(event.target instanceof HTMLElement && event.target.dataset["row"] !== undefined)) return;
    }
    const steps: Record<string, number> = { ArrowDown: at + 1, j: at + 1, ArrowUp: at - 1, k: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: items.length - 1 };
    const to = steps[event.key];
    const item = items[at];
    if (to !== undefined && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      move(to);
    } else if ((event.key === "Enter" || event.key === "o") && item !== undefined && onOpen !== undefined) {
      event.preventDefault();
      onOpen(item);
    }
  };

  const drawn = items.slice(seen.from, seen.to);
  return (
    <div
      ref={ref}
      class={phone ? "rows phone" : "rows"}
      role="table"
      aria-label={label}
      aria-rowcount={items.length + (phone ? 0 : 1)}
      tabIndex={at < 0 ? 0 : -1}
      onScroll={(e) => setTop(e.currentTarget.scrollTop)}
      onKeyDown={onKey}
      onFocus={(e) => { if (e.target === ref.current && at < 0) move(seen.from); }}
    >
      {!phone && (
        <div class="row head" role="row" aria-rowindex={1} style={{ gridTemplateColumns: tracks, height: `${row}px` }}>
          {columns.map((c) => (
            <div key={c.key} role="columnheader" class={c.numeric === true ? "num" : ""}>
              {c.title === "" ? <span class="hidden">Actions</span> : c.title}
            </div>
          ))}
        </div>
      )}
      <div role="rowgroup" style={{ paddingTop: `${seen.before}px`, paddingBottom: `${seen.after}px` }}>
        {drawn.map((item, i) => {
          const index = seen.from + i;
          const on = item.id === active || item.id === chosen;
          return (
            <div
              key={item.id}
              role="row"
              data-row={index}
              data-id={item.id}
              aria-rowindex={index + (phone ? 1 : 2)}
              aria-selected={item.id === chosen}
              tabIndex={item.id === active ? 0 : -1}
              class={`row ${on ? "on" : ""} ${onOpen === undefined ? "" : "opens"}`}
              style={phone ? { height: `${tall}px` } : { gridTemplateColumns: tracks, height: `${row}px` }}
              onClick={(e) => {
                if (e.target instanceof HTMLElement && e.target.closest("a, button") !== null) return;
                onOpen?.(item);
              }}
              onFocus={() => setActive(item.id)}
            >
              {phone ? (
                <div role="cell" class="cell-card">
                  {card(item)}
                </div>
              ) : (
                columns.map((c) => (
                  <div key={c.key} role="cell" class={c.numeric === true ? "num" : ""}>
                    {c.cell(item)}
                  </div>
                ))
              )}
            </div>
          );
        })}
      </div>
    </div>
  );
}
