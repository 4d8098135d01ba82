//! The report of an evaluation: one HTML page with everything in it.

use std::fmt::Write as _;

use weir_models::metrics::Curve;

use super::drift::Drift;
use super::measure::{DETECTORS, Judged, Measured, Scores};
use super::plot::{Bars, Line, Plot, Scale, escaped};
use super::sources::{Sources, Until};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}\
:root{color-scheme:light dark}table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.2rem .7rem;text-align:right;\
border-bottom:1px solid #8884}td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}figure{margin:1rem 0}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(24rem,1fr));gap:1rem}figcaption{font-weight:600}\
svg{width:100%;height:auto}svg text{font-size:11px;fill:currentColor}.grid{stroke:#8883;fill:none}\
.line{fill:none;stroke-width:1.8}.words{text-align:left}ul{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.85rem}\
i{display:inline-block;width:.8rem;height:.8rem;margin-right:.3rem}";

/// Bins of the distribution of p-values, from 1 down to 1e-6.
const BINS: usize = 24;
const DECADES: f64 = 6.0;

/// What a page shows.
pub struct Shown<'a> {
    /// What was judged, by what and what was left out.
    pub words: &'a str,
    pub measured: &'a [Measured],
    /// What plots show.
    pub judged: &'a Judged,
    pub drifts: &'a [Drift],
    /// What became of sources, or why that cannot be said.
    pub sources: Result<&'a Sources, &'a str>,
}

/// The page.
pub fn page(shown: &Shown<'_>) -> String {
    let Shown { words, measured, judged, .. } = *shown;
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Weir evaluation</title>\n<style>{STYLE}</style>\n<h1>Weir evaluation</h1>\n"
    );
    words.lines().for_each(|line| {
        let _ = writeln!(out, "<p>{}</p>", escaped(line));
    });
    out += "<h2>False alarms on benign flows</h2>\n<table><tr><th>Detector<th>Asked<th>Realised<th>95 % interval<th>Alarms<th>Of</tr>\n";
    for m in measured {
        for f in &m.false_alarms {
            let certified = if f.certified { "" } else { " *" };
            let _ = writeln!(
                out,
                "<tr><td>{}<td>{}{certified}<td>{:.5}<td>{:.5} to {:.5}<td>{:.1}<td>{:.0}</tr>",
                m.detector, f.asked, f.realised, f.low, f.high, f.alarms, f.benign
            );
        }
    }
    out += "</table>\n<p>Thresholds are p-values frozen at calibration. * too few calibration rows to show this rate.</p>\n";
    out += "<h2>Detection</h2>\n<table><tr><th>Detector<th>Label<th>Flows<th>ROC AUC<th>PR AUC<th>TPR at 1 %<th>at 0.1 %<th>at 0.01 %</tr>\n";
    for m in measured {
        for d in &m.detection {
            let [one, two, three] = d.tpr;
            let _ = writeln!(
                out,
                "<tr><td>{}<td>{}<td>{}<td>{:.3}<td>{:.3}<td>{one:.3}<td>{two:.3}<td>{three:.3}</tr>",
                m.detector,
                escaped(&d.label),
                d.flows,
                d.roc_auc,
                d.pr_auc
            );
        }
    }
    out += "</table>\n";
    out += &sources(shown.sources);
    out += "<h2>Plots</h2>\n<div class=\"plots\">\n";
    plots(judged).iter().for_each(|p| out += &p.html());
    if let Ok(s) = shown.sources {
        out += &time_to_detect(s).html();
    }
    out += &drift(shown.drifts).html();
    out + "</div>\n</html>\n"
}

/// Sources named in a table.
const NAMED: usize = 20;
/// Features in the plot of drift.
const FEATURES: usize = 20;

fn sources(said: Result<&Sources, &str>) -> String {
    let mut out = "<h2>Sources</h2>\n".to_owned();
    let s = match said {
        Err(why) => return out + &format!("<p>Not judged: {}</p>\n", escaped(why)),
        Ok(s) => s,
    };
    for line in super::words::sources(s).lines() {
        let _ = writeln!(out, "<p>{}</p>", escaped(line));
    }
    if !s.each_malicious.is_empty() {
        out += "<table><tr><th>Malicious source<th>Labels<th>Flows<th>Flows until alerted<th>Seconds<th>Flows until blocked<th>Seconds</tr>\n";
        for m in s.each_malicious.iter().take(NAMED) {
            let until = |u: Option<Until>| match u {
                Some(u) => format!("{}<td>{:.0}", u.flows, u.seconds),
                None => "never<td>-".to_owned(),
            };
            let _ = writeln!(
                out,
                "<tr><td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
                escaped(&m.source),
                escaped(&m.labels.join(", ")),
                m.malicious_flows,
                until(m.alerted),
                until(m.blocked)
            );
        }
        out += "</table>\n";
        out += &more(s.each_malicious.len());
    }
    if !s.each_false_alarm.is_empty() {
        out += "<table><tr><th>False alarm<th>About<th>What<th class=\"words\">Why</tr>\n";
        for f in s.each_false_alarm.iter().take(NAMED) {
            let _ = writeln!(
                out,
                "<tr><td>{}<td>{}<td>{}<td class=\"words\">{}</tr>",
                f.timestamp,
                escaped(&f.source),
                f.action,
                escaped(&f.why)
            );
        }
        out += "</table>\n";
        out += &more(s.each_false_alarm.len());
    }
    out
}

fn more(all: usize) -> String {
    if all > NAMED { format!("<p>and {} more</p>\n", all - NAMED) } else { String::new() }
}

