//! The screen, from what the state holds.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap};
use weir_core::record::TimeUs;

use super::rows::{Rates, bytes_rate, rate};
use super::state::{Pane, State, View};
use crate::cli::output::relative;
use crate::human;

/// Below this nothing can be told.
const LEAST: (u16, u16) = (40, 12);
/// Rates are over so many of the last points.
const POINTS: usize = 5;

const HELP: &str = "\
Tab, 1 2 3    sources, alerts, questions
up down j k   choose; PgUp PgDn Home End by more
s  r          sort by the next column; the other way round
Enter         open what is chosen
a             approve: do what the question proposes
n             do nothing about it, and do not ask again for a while
1 to 9        in an opened question: give that answer
u             take the answer to the chosen question back, or the last one given here
p, space      hold still; the same key goes on
R             ask the agent now
Esc, q        back; at the lists q ends, Ctrl-C anywhere

Answers wait for y. Evidence is in nats: what was seen is exp(-evidence) times
as likely of somebody usual.";

fn dim() -> Style {
    Style::default().add_modifier(Modifier::DIM)
}

fn severe(severity: &str) -> Style {
    match severity {
        "high" => Style::default().fg(Color::Red),
        "medium" => Style::default().fg(Color::Yellow),
        _ => Style::default(),
    }
}

pub fn draw(frame: &mut Frame<'_>, state: &mut State) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let words = format!(
            "{} columns and {} lines are needed; this terminal has {} and {}",
            LEAST.0, LEAST.1, area.width, area.height
        );
        return frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), area);
    }
    // Rates give way first, where there is little room.
    let rates_height = if area.height >= 20 { 6 } else { 1 };
    let [head, rates, lists, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(rates_height),
        Constraint::Min(3),
        Constraint::Length(2),
    ])
    .areas(area);
    header(frame, state, head);
    traffic(frame, state, rates);
    match &state.view {
        View::Lists => panes(frame, state, lists),
        _ => opened(frame, state, lists),
    }
    footer(frame, state, foot);
}

fn header(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let a = &state.snapshot.about;
    let mut spans = vec![
        Span::styled("weir top", Style::default().add_modifier(Modifier::BOLD)),
        Span::raw(format!("  {}  mode {}  XDP {}  bundle {}", a.interface, a.mode, a.xdp, a.bundle)),
        Span::raw(format!("  up {}", human::rough(human::micros(a.uptime_us)))),
    ];
    if state.paused {
        spans.insert(1, Span::styled("  HELD STILL (p)", Style::default().fg(Color::Yellow)));
    }
    if let n @ 1.. = a.warnings.len() {
        let words = format!("  {n} warning{}: weir status", if n == 1 { "" } else { "s" });
        spans.insert(1, Span::styled(words, Style::default().fg(Color::Yellow)));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

fn traffic(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let points = &state.snapshot.traffic;
    let r = Rates::over(&points[points.len().saturating_sub(POINTS)..]);
    if area.height < 6 {
        let words = format!(
            "passed {} pps {}  dropped {}  limited {}  shadow {}  flows {}",
            rate(r.passed[0]),
            bytes_rate(r.passed[1]),
            rate(r.dropped[0]),
            rate(r.limited[0]),
            rate(r.shadowed[0]),
            human::grouped(r.flows_live)
        );
        return frame.render_widget(Paragraph::new(words), area);
    }
    let [table, curves] = Layout::horizontal([Constraint::Length(36), Constraint::Min(0)]).areas(area);
    let row = |name: &'static str, [packets, bytes]: [f64; 2], style: Style| {
        Row::new([name.to_owned(), format!("{:>8}", rate(packets)), format!("{:>12}", bytes_rate(bytes))]).style(style)
    };
    let colour = |on: f64, c: Color| if on > 0.0 { Style::default().fg(c) } else { Style::default() };
    let rows = [
        row("passed", r.passed, Style::default()),
        row("dropped", r.dropped, colour(r.dropped[0], Color::Red)),
        row("limited", r.limited, colour(r.limited[0], Color::Yellow)),
        row("would drop", r.shadowed, colour(r.shadowed[0], Color::Cyan)),
        Row::new([
            "flows".to_owned(),
            format!("{:>8}", human::grouped(r.flows_live)),
            format!("{:>10}/s", rate(r.flows_new)),
        ]),
    ];
    let head = Row::new(["", "packets/s", "      bytes"]).style(dim());
    let widths = [Constraint::Length(11), Constraint::Length(9), Constraint::Length(13)];
    frame.render_widget(Table::new(rows, widths).header(head), table);
    let [passed, stopped] = Layout::vertical([Constraint::Length(3), Constraint::Length(3)]).areas(curves);
    let last = |n: u16| &points[points.len().saturating_sub(usize::from(n))..];
    let curve = |title: &'static str, data: Vec<u64>, c: Color| {
        Sparkline::default()
            .block(Block::new().title(Span::styled(title, dim())))
            .data(data)
            .style(Style::default().fg(c))
    };
    let of = |f: fn(&crate::proto::TrafficPoint) -> u64| last(curves.width).iter().map(f).collect::<Vec<u64>>();
    frame.render_widget(curve("passed", of(|p| p.packets_passed), Color::Green), passed);
    let stop = of(|p| p.packets_dropped + p.packets_limited);
    frame.render_widget(curve("dropped and limited", stop, Color::Red), stopped);
}

