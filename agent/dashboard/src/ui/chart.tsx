/** Courses over time, drawn by uPlot in the colours of the theme. */
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { shade } from "../state/view.ts";

export interface Line {
  label: string;
  /** A custom property of the style sheet, such as `--dropped`. */
  color: string;
  fill?: boolean;
  /** Points without a line. */
  dots?: number;
  dash?: number[];
  width?: number;
  step?: boolean;
  value?: (v: number) => string;
}

export interface Axis {
  format?: (v: number) => string;
  range?: (low: number, high: number) => [number, number];
  splits?: (low: number, high: number) => number[];
  size?: number;
}

function css(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const two = (n: number): string => String(n).padStart(2, "0");

/** Marks of the time axis: minutes, with the seconds where marks are closer than that, or days where they are far apart. */
function timesOf(all: readonly number[]): string[] {
  const step = (all[1] ?? 60) - (all[0] ?? 0);
  return all.map((s) => {
    const t = new Date(s * 1000);
    if (step >= 86_400) return `${two(t.getMonth() + 1)}-${two(t.getDate())}`;
    const minutes = `${two(t.getHours())}:${two(t.getMinutes())}`;
    return step < 60 ? `${minutes}:${two(t.getSeconds())}` : minutes;
  });
}

/** A colour with some of it taken away. */
function faint(color: string, share: number): string {
  return `color-mix(in srgb, ${color} ${Math.round(share * 100)}%, transparent)`;
}

function options(lines: readonly Line[], y: Axis, width: number, height: number, key: string, span: [number, number] | undefined, onPick: ((at: number) => void) | undefined): uPlot.Options {
  const ink = css("--dim");
  const grid = { stroke: css("--line"), width: 1 };
  const font = `11px ${css("--font")}`;
  return {
    width,
    height,
    cursor: { sync: { key, setSeries: false }, drag: { x: false, y: false }, points: { size: 7 } },
    padding: [8, 10, 0, 0],
    legend: { live: true, markers: { width: 0, fill: (_u, i) => css(lines[i - 1]?.color ?? "--dim") } },
    scales: {
      x: { time: true, ...(span === undefined ? {} : { range: () => span }) },
      y: { range: (_u, low, high) => (y.range ?? ((_l, h) => [0, Math.max(1, h * 1.08)]))(low ?? 0, high ?? 1) },
    },
    axes: [
      { stroke: ink, grid, ticks: { show: false }, font, size: 24, space: 46, values: (_u, all) => timesOf(all) },
      {
        stroke: ink,
        grid,
        ticks: { show: false },
        font,
        size: y.size ?? 58,
        values: (_u, all) => all.map((v) => (y.format ?? String)(v)),
        ...(y.splits === undefined ? {} : { splits: (_u: uPlot, _a: number, low: number, high: number) => y.splits?.(low, high) ?? [] }),
      },
    ],
    series: [
      { label: "time", value: "{HH}:{mm}:{ss}" },
      ...lines.map((line): uPlot.Series => {
        const color = css(line.color);
        return {
          label: line.label,
          stroke: color,
          width: line.dots === undefined ? (line.width ?? 1.5) : 0,
          ...(line.fill === true ? { fill: faint(color, 0.16) } : {}),
          ...(line.dash === undefined ? {} : { dash: line.dash }),
          ...(line.step === true && uPlot.paths.stepped !== undefined ? { paths: uPlot.paths.stepped({ align: 1 }) } : {}),
          ...(line.dots === undefined
            ? { points: { show: false } }
            : { paths: () => null, points: { show: true, size: line.dots, fill: faint(color, 0.75), stroke: color, width: 0, space: 0 } }),
          value: (_u, v) => (v === null || v === undefined ? "–" : (line.value ?? y.format ?? String)(v)),
        };
      }),
    ],
    hooks: onPick === undefined ? {} : { ready: [(u) => { u.over.addEventListener("click", () => { const at = u.cursor.idx; if (at !== null && at !== undefined) onPick(at); }); }] },
  };
}

/** `data`: seconds since the epoch, then one column for each line. */
export function Chart({
  data,
  lines,
  y = {},
  height = 180,
  label,
  sync = "",
  span,
  onPick,
}: {
  data: uPlot.AlignedData;
  lines: readonly Line[];
  y?: Axis;
  height?: number;
  /** What it shows, for those who do not see it. */
  label: string;
  /** Charts of one name show the same moment. */
  sync?: string;
  /** The seconds that are shown; without it, those of the data. */
  span?: [number, number];
  onPick?: (at: number) => void;
}): JSX.Element {
  const ref = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef<[number, number] | undefined>(span);
  latest.current = span;
  const pick = useRef(onPick);
  pick.current = onPick;
  const look = shade.value;
  const shape = lines.map((l) => `${l.label}${l.color}`).join("|");
  useLayoutEffect(() => {
    const box = ref.current;
    if (box === null) return;
    const made = options(lines, y, Math.max(120, box.clientWidth), height, sync === "" ? shape : sync, span, onPick === undefined ? undefined : (at) => pick.current?.(at));
    if (span !== undefined && made.scales?.["x"] !== undefined) made.scales["x"].range = () => latest.current ?? [0, 1];
    const chart = new uPlot(made, data, box);
    plot.current = chart;
    const observer = new ResizeObserver(() => {
      const width = Math.max(120, box.clientWidth);
      if (width !== chart.width) chart.setSize({ width, height });
    });
    observer.observe(box);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [look, shape, height, span === undefined]);
  useEffect(() => {
    plot.current?.setData(data);
  }, [data]);
  return <div class="chart" ref={ref} role="img" aria-label={label} />;
}
