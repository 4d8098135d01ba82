//! What is read from files: flows from every input in turn, written or scored and written. Memory is bounded by the number
//! of live flows.

pub mod compare;
pub mod corpora;
pub mod decide;
pub mod eval;
pub mod features;
pub mod output;
pub mod policy;
pub mod progress;
pub mod replay;
pub mod signals;
pub mod tally;
pub mod train;
pub mod windows;

use std::path::PathBuf;

use weir_common::flow::{FlowKey, FlowStats};
use weir_core::addr::Prefix;
use weir_core::home::Home;
use weir_core::record::{EndReason, Have, TimeUs};
use weir_core::table::{FlowTable, TableConfig, Touched};
use weir_source::label::{Verdict, verdict};
use weir_source::{Flows, Format, Input, Observation, Options, Stop, Taker};

use crate::surroundings::private_networks;
use progress::Progress;
use tally::{Counts, Tally};

/// What to read, and how.
#[derive(Clone, Debug)]
pub struct Reading {
    pub inputs: Vec<PathBuf>,
    /// Where it is not recognised by its contents.
    pub format: Option<Format>,
    /// The inner flows of tunnels.
    pub decap: bool,
    /// Empty: the private networks.
    pub home: Vec<Prefix>,
    /// Records of flows that go on as well.
    pub checkpoints: bool,
    /// Flows of other tools that look like complete TCP handshakes count as proven.
    pub trust_sources: bool,
    /// Every flow that one of these began is an attack, whatever its label.
    pub malicious: Vec<Prefix>,
    /// The inputs are the agent's record, of which flows that ended before this time are left out. Numbers of flows stay as they
    /// are, since a flow that goes on is in several files.
    pub recorded_since: Option<TimeUs>,
    /// What the sources of flows in captures were doing is not wanted: it takes a quarter of the work.
    pub without_context: bool,
}

/// The label of flows that [`Reading::malicious`] names.
const MALICIOUS: &str = "(named malicious)";

impl Reading {
    pub fn home(&self) -> Home {
        if self.home.is_empty() {
            return Home::new(private_networks());
        }
        Home::new(self.home.iter().copied())
    }

    /// Reads input after input and gives every flow to `each`; one bad input does not stop the others. `each` ends all by
    /// [`Stop`], a signal does too. What it came to is added to `tally`.
    pub fn read(&self, progress: &Progress, tally: &mut Tally, each: impl FnMut(Observation) -> Result<(), Stop>) {
        let mut each = each;
        self.read_into(progress, tally, &mut each);
    }

    /// [`Reading::read`] for one who takes epochs as well.
    pub fn read_into(&self, progress: &Progress, tally: &mut Tally, taker: &mut dyn Taker) {
        self.read_beside(progress, tally, taker, None);
    }

    /// [`Reading::read_into`], with another one who takes the same as it was read.
    pub fn read_beside(
        &self,
        progress: &Progress,
        tally: &mut Tally,
        taker: &mut dyn Taker,
        beside: Option<&mut dyn weir_source::Sink>,
    ) {
        let (mut counts, mut stopped) = (tally.counts, false);
        let malicious = &self.malicious;
        let wanted = self.recorded_since.map(|since_us| (since_us, self.checkpoints));
        let counted = Counted { taker, malicious, progress, counts: &mut counts, stopped: &mut stopped, wanted };
        let mut config = TableConfig { home: self.home(), ..TableConfig::default() };
        if self.without_context {
            config.context = None;
        }
        let mut flows = Flows::with(config, self.checkpoints, counted);
        if self.recorded_since.is_some() {
            flows = flows.keep_numbers();
        }
        match beside {
            None => self.read_as_it_is(progress, tally, &mut flows),
            Some(beside) => self.read_as_it_is(progress, tally, &mut Both { flows: &mut flows, beside }),
        }
        drop(flows);
        tally.counts = counts;
        tally.stopped |= stopped || signals::received().is_some();
    }