fn panes(frame: &mut Frame<'_>, state: &mut State, area: Rect) {
    // Where all three do not fit, the one that keys are about is shown.
    if area.height < 12 {
        return pane(frame, state, state.focus, area);
    }
    let parts: [Rect; 3] =
        Layout::vertical([Constraint::Fill(4), Constraint::Fill(3), Constraint::Fill(3)]).areas(area);
    for (p, part) in Pane::ALL.into_iter().zip(parts) {
        pane(frame, state, p, part);
    }
}

fn pane(frame: &mut Frame<'_>, state: &mut State, pane: Pane, area: Rect) {
    let list = state.list(pane);
    let (count, focused) = (state.len(pane), state.focus == pane);
    let by = format!("by {}{}", pane.columns()[list.column], if list.reversed { ", reversed" } else { "" });
    let s = &state.snapshot;
    let title = match pane {
        Pane::Sources => format!(" 1 Sources: {count} of {} with evidence, {by} ", human::grouped(s.sources_known)),
        Pane::Alerts => format!(" 2 Alerts: the last {count}, {by} "),
        Pane::Questions => {
            format!(" 3 Questions: {} open, {by} ", s.questions.iter().filter(|q| q.is_open()).count())
        }
    };
    let style = if focused { Style::default().fg(Color::Cyan).add_modifier(Modifier::BOLD) } else { dim() };
    let block = Block::bordered().title(Span::styled(title, style)).border_style(style);
    let inner = usize::from(area.height.saturating_sub(3));
    if focused {
        state.page = inner.max(1);
    }
    let s = &state.snapshot;
    let now = s.time_us;
    if count == 0 {
        let words = match pane {
            Pane::Sources => "no evidence against anyone",
            Pane::Alerts => "no alerts",
            Pane::Questions => "no questions",
        };
        return frame.render_widget(Paragraph::new(words).style(dim()).block(block), area);
    }
    let (head, rows, widths): (Row<'_>, Vec<Row<'_>>, Vec<Constraint>) = match pane {
        Pane::Sources => sources(state, now),
        Pane::Alerts => alerts(state, now),
        Pane::Questions => questions(state, now),
    };
    let mut table = Table::new(rows, widths).header(head.style(dim())).block(block);
    if focused {
        table = table.row_highlight_style(Style::default().add_modifier(Modifier::REVERSED));
    }
    let mut at = TableState::default().with_selected(Some(list.chosen));
    frame.render_stateful_widget(table, area, &mut at);
}

type Rows<'a> = (Row<'a>, Vec<Row<'a>>, Vec<Constraint>);

fn sources(state: &State, now: TimeUs) -> Rows<'_> {
    let s = &state.snapshot;
    let over = |v: f64| s.alert_threshold.is_some_and(|t| v >= t);
    let row = |x: &super::rows::Source| {
        let ports: Vec<String> = x.ports.iter().map(u32::to_string).collect();
        let style = if over(x.evidence) { Style::default().fg(Color::Red) } else { Style::default() };
        Row::new([
            x.source.clone(),
            format!("{:>8.1}", x.evidence),
            format!("{:>8.1}", x.evidence_proven),
            format!("{:>8}", human::grouped(x.flows)),
            relative(x.last_us, now),
            x.decided.clone(),
            ports.join(" "),
        ])
        .style(style)
    };
    let head = Row::new(["SOURCE", "EVIDENCE", "  PROVEN", "   FLOWS", "LAST", "DECIDED", "PORTS"]);
    let widths = [
        Constraint::Min(15),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Fill(1),
        Constraint::Fill(1),
    ];
    (head, s.sources.iter().map(row).collect(), widths.to_vec())
}

fn alerts(state: &State, now: TimeUs) -> Rows<'_> {
    let row = |a: &super::rows::Alert| {
        Row::new([
            format!("{:>6}", a.id),
            relative(a.time_us, now),
            a.severity.clone(),
            a.source.clone(),
            format!("{:>8.1}", a.evidence),
            a.outcome.clone(),
        ])
        .style(severe(&a.severity))
    };
    let head = Row::new(["    ID", "WHEN", "SEVERITY", "SOURCE", "EVIDENCE", "DONE"]);
    let widths = [
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Min(15),
        Constraint::Length(8),
        Constraint::Fill(2),
    ];
    (head, state.snapshot.alerts.iter().map(row).collect(), widths.to_vec())
}

