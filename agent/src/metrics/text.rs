//! The text that is served: Prometheus' own format and OpenMetrics.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>, <https://prometheus.io/docs/specs/om/open_metrics_spec/>

use std::fmt::Write as _;

use super::samples::{Sample, Samples, Value};
use super::table::{Kind, Metric};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Version 0.0.4.
    Prometheus,
    /// Version 1.0.0.
    OpenMetrics,
}

impl Format {
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What the caller prefers, by its `Accept` (RFC 9110, 12.5.1); Prometheus' own where it does not say.
    pub fn wanted(accept: &str) -> Self {
        let mut best = [0.0f32; 2];
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1.0, None);
            for part in parts {
                match part.split_once('=').map(|(k, v)| (k.trim(), v.trim().trim_matches('"'))) {
                    Some(("q", q)) => {
                        quality = q.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0)
                    }
                    Some(("version", v)) => version = Some(v.to_owned()),
                    _ => {}
                }
            }
            let which = match (name.as_str(), version.as_deref()) {
                ("application/openmetrics-text", None | Some("1.0.0")) => 1,
                ("text/plain", None | Some("0.0.4")) | ("*/*" | "text/*", _) => 0,
                _ => continue,
            };
            best[which] = best[which].max(quality);
        }
        if best[1] > best[0] { Format::OpenMetrics } else { Format::Prometheus }
    }
}

/// The page.
pub fn write(samples: &Samples, format: Format) -> String {
    let mut out = String::with_capacity(64 << 10);
    for (metric, samples) in samples.iter().filter(|(_, s)| !s.is_empty()) {
        head(&mut out, metric, format);
        for sample in samples {
            lines(&mut out, metric, sample);
        }
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn head(out: &mut String, metric: &Metric, format: Format) {
    let open = format == Format::OpenMetrics;
    let (kind, suffix) = match metric.kind {
        Kind::Counter => ("counter", "_total"),
        Kind::Gauge => ("gauge", ""),
        Kind::Histogram(_) => ("histogram", ""),
        Kind::Info if open => ("info", "_info"),
        Kind::Info => ("gauge", ""),
    };
    // OpenMetrics names the family, of which samples have suffixes.
    let family = if open { metric.name.strip_suffix(suffix).unwrap_or(metric.name) } else { metric.name };
    let _ = writeln!(out, "# TYPE {family} {kind}");
    if let Some(unit) = ["seconds", "bytes"].into_iter().find(|u| open && family.ends_with(&format!("_{u}"))) {
        let _ = writeln!(out, "# UNIT {family} {unit}");
    }
    let _ = write!(out, "# HELP {family} ");
    // Quotes are escaped in OpenMetrics alone.
    escape(out, metric.help, open);
    out.push('\n');
}

fn lines(out: &mut String, metric: &Metric, sample: &Sample) {
    let Value::Histogram(h) = &sample.value else {
        out.push_str(metric.name);
        labels(out, metric, sample, None);
        out.push(' ');
        number(out, &sample.value);
        out.push('\n');
        return;
    };
    let bounds = h.bounds.iter().copied().chain([f64::INFINITY]);
    for (bound, n) in bounds.zip(h.cumulative()) {
        let _ = write!(out, "{}_bucket", metric.name);
        labels(out, metric, sample, Some(bound));
        let _ = writeln!(out, " {n}");
    }
    for (suffix, value) in [("sum", Value::Float(h.sum)), ("count", Value::Int(h.count()))] {
        let _ = write!(out, "{}_{suffix}", metric.name);
        labels(out, metric, sample, None);
        out.push(' ');
        number(out, &value);
        out.push('\n');
    }
}

fn labels(out: &mut String, metric: &Metric, sample: &Sample, le: Option<f64>) {
    if sample.labels.is_empty() && le.is_none() {
        return;
    }
    out.push('{');
    for (i, (name, value)) in metric.labels.iter().zip(&sample.labels).enumerate() {
        let _ = write!(out, "{}{name}=\"", if i > 0 { "," } else { "" });
        escape(out, value, true);
        out.push('"');
    }
    if let Some(le) = le {
        let _ = write!(out, "{}le=\"", if sample.labels.is_empty() { "" } else { "," });
        number(out, &Value::Float(le));
        out.push('"');
    }
    out.push('}');
}

fn number(out: &mut String, value: &Value) {
    match value {
        Value::Int(n) => drop(write!(out, "{n}")),
        Value::Float(v) if v.is_nan() => out.push_str("NaN"),
        Value::Float(v) if v.is_infinite() => out.push_str(if *v > 0.0 { "+Inf" } else { "-Inf" }),
        // With a point, as OpenMetrics wants bounds.
        Value::Float(v) => drop(write!(out, "{v:?}")),
        Value::Histogram(_) => {}
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::histogram::Histogram;
    use super::super::table;
    use super::*;

    #[test]
    fn a_scraper_gets_the_format_that_it_prefers() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/html, application/openmetrics-text; version=1.0.0; q=0.1", Format::OpenMetrics),
            ("application/openmetrics-text;version=2.0.0, text/plain;q=0.1", Format::Prometheus),
            ("application/openmetrics-text;q=0.3, text/plain;version=0.0.4;q=0.5", Format::Prometheus),
            ("application/openmetrics-text;q=many", Format::Prometheus),
        ] {
            assert_eq!(Format::wanted(accept), format, "{accept}");
        }
    }

    #[test]
    fn names_and_values_are_written_as_both_formats_want_them() {
        let mut samples = Samples::new();
        samples.put(&table::PACKETS, ["et\"h\\0\n", "pass", "in_pass"], 7u64);
        samples.put(&table::BUNDLE, ["serves", "a", "b"], 1u64);
        samples.put(&table::LEASE_AGE, [], 0.25);
        let mut drain = Histogram::seconds();
        [0.0001, 0.3, 9.0].into_iter().for_each(|s| drain.add(s));
        samples.put(&table::DRAIN, [], &drain);
        let plain = write(&samples, Format::Prometheus);
        for line in [
            "# TYPE weir_packets_total counter",
            "weir_packets_total{interface=\"et\\\"h\\\\0\\n\",verdict=\"pass\",reason=\"in_pass\"} 7",
            "# TYPE weir_bundle_info gauge",
            "weir_lease_age_seconds 0.25",
            "# TYPE weir_drain_seconds histogram",
            "weir_drain_seconds_bucket{le=\"0.0005\"} 1",
            "weir_drain_seconds_bucket{le=\"0.5\"} 2",
            "weir_drain_seconds_bucket{le=\"1.0\"} 2",
            "weir_drain_seconds_bucket{le=\"+Inf\"} 3",
            "weir_drain_seconds_count 3",
        ] {
            assert!(plain.lines().any(|l| l == line), "{line} is missing in\n{plain}");
        }
        assert!(!plain.contains("EOF") && !plain.contains("UNIT"), "{plain}");
        let open = write(&samples, Format::OpenMetrics);
        for line in [
            "# TYPE weir_packets counter",
            "# TYPE weir_bundle info",
            "# TYPE weir_drain_seconds histogram",
            "# UNIT weir_drain_seconds seconds",
            "weir_packets_total{interface=\"et\\\"h\\\\0\\n\",verdict=\"pass\",reason=\"in_pass\"} 7",
        ] {
            assert!(open.lines().any(|l| l == line), "{line} is missing in\n{open}");
        }
        assert!(open.ends_with("\n# EOF\n"), "{open}");
    }
}
