//! What the screen shows and what keys do to it. Nothing here draws, asks the agent or knows a clock.

use std::cmp::Ordering;

use super::rows::{Alert, Opened, Question, Snapshot, Source, severity_rank};

/// A key, as far as any means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Enter,
    Escape,
    Tab,
    BackTab,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// Ctrl-C.
    Interrupt,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pane {
    #[default]
    Sources,
    Alerts,
    Questions,
}

impl Pane {
    pub const ALL: [Pane; 3] = [Pane::Sources, Pane::Alerts, Pane::Questions];

    /// What it can be sorted by.
    pub const fn columns(self) -> &'static [&'static str] {
        match self {
            Pane::Sources => &["evidence", "proven", "flows", "last", "source"],
            Pane::Alerts => &["time", "severity", "evidence", "source"],
            Pane::Questions => &["asked", "ends", "source"],
        }
    }
}

/// What a pane is sorted by, and what is chosen in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct List {
    pub column: usize,
    pub reversed: bool,
    pub chosen: usize,
}

/// What lies over the lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum View {
    #[default]
    Lists,
    Help,
    Alert(Box<Alert>),
    Source(Box<Source>),
    Question(Box<Opened>),
}

/// What is asked of the agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    OpenQuestion(u64),
    OpenAlert(u64),
    Answer(Answer),
    /// Takes the answer to a question back.
    Undo(u64),
    Refresh,
    Quit,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub id: u64,
    /// As the agent names it: "ignore", "drop", ...
    pub choice: String,
    /// Likewise; empty: as proposed.
    pub width: String,
}

/// Something that waits for "yes".
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    pub words: String,
    pub act: Act,
}

#[derive(Debug, Default)]
pub struct State {
    pub snapshot: Snapshot,
    pub focus: Pane,
    pub lists: [List; 3],
    pub view: View,
    /// Lines that an opened view is scrolled by.
    pub scroll: usize,
    pub pending: Option<Pending>,
    /// What happened last, in words.
    pub said: String,
    /// Why the agent does not answer; empty: it does.
    pub trouble: String,
    pub paused: bool,
    /// The last question that was answered here.
    pub answered: Option<u64>,
    /// Rows of a pane that fit the screen, as it was drawn last.
    pub page: usize,
}

impl State {
    /// A newer snapshot; what is chosen stays chosen.
    pub fn update(&mut self, snapshot: Snapshot) {
        self.trouble.clear();
        if self.paused {
            return;
        }
        let chosen: Vec<Option<String>> = Pane::ALL.iter().map(|p| self.chosen_name(*p)).collect();
        self.snapshot = snapshot;
        self.sort();
        for (pane, name) in Pane::ALL.into_iter().zip(chosen) {
            let at = name.and_then(|name| (0..self.len(pane)).find(|i| self.name(pane, *i).as_ref() == Some(&name)));
            let last = self.len(pane).saturating_sub(1);
            let list = &mut self.lists[pane as usize];
            list.chosen = at.unwrap_or(list.chosen).min(last);
        }
    }

    pub fn len(&self, pane: Pane) -> usize {
        match pane {
            Pane::Sources => self.snapshot.sources.len(),
            Pane::Alerts => self.snapshot.alerts.len(),
            Pane::Questions => self.snapshot.questions.len(),
        }
    }

    fn name(&self, pane: Pane, at: usize) -> Option<String> {
        match pane {
            Pane::Sources => self.snapshot.sources.get(at).map(|s| s.source.clone()),
            Pane::Alerts => self.snapshot.alerts.get(at).map(|a| a.id.to_string()),
            Pane::Questions => self.snapshot.questions.get(at).map(|q| q.id.to_string()),
        }
    }

    fn chosen_name(&self, pane: Pane) -> Option<String> {
        self.name(pane, self.lists[pane as usize].chosen)
    }

    pub fn list(&self, pane: Pane) -> List {
        self.lists[pane as usize]
    }

