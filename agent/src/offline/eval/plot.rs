//! Line plots as SVG, for pages that load nothing from elsewhere.

use std::fmt::Write as _;

/// Colours that differ in lightness as well, for eyes that do not tell all apart (Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8a6d00"];
/// Points of a line; more would not be seen.
const MAX_POINTS: usize = 400;
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 320.0;
/// Room for the axes: left, top, right, bottom.
const MARGIN: [f64; 4] = [58.0, 12.0, 14.0, 44.0];

/// How an axis runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// From 0 to this.
    Linear(f64),
    /// From this to 1, by powers of ten.
    Log(f64),
    /// From 1 to this, by powers of ten.
    Decades(f64),
}

impl Scale {
    /// Where a value lies, 0 to 1. What lies outside is at the edge.
    fn place(self, v: f64) -> f64 {
        match self {
            Scale::Linear(to) => (v / to).clamp(0.0, 1.0),
            Scale::Log(from) => (1.0 - v.max(from).log10() / from.log10()).clamp(0.0, 1.0),
            Scale::Decades(to) => (v.max(1.0).log10() / to.log10()).clamp(0.0, 1.0),
        }
    }

    fn ticks(self) -> Vec<(f64, String)> {
        match self {
            Scale::Linear(to) => (0..=5).map(|i| to * f64::from(i) / 5.0).map(|v| (v, short(v))).collect(),
            Scale::Log(from) => {
                let decades = -from.log10().round() as i32;
                (0..=decades).map(|i| (10f64.powi(-i), if i == 0 { "1".into() } else { format!("1e-{i}") })).collect()
            }
            Scale::Decades(to) => {
                let decades = to.log10().round() as i32;
                (0..=decades).map(|i| (10f64.powi(i), decade(i.unsigned_abs()))).collect()
            }
        }
    }
}

/// 10 to this power: `100`, `10k`, `1M`.
fn decade(i: u32) -> String {
    let unit = ["", "k", "M", "G", "T", "P"].get(i as usize / 3).copied().unwrap_or("?");
    format!("{}{unit}", 10u32.pow(i % 3))
}