    /// Reads input after input: packets by epochs, and flows as they are told. Who takes them counts them.
    pub fn read_as_it_is(&self, progress: &Progress, tally: &mut Tally, sink: &mut dyn weir_source::Sink) {
        let options = Options { decap: self.decap, format: self.format, home: self.home(), ..Options::default() };
        let mut ended = false;
        for path in &self.inputs {
            if ended || signals::received().is_some() {
                break;
            }
            let name = if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
            match Input::open(path, &options) {
                Ok(input) => {
                    tally.formats.push((name.clone(), input.format()));
                    progress.begin(&name, input.size, input.position());
                    let home = (!self.home.is_empty()).then_some(&options.home);
                    let mut watched = Watched { inner: &mut *sink, stopped: false, trust: self.trust_sources, home };
                    let (report, result) = input.read(&options, &mut watched);
                    ended = watched.stopped;
                    tally.add(&name, report, result);
                }
                Err(e) => tally.failed(&name, &e),
            }
        }
        tally.stopped |= ended;
    }
}

/// Two that take the same.
struct Both<'a> {
    flows: &'a mut dyn weir_source::Sink,
    beside: &'a mut dyn weir_source::Sink,
}

impl weir_source::Sink for Both<'_> {
    fn epoch(&mut self, end_us: u64, drained: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        self.beside.epoch(end_us, drained)?;
        self.flows.epoch(end_us, drained)
    }
    fn flow(&mut self, flow: Observation) -> Result<(), Stop> {
        self.beside.flow(flow.clone())?;
        self.flows.flow(flow)
    }
    fn end(&mut self) -> Result<(), Stop> {
        self.beside.end()?;
        self.flows.end()
    }
}

/// Counts what is taken, and ends it on a signal.
struct Counted<'a> {
    taker: &'a mut dyn Taker,
    malicious: &'a [Prefix],
    progress: &'a Progress,
    counts: &'a mut Counts,
    stopped: &'a mut bool,
    /// Of the record: from which time on, and whether checkpoints as well.
    wanted: Option<(TimeUs, bool)>,
}

impl Taker for Counted<'_> {
    fn record(&mut self, mut flow: Observation) -> Result<(), Stop> {
        if signals::received().is_some() {
            *self.stopped = true;
            return Err(Stop);
        }
        if let Some((since_us, checkpoints)) = self.wanted {
            let going_on = flow.record.end_reason == EndReason::Checkpoint;
            if flow.record.end_us < since_us || going_on && !checkpoints {
                return Ok(());
            }
        }
        self.counts.add(&flow);
        self.progress.flow();
        let named = !self.malicious.is_empty()
            && flow.record.have.has(Have::ADDRESSES)
            && self.malicious.iter().any(|p| p.contains(flow.record.client));
        if named && verdict(flow.label.as_deref()) != Verdict::Attack {
            flow.label = Some(MALICIOUS.into());
        }
        self.taker.record(flow).inspect_err(|_| *self.stopped = true)
    }
    fn epoch(&mut self, end_us: u64, touched: &[Touched]) {
        self.taker.epoch(end_us, touched);
    }
    fn end(&mut self) {
        self.taker.end();
    }
}

/// Notes that the sink wants no more, and takes a log's word where that is asked for.
struct Watched<'s> {
    inner: &'s mut dyn weir_source::Sink,
    stopped: bool,
    trust: bool,
    /// Where a person says what is home, flows of Weir's own files are seen from there, too.
    home: Option<&'s Home>,
}

impl weir_source::Sink for Watched<'_> {
    fn epoch(&mut self, end_us: u64, drained: &mut Vec<(FlowKey, FlowStats)>) -> Result<(), Stop> {
        if signals::received().is_some() {
            self.stopped = true;
            return Err(Stop);
        }
        self.inner.epoch(end_us, drained).inspect_err(|_| self.stopped = true)
    }
    fn table(&mut self) -> Option<&mut FlowTable> {
        self.inner.table()
    }
    fn flow(&mut self, mut flow: Observation) -> Result<(), Stop> {
        let r = &mut flow.record;
        if let Some(home) = self.home.filter(|_| r.have.has(Have::ADDRESSES)) {
            r.direction = home.direction(r.client, r.server);
        }
        r.proven |= self.trust && decide::looks_proven(r);
        self.inner.flow(flow).inspect_err(|_| self.stopped = true)
    }
    fn end(&mut self) -> Result<(), Stop> {
        self.inner.end().inspect_err(|_| self.stopped = true)
    }
}