    fn sort(&mut self) {
        let by = |pane: Pane| Pane::columns(pane)[self.lists[pane as usize].column];
        let (sources, alerts, questions) = (by(Pane::Sources), by(Pane::Alerts), by(Pane::Questions));
        let s = &mut self.snapshot;
        // The most first; names from A on.
        s.sources.sort_by(|a, b| match sources {
            "proven" => b.evidence_proven.total_cmp(&a.evidence_proven),
            "flows" => b.flows.cmp(&a.flows),
            "last" => b.last_us.cmp(&a.last_us),
            "source" => address_order(&a.source, &b.source),
            _ => b.evidence.total_cmp(&a.evidence),
        });
        s.alerts.sort_by(|a, b| match alerts {
            "severity" => severity_rank(&b.severity).cmp(&severity_rank(&a.severity)).then(b.id.cmp(&a.id)),
            "evidence" => b.evidence.total_cmp(&a.evidence),
            "source" => address_order(&a.source, &b.source).then(b.id.cmp(&a.id)),
            _ => b.time_us.cmp(&a.time_us).then(b.id.cmp(&a.id)),
        });
        s.questions.sort_by(|a, b| {
            // What waits stands above what does not.
            b.is_open().cmp(&a.is_open()).then(match questions {
                "ends" => a.expires_us.cmp(&b.expires_us),
                "source" => address_order(&a.source, &b.source),
                _ => b.asked_us.cmp(&a.asked_us).then(b.id.cmp(&a.id)),
            })
        });
        if self.lists[0].reversed {
            s.sources.reverse();
        }
        if self.lists[1].reversed {
            s.alerts.reverse();
        }
        if self.lists[2].reversed {
            s.questions.reverse();
        }
    }

    /// The question that keys are about: the opened one, or the one that is chosen.
    fn question(&self) -> Option<&Question> {
        match &self.view {
            View::Question(opened) => Some(&opened.question),
            View::Lists if self.focus == Pane::Questions => {
                self.snapshot.questions.get(self.list(Pane::Questions).chosen)
            }
            _ => None,
        }
    }

    pub fn open(&mut self, view: View) {
        (self.view, self.scroll) = (view, 0);
    }

    /// Something that was asked of the agent is done, or was refused. An opened question shows what it was, so it closes.
    pub fn done(&mut self, words: String, answered: Option<u64>) {
        self.said = words;
        if answered.is_some() {
            self.answered = answered;
            if matches!(self.view, View::Question(_)) {
                self.open(View::Lists);
            }
        }
    }

    /// What the key means; `None`: it only changes what is shown.
    pub fn key(&mut self, key: Key) -> Option<Act> {
        if key == Key::Interrupt {
            return Some(Act::Quit);
        }
        if let Some(pending) = self.pending.take() {
            return match key {
                Key::Char('y' | 'Y') => Some(pending.act),
                _ => {
                    self.said = "nothing was done".to_owned();
                    None
                }
            };
        }
        self.said.clear();
        match (&self.view, key) {
            (View::Lists, Key::Char('q')) => return Some(Act::Quit),
            (View::Lists, Key::Escape) => {}
            (_, Key::Char('q') | Key::Escape) => self.open(View::Lists),
            (View::Help, Key::Char('?') | Key::Enter) => self.open(View::Lists),
            (_, Key::Char('?')) => self.open(View::Help),
            (_, Key::Char('p' | ' ')) => self.paused = !self.paused,
            (_, Key::Char('a')) => self.approve(),
            (_, Key::Char('n')) => self.reject(),
            (_, Key::Char('u')) => self.undo(),
            (View::Question(_), Key::Char(c)) if c.is_ascii_digit() => self.pick(c),
            (View::Lists, key) => return self.list_key(key),
            (_, key) => self.scroll_by(key),
        }
        None
    }