fn short(v: f64) -> String {
    let text = format!("{v:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// A line to compare with, not a result.
    pub guide: bool,
}

pub struct Plot {
    pub title: &'static str,
    pub x: (&'static str, Scale),
    pub y: (&'static str, Scale),
    pub lines: Vec<Line>,
}

/// Text as it may stand in a page: labels come from inputs.
pub fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

impl Plot {
    /// A figure with its title and a legend.
    pub fn html(&self) -> String {
        let [left, top, right, bottom] = MARGIN;
        let (w, h) = (WIDTH - left - right, HEIGHT - top - bottom);
        let at = |x: f64, y: f64| (left + w * self.x.1.place(x), top + h * (1.0 - self.y.1.place(y)));
        let title = escaped(self.title);
        let mut out = format!(
            "<figure><figcaption>{title}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n"
        );
        for (v, words) in self.x.1.ticks() {
            let x = left + w * self.x.1.place(v);
            let (from, to, below) = (top, top + h, top + h + 16.0);
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{x:.1} {from:.1}V{to:.1}\"/><text x=\"{x:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{words}</text>"
            );
        }
        for (v, words) in self.y.1.ticks() {
            let y = top + h * (1.0 - self.y.1.place(v));
            let (to, before, base) = (left + w, left - 6.0, y + 4.0);
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{to:.1}\"/><text x=\"{before:.1}\" y=\"{base:.1}\" text-anchor=\"end\">{words}</text>"
            );
        }
        let (middle, low, side) = (left + w / 2.0, HEIGHT - 8.0, top + h / 2.0);
        let _ =
            writeln!(out, "<text x=\"{middle:.1}\" y=\"{low:.1}\" text-anchor=\"middle\">{}</text>", escaped(self.x.0));
        let _ = writeln!(
            out,
            "<text x=\"14\" y=\"{side:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {side:.1})\">{}</text>",
            escaped(self.y.0)
        );
        let mut legend = String::new();
        for (i, line) in self.lines.iter().enumerate() {
            let colour = if line.guide { "#888" } else { COLOURS[i % COLOURS.len()] };
            let dash = if line.guide || i >= COLOURS.len() { " stroke-dasharray=\"5 4\"" } else { "" };
            let mut path = String::new();
            for (j, (x, y)) in thinned(&line.points).enumerate() {
                let (x, y) = at(x, y);
                let _ = write!(path, "{}{x:.1} {y:.1}", if j == 0 { 'M' } else { 'L' });
            }
            let _ = writeln!(out, "<path class=\"line\" stroke=\"{colour}\"{dash} d=\"{path}\"/>");
            let _ = write!(legend, "<li><i style=\"background:{colour}\"></i>{}</li>", escaped(&line.name));
        }
        out + "</svg>\n<ul>" + &legend + "</ul></figure>\n"
    }
}

/// Horizontal bars, the longest first.
pub struct Bars {
    pub title: &'static str,
    /// What a bar's length is, 0 to 1.
    pub axis: &'static str,
    /// Name, length, and a note behind the bar.
    pub bars: Vec<(String, f64, String)>,
}

impl Bars {
    pub fn html(&self) -> String {
        const ROW: f64 = 18.0;
        const NAMES: f64 = 150.0;
        const NOTES: f64 = 90.0;
        let width = WIDTH - NAMES - NOTES;
        let plot = ROW * self.bars.len() as f64;
        let height = plot + 40.0;
        let title = escaped(self.title);
        let mut out = format!(
            "<figure><figcaption>{title}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n"
        );
        for i in 0..=4 {
            let v = f64::from(i) / 4.0;
            let (x, below) = (NAMES + width * v, plot + 16.0);
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{x:.1} 0V{plot:.1}\"/><text x=\"{x:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{}</text>",
                short(v)
            );
        }
        for (i, (name, length, note)) in self.bars.iter().enumerate() {
            let (top, base) = (ROW * i as f64 + 3.0, ROW * i as f64 + 13.0);
            let (long, bar, before) = (width * length.clamp(0.0, 1.0), ROW - 6.0, NAMES - 6.0);
            let after = NAMES + width + 8.0;
            let _ = writeln!(
                out,
                "<text x=\"{before:.1}\" y=\"{base:.1}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{NAMES}\" y=\"{top:.1}\" width=\"{long:.1}\" height=\"{bar:.1}\" fill=\"{}\"/>\
                 <text x=\"{after:.1}\" y=\"{base:.1}\">{}</text>",
                escaped(name),
                COLOURS[0],
                escaped(note)
            );
        }
        let (middle, low) = (NAMES + width / 2.0, height - 6.0);
        let _ = writeln!(
            out,
            "<text x=\"{middle:.1}\" y=\"{low:.1}\" text-anchor=\"middle\">{}</text>",
            escaped(self.axis)
        );
        out + "</svg></figure>\n"
    }
}

/// At most [`MAX_POINTS`] of them, with the first and the last.
fn thinned(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    let step = points.len().div_ceil(MAX_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points.iter().enumerate().filter(move |(i, _)| i % step == 0 || *i == last).map(|(_, p)| *p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_where_the_axis_says() {
        let log = Scale::Log(1e-4);
        assert_eq!([log.place(1.0), log.place(1e-2), log.place(1e-4), log.place(0.0)], [1.0, 0.5, 0.0, 0.0]);
        assert_eq!(log.ticks().len(), 5);
        assert_eq!([Scale::Linear(2.0).place(1.0), Scale::Linear(2.0).place(3.0)], [0.5, 1.0]);
        assert_eq!(Scale::Linear(1.0).ticks()[1].1, "0.2");
        let decades = Scale::Decades(1e4);
        assert_eq!([decades.place(1.0), decades.place(100.0), decades.place(1e9)], [0.0, 0.5, 1.0]);
        assert_eq!(decades.ticks().into_iter().map(|(_, t)| t).collect::<Vec<_>>(), ["1", "10", "100", "1k", "10k"]);
    }

    #[test]
    fn a_label_cannot_write_the_page() {
        let name = "<script>alert('x')</script>".to_owned();
        let lines = vec![Line { name, points: vec![(0.0, 0.0), (1.0, 1.0)], guide: false }];
        let plot = Plot { title: "t", x: ("x", Scale::Linear(1.0)), y: ("y", Scale::Linear(1.0)), lines };
        let html = plot.html();
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script"), "{html}");
    }

    #[test]
    fn long_lines_keep_their_ends() {
        let points: Vec<_> = (0..10_001).map(|i| (f64::from(i), 0.0)).collect();
        let thin: Vec<_> = thinned(&points).collect();
        assert!(thin.len() <= MAX_POINTS + 1 && thin[0] == points[0] && thin.last() == points.last());
    }
}