fn time_to_detect(s: &Sources) -> Plot {
    let mut lines = [("alerted", false), ("blocked", true)].map(|(name, blocked)| Line {
        name: format!("{name} ({:.0} of {:.0})", if blocked { s.blocked } else { s.alerted }, s.malicious),
        points: s.detected(blocked),
        guide: false,
    });
    let longest = lines.iter().flat_map(|l| &l.points).map(|(x, _)| *x).fold(100.0, f64::max);
    let end = 10f64.powf(longest.log10().ceil());
    for line in &mut lines {
        let last = line.points.last().copied();
        line.points.extend(last.map(|(_, share)| (end, share)));
    }
    let x = ("seconds since the first malicious flow", Scale::Decades(end));
    let y = ("share of the malicious sources", Scale::Linear(1.0));
    Plot { title: "Time to detect", x, y, lines: lines.into() }
}

fn drift(drifts: &[Drift]) -> Bars {
    // Rounded before it is shown, or -0.04 would read -0.0.
    let note = |d: &Drift| format!("{:+.1} sd, x{:.1}", (10.0 * d.shift).round() / 10.0 + 0.0, d.spread);
    Bars {
        title: "Drift of benign flows since training (behind: shift of the mean, spread)",
        axis: "distance of the distributions (at least)",
        bars: drifts.iter().take(FEATURES).map(|d| (d.feature.to_owned(), d.distance, note(d))).collect(),
    }
}

fn plots(judged: &Judged) -> Vec<Plot> {
    let curve = |k: usize, attacks: &Scores| {
        Curve::new(judged.benign.strangeness(k), attacks.strangeness(k), judged.benign_weight)
    };
    let line = |name: &str, points: Vec<(f64, f64)>| Line { name: name.to_owned(), points, guide: false };
    let pooled = judged.pooled();
    let mut plots = Vec::new();
    let roc: Vec<Line> = judged
        .attacks
        .iter()
        .filter_map(|(label, scores)| Some(line(label, curve(0, scores)?.roc().collect())))
        .collect();
    let each = |of: &dyn Fn(&Curve) -> Vec<(f64, f64)>| -> Vec<Line> {
        (0..DETECTORS.len()).filter_map(|k| Some(line(DETECTORS[k], of(&curve(k, &pooled)?)))).collect()
    };
    let rate = "false-alarm rate";
    if !roc.is_empty() {
        let chance = (0..=100).map(|i| 10f64.powf(f64::from(i) / 25.0 - 4.0)).map(|x| (x, x)).collect();
        let guide = Line { name: "chance".to_owned(), points: chance, guide: true };
        let (x, y) = ((rate, Scale::Log(1e-4)), ("detection rate", Scale::Linear(1.0)));
        let lines = roc.into_iter().chain([guide]).collect();
        plots.push(Plot { title: "ROC of each attack, fused p-value", x, y, lines });
        plots.push(Plot { title: "ROC of all attacks", x, y, lines: each(&|c| c.roc().collect()) });
        plots.push(Plot {
            title: "Precision and recall of all attacks",
            x: ("recall", Scale::Linear(1.0)),
            y: ("precision", Scale::Linear(1.0)),
            lines: each(&|c| c.precision_recall().collect()),
        });
    }
    if !judged.benign.is_empty() {
        let observed = |k: usize| {
            let mut p: Vec<f64> = judged.benign.p(k).iter().map(|p| f64::from(*p)).collect();
            p.sort_by(f64::total_cmp);
            let n = p.len() as f64;
            p.iter().enumerate().map(|(i, p)| (*p, (i + 1) as f64 / n)).collect()
        };
        let guide = Line { name: "as asked".to_owned(), points: vec![(1e-4, 1e-4), (1.0, 1.0)], guide: true };
        plots.push(Plot {
            title: "Calibration: p-values of benign flows",
            x: ("false-alarm rate asked for", Scale::Log(1e-4)),
            y: ("realised", Scale::Log(1e-4)),
            lines: (0..DETECTORS.len()).map(|k| line(DETECTORS[k], observed(k))).chain([guide]).collect(),
        });
    }
    let mut lines = vec![line("benign", histogram(judged.benign.p(0)))];
    lines.extend(judged.attacks.iter().map(|(label, s)| line(label, histogram(s.p(0)))));
    lines.retain(|l| !l.points.is_empty());
    plots.push(Plot {
        title: "Distribution of fused p-values",
        x: ("-log10 p: stranger to the right", Scale::Linear(DECADES)),
        y: ("share of the flows", Scale::Linear(1.0)),
        lines,
    });
    plots
}

/// Share of the p-values in each bin, as steps.
fn histogram(p: &[f32]) -> Vec<(f64, f64)> {
    let mut bins = [0u64; BINS];
    for p in p {
        let at = -f64::from(*p).log10() / DECADES * BINS as f64;
        bins[(at.max(0.0) as usize).min(BINS - 1)] += 1;
    }
    let (n, width) = (p.len() as f64, DECADES / BINS as f64);
    let steps = bins.iter().enumerate().filter(|_| !p.is_empty());
    steps.flat_map(|(i, b)| [i, i + 1].map(|edge| (edge as f64 * width, *b as f64 / n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_distribution_add_up() {
        let steps = histogram(&[1.0, 0.9, 1e-3, 1e-9]);
        assert_eq!(steps.len(), 2 * BINS);
        assert!((steps.iter().map(|(_, y)| y).sum::<f64>() / 2.0 - 1.0).abs() < 1e-12);
        assert_eq!((steps[0], steps[2 * BINS - 1]), ((0.0, 0.5), (DECADES, 0.25)));
        assert!(histogram(&[]).is_empty());
    }
}