    fn list_key(&mut self, key: Key) -> Option<Act> {
        let last = self.len(self.focus).saturating_sub(1);
        let page = self.page.max(1);
        let at = self.focus as usize;
        let list = &mut self.lists[at];
        match key {
            Key::Char('r') => {
                list.reversed = !list.reversed;
                self.sort();
            }
            Key::Char('s') => {
                list.column = (list.column + 1) % self.focus.columns().len();
                list.reversed = false;
                self.sort();
            }
            Key::Char('R') => return Some(Act::Refresh),
            Key::Char(c @ '1'..='3') => self.focus = Pane::ALL[c as usize - '1' as usize],
            Key::Tab => self.focus = Pane::ALL[(at + 1) % 3],
            Key::BackTab => self.focus = Pane::ALL[(at + 2) % 3],
            Key::Down | Key::Char('j') => list.chosen = (list.chosen + 1).min(last),
            Key::Up | Key::Char('k') => list.chosen = list.chosen.saturating_sub(1),
            Key::PageDown => list.chosen = (list.chosen + page).min(last),
            Key::PageUp => list.chosen = list.chosen.saturating_sub(page),
            Key::Home | Key::Char('g') => list.chosen = 0,
            Key::End | Key::Char('G') => list.chosen = last,
            Key::Enter => return self.enter(),
            _ => {}
        }
        None
    }

    fn enter(&mut self) -> Option<Act> {
        let chosen = self.list(self.focus).chosen;
        match self.focus {
            Pane::Sources => {
                let source = self.snapshot.sources.get(chosen)?.clone();
                self.open(View::Source(Box::new(source)));
                None
            }
            Pane::Alerts => self.snapshot.alerts.get(chosen).map(|a| Act::OpenAlert(a.id)),
            Pane::Questions => self.snapshot.questions.get(chosen).map(|q| Act::OpenQuestion(q.id)),
        }
    }

    fn scroll_by(&mut self, key: Key) {
        let page = self.page.max(1);
        self.scroll = match key {
            Key::Down | Key::Char('j') => self.scroll + 1,
            Key::Up | Key::Char('k') => self.scroll.saturating_sub(1),
            Key::PageDown => self.scroll + page,
            Key::PageUp => self.scroll.saturating_sub(page),
            Key::Home | Key::Char('g') => 0,
            _ => self.scroll,
        };
    }

    fn wait_for_yes(&mut self, words: String, act: Act) {
        self.pending = Some(Pending { words, act });
    }

    fn open_question(&mut self) -> Option<Question> {
        let question = self.question().cloned();
        match question {
            None => self.said = "choose a question first (key 3)".to_owned(),
            Some(q) if !q.is_open() => {
                self.said = format!("question {} is not open: {}", q.id, q.state);
            }
            open => return open,
        }
        None
    }

    fn approve(&mut self) {
        let Some(q) = self.open_question() else { return };
        let time = weir_core::policy::duration_words(q.ttl_us);
        let act = Act::Answer(Answer { id: q.id, choice: q.action.clone(), width: String::new() });
        self.wait_for_yes(format!("question {}: {} for {time}?", q.id, q.proposed), act);
    }

    fn reject(&mut self) {
        let Some(q) = self.open_question() else { return };
        let act = Act::Answer(Answer { id: q.id, choice: "ignore".to_owned(), width: String::new() });
        self.wait_for_yes(format!("question {}: do nothing about {}?", q.id, q.source), act);
    }

    fn pick(&mut self, digit: char) {
        let View::Question(opened) = &self.view else { return };
        let Some(choice) = opened.choices.iter().find(|c| Some(c.number) == digit.to_digit(10)).cloned() else {
            self.said = format!("there is no answer {digit}");
            return;
        };
        if !choice.refused.is_empty() {
            self.said = format!("this would be refused: {}", choice.refused);
            return;
        }
        let Some(q) = self.open_question() else { return };
        let act = Act::Answer(Answer { id: q.id, choice: choice.choice, width: choice.width });
        self.wait_for_yes(format!("question {}: {}?", q.id, choice.words), act);
    }

    /// Of the chosen question, where that was answered; else of the one that was answered here last.
    fn undo(&mut self) {
        let chosen = self.question().filter(|q| q.is_answered()).map(|q| q.id);
        match chosen.or(self.answered) {
            Some(id) => self.wait_for_yes(format!("take the answer to question {id} back?"), Act::Undo(id)),
            None => self.said = "nothing was answered here that could be taken back".to_owned(),
        }
    }
}

/// Addresses as numbers, before anything that is none.
fn address_order(a: &str, b: &str) -> Ordering {
    let parse = |s: &str| s.parse::<std::net::IpAddr>().ok();
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}