fn questions(state: &State, now: TimeUs) -> Rows<'_> {
    let row = |q: &super::rows::Question| {
        let (state, style) = match q.is_open() {
            true => (format!("open, ends {}", relative(q.expires_us, now)), Style::default().fg(Color::Yellow)),
            false => (format!("{}: {}", q.state, q.came_to), dim()),
        };
        Row::new([format!("{:>6}", q.id), relative(q.asked_us, now), q.proposed.clone(), state, q.why.clone()])
            .style(style)
    };
    let head = Row::new(["    ID", "ASKED", "PROPOSED", "STATE", "WHY"]);
    let widths =
        [Constraint::Length(6), Constraint::Length(9), Constraint::Min(20), Constraint::Fill(1), Constraint::Fill(1)];
    (head, state.snapshot.questions.iter().map(row).collect(), widths.to_vec())
}

fn opened(frame: &mut Frame<'_>, state: &mut State, area: Rect) {
    let now = state.snapshot.time_us;
    let (title, lines): (String, Vec<Line<'_>>) = match &state.view {
        View::Lists => return,
        View::Help => ("Keys".to_owned(), HELP.lines().map(Line::from).collect()),
        View::Alert(a) => {
            let head = Line::styled(format!("raised    {}", relative(a.time_us, now)), severe(&a.severity));
            (
                format!("Alert {}", a.id),
                [head].into_iter().chain(a.lines.iter().map(|l| Line::from(l.as_str()))).collect(),
            )
        }
        View::Source(s) => {
            let ports: Vec<String> = s.ports.iter().map(u32::to_string).collect();
            let decided = if s.decided.is_empty() { "nothing" } else { &s.decided };
            let about: Vec<String> = [
                format!("evidence  {:.1}, of proven flows {:.1}", s.evidence, s.evidence_proven),
                format!("flows     {} to port {}", human::grouped(s.flows), ports.join(", ")),
                format!("last      {}", relative(s.last_us, now)),
                format!("decided   {decided}"),
                String::new(),
                "alerts about it".to_owned(),
            ]
            .into();
            let of = state.snapshot.alerts.iter().filter(|a| a.source == s.source);
            let alerts = of.map(|a| format!("  {} {} ({}): {}", a.id, relative(a.time_us, now), a.severity, a.outcome));
            (s.source.clone(), about.into_iter().chain(alerts).map(Line::from).collect())
        }
        View::Question(o) => {
            let q = &o.question;
            let time = weir_core::policy::duration_words(q.ttl_us);
            let mut lines: Vec<Line<'_>> = vec![Line::from(format!("{} for {time}?", q.proposed))];
            lines.extend(o.lines.iter().map(|l| Line::from(l.as_str())));
            if q.is_open() {
                lines.push(Line::from(""));
                lines.push(Line::styled("what you may answer (by its number)", dim()));
            }
            for c in o.choices.iter().filter(|_| q.is_open()) {
                lines.push(Line::from(format!("  {}  {}", c.number, c.words)));
                if !c.refused.is_empty() {
                    lines.push(Line::styled(format!("     would be refused: {}", c.refused), dim()));
                }
            }
            (format!("Question {} ({})", q.id, q.state), lines)
        }
    };
    let height = usize::from(area.height.saturating_sub(2));
    let most = lines.len().saturating_sub(1);
    let scroll = state.scroll.min(most);
    let block = Block::bordered().title(format!(" {title} ")).border_style(Style::default().fg(Color::Cyan));
    let page = Paragraph::new(lines).block(block).wrap(Wrap { trim: false });
    let scroll_to = u16::try_from(scroll).unwrap_or(u16::MAX);
    frame.render_widget(Clear, area);
    frame.render_widget(page.scroll((scroll_to, 0)), area);
    (state.scroll, state.page) = (scroll, height.max(1));
}

fn footer(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let said = if let Some(p) = &state.pending {
        Line::styled(
            format!("{}  y: yes, any other key: no", p.words),
            Style::default().fg(Color::Yellow).add_modifier(Modifier::BOLD),
        )
    } else if !state.trouble.is_empty() {
        Line::styled(
            format!("the agent does not answer: {}", state.trouble.replace('\n', " ")),
            Style::default().fg(Color::Red),
        )
    } else {
        Line::from(state.said.as_str())
    };
    let keys = match state.view {
        View::Lists => "Tab pane  s sort  r reverse  Enter open  a approve  n reject  u undo  p hold  ? help  q quit",
        View::Question(_) => "1-9 answer  a approve  n reject  u undo  up/down scroll  Esc back  ? help",
        View::Help => "Esc back",
        View::Alert(_) | View::Source(_) => "up/down scroll  Esc back  ? help",
    };
    frame.render_widget(Paragraph::new(vec![said, Line::styled(keys, dim())]), area);
}
